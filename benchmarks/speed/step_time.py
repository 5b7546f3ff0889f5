"""Time a training step of a method as published, of our distiller and of the student alone, in one process.

    python benchmarks/speed/step_time.py configs/r2kd/r2kd_res32x4_res8x4_tiny-imagenet.py --image-size 64

The device is that of a Runner: a GPU if the machine has one, unless CUDA_VISIBLE_DEVICES is empty.
benchmarks/README.md says what each number means.
"""

import r2kd_mm  # isort: skip  # noqa: F401  first, because it cures what comes below

import argparse
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import torch
from cases import DEFAULT_VARIANTS, PUBLISHED, VARIANTS, Case, Variant, build_cases
from common import (
    MIB,
    Networks,
    RandomBatch,
    describe,
    interleaved,
    make_parser,
    peak_extra_bytes,
    positive,
    quartiles,
    ratio,
    read_config,
    run,
    seconds,
    table,
    with_quartiles,
)
from mmengine.config import DictAction
from parts import PARTS, held_bytes, measure_ceilings, measure_parts, summarize_operators
from torch import Tensor

from r2kd_mm.environment import environment
from r2kd_mm.registry import MODELS

# What two orders of the same float32 arithmetic may change, in the losses and in the first update; a mistake is near 1.
TOLERANCE = 1e-4
UPDATE_TOLERANCE = 1e-2


def check_agreement(
    cases: Mapping[str, Case], variants: Mapping[str, Variant], batch: Callable[[], dict]
) -> dict[str, dict[str, float]]:
    """Train every case for one step, and compare our losses and weight updates with those of the published recipe.

    Returns:
        Variant to the largest relative difference of a loss, and of the change of the weights.

    Raises:
        ValueError: An exact variant is off by more than :data:`TOLERANCE` or :data:`UPDATE_TOLERANCE`.
    """
    start = weights(cases[PUBLISHED])
    losses = {
        name: {key: float(value.detach()) for key, value in case.step(batch()).items()} for name, case in cases.items()
    }
    change = weights(cases[PUBLISHED]) - start
    differences = {}
    for name, variant in variants.items():
        expected = losses[PUBLISHED]
        given = {key: losses[name].get(key, math.nan) for key in expected}
        loss = max(abs(given[key] - expected[key]) / abs(expected[key]) for key in expected)
        update = float((weights(cases[name]) - start - change).norm() / change.norm())
        if variant.exact and not (loss <= TOLERANCE and update <= UPDATE_TOLERANCE):
            raise ValueError(
                f'{name} does not compute what the published recipe does: its losses differ by {loss:.2g} (relative, '
                f'{TOLERANCE:g} allowed) and its first update by {update:.2g} ({UPDATE_TOLERANCE:g} allowed); the '
                f'losses are {given} against {expected}'
            )
        differences[name] = dict(loss=loss, update=update)
    return differences


def weights(case: Case) -> Tensor:
    """Return all trained weights as one vector."""
    return torch.cat([parameter.detach().flatten() for parameter in case.student.parameters()]).clone()


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Build the cases, check them, and measure time, memory and parts."""
    cfg = read_config(args)
    networks = Networks(cfg)
    batch_size = args.batch_size or cfg.train_dataloader.batch_size
    batch = RandomBatch(batch_size, args.image_size, networks)
    preprocessor = MODELS.build(networks.cfg.model.data_preprocessor)
    seen = preprocessor(dict(inputs=batch.images[:16]))['inputs']
    networks.settle_teacher(seen)
    cases, floors = build_cases(networks, args.ours, batch_size, seen)
    differences = check_agreement(cases, args.ours, batch)

    def timed(case: Case) -> Callable[[], float]:
        def step_seconds() -> float:
            data = [batch() for _ in range(args.steps)]
            return seconds(lambda: [case.step(item) for item in data]) / args.steps

        return step_seconds

    report(f'{len(cases)} cases agree; memory and warm-up')
    memory = {name: memory_of(case, batch) for name, case in cases.items()}
    report(f'{args.rounds} rounds')
    now = environment()
    times = interleaved({name: timed(case) for name, case in cases.items()}, args.rounds)
    report('parts')
    ceilings = measure_ceilings()
    parts = {name: measure_parts(case, batch, min(args.rounds, 5)) for name, case in cases.items()}
    ceilings = {name: max(ceiling, ceilings[name]) for name, ceiling in measure_ceilings().items()}

    return dict(
        environment=now,
        command=dict(
            config=args.config,
            cfg_options=args.cfg_options,
            batch_size=batch_size,
            image_size=args.image_size,
            rounds=args.rounds,
            steps=args.steps,
            ours={name: asdict(variant) for name, variant in args.ours.items()},
        ),
        floors=floors,
        differences=differences,
        ceilings=ceilings,
        cases={
            name: dict(
                seconds=times[name],
                **quartiles(times[name]),
                to_published=ratio(times[name], times[PUBLISHED]),
                to_student=ratio(times[name], times[floors[name]]) if name in floors else None,
                memory=memory[name],
                parts={key: parts[name][key] for key in ('rounds', 'seconds', 'shares')},
                operators=summarize_operators(parts[name], ceilings),
            )
            for name in cases
        },
    )


def memory_of(case: Case, batch: Callable[[], dict]) -> dict[str, int]:
    """Measure the bytes that a case keeps between steps, the further bytes of a step at its peak, and the sum."""
    data = batch()
    extra = peak_extra_bytes(lambda: case.step(data))
    held = held_bytes(case)
    return dict(held=held, step=extra, peak=held + extra)


def report(message: str) -> None:
    """Print the progress on stderr."""
    print(message, file=sys.stderr, flush=True)


def to_markdown(result: Mapping[str, Any]) -> str:
    """Format the result as Markdown tables."""
    cases, floors, command = result['cases'], result['floors'], result['command']
    published = cases[PUBLISHED]
    steps = [
        [
            name,
            with_quartiles(case, scale=1e3),
            with_quartiles(case['to_published'], 'ratio', digits=3),
            with_quartiles(case['to_student'], 'ratio', digits=3) if name in floors else '',
            f'{result["differences"][name]["loss"]:.1e}' if name in floors else '',
            f'{case["memory"]["peak"] / MIB:.0f} ({case["memory"]["held"] / MIB:.0f})',
            f'{case["memory"]["peak"] / published["memory"]["peak"]:.2f}',
        ]
        for name, case in cases.items()
    ]
    shares = [[part, *(f'{100 * case["parts"]["shares"][part]:.1f}' for case in cases.values())] for part in PARTS]
    operators = [
        [
            name,
            part,
            f'{numbers["flop"] / command["batch_size"] / 1e9:.2f}',
            f'{numbers["bytes"] / command["batch_size"] / MIB:.1f}',
            f'{100 * numbers["fraction"]:.0f}',
        ]
        for name, case in cases.items()
        for part, numbers in case['operators'].items()
        if numbers['flop']
    ]
    ceilings = result['ceilings']
    return '\n\n'.join(
        [
            f'`{command["config"]}`, {command["batch_size"]} images of {command["image_size"]} x '
            f'{command["image_size"]} pixels, {command["rounds"]} rounds',
            table(
                ['case', 'ms', 'of published', 'of student', 'loss off by', 'peak MiB (held)', 'memory of published'],
                steps,
            ),
            'Share of the step, %:',
            table(['part', *cases], shares),
            f'An image: FLOP and bytes moved; achieved part of the roofline of {ceilings["float32"] / 1e9:.0f} GFLOP/s '
            f'float32, {ceilings["bfloat16"] / 1e9:.0f} GFLOP/s bf16, {ceilings["bytes"] / 1e9:.1f} GB/s:',
            table(['case', 'part', 'GFLOP', 'MiB', 'roofline, %'], operators),
            describe(result['environment']),
        ]
    )


def read_variant(text: str) -> tuple[str, Variant]:
    """Read ``NAME`` of :data:`VARIANTS`, or ``NAME:key=value,...`` for another variant."""
    name, _, settings = text.partition(':')
    if not settings:
        if name not in VARIANTS:
            raise argparse.ArgumentTypeError(
                f'there is no variant {name!r}; there are {", ".join(VARIANTS)}, or give its fields: '
                f'{name}:teacher_engine=fast,amp=True'
            )
        return name, VARIANTS[name]
    fields = {}
    for setting in settings.split(','):
        key, equals, value = setting.partition('=')
        if not equals:
            raise argparse.ArgumentTypeError(f'{text!r}: a field is key=value, got {setting!r}')
        fields[key] = DictAction._parse_int_float_bool(value)
    return name, Variant(fields, amp=fields.pop('amp', False), exact=fields.pop('exact', False))


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__, rounds=10)
    parser.add_argument('--image-size', type=positive, required=True, help='height and width of the images, in pixels')
    parser.add_argument('--batch-size', type=positive, help='images of a step (default: that of the config)')
    parser.add_argument('--steps', type=positive, default=1, help='steps from one synchronisation to the next')
    parser.add_argument(
        '--ours',
        nargs='+',
        type=read_variant,
        default=DEFAULT_VARIANTS,
        metavar='NAME[:KEY=VALUE,...]',
        help=f'ways to set up our distiller: {", ".join(VARIANTS)} (default: all but files), or fields of the model',
    )
    args = parser.parse_args()
    args.ours = dict(args.ours)
    return args


if __name__ == '__main__':
    run(parse_args(), 'step_time', measure, to_markdown)
