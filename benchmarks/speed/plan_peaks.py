"""Compare the memory that tools/plan_run.py predicts with the measured peak of PyTorch's allocator, on the CPU.

python benchmarks/speed/plan_peaks.py

Each case builds the networks and trains two steps in its own process: one with 2 images, one with the whole batch.
PyTorch's profiler records every allocation. The peak is the largest number of bytes that are allocated at one time.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from argparse import Namespace
from typing import Any

import torch
from common import RESULTS, describe, most_allocated, positive, read_config, table
from mmengine.optim import build_optim_wrapper
from mmpretrain.structures import DataSample

from r2kd_mm.engine import clear_errors
from r2kd_mm.environment import environment
from r2kd_mm.planning.step import PlannedStep
from r2kd_mm.registry import MODELS

AMP = {'optim_wrapper.type': 'r2kd_mm.AutocastOptimWrapper'}
# config, images, side, channels, classes, fields to change; none of them was looked at while the planner was written
CASES: list[tuple[str, int, int, int, int, dict[str, Any]]] = [
    ('r2kd/r2kd_res50_mbv1_imagenet', 16, 224, 3, 1000, {}),
    ('mlkd/mlkd_res14w16_mv2_glyph100', 128, 32, 3, 100, {}),
    ('r2kd/r2kd_vgg13_mv2_tiny-imagenet', 64, 32, 3, 200, {'model.channels_last': True}),
    ('compose/compose-mgd_res14_res6_digits', 300, 8, 1, 10, {'optim_wrapper.accumulative_counts': 2}),
    ('cmkd/cmkd_res14w16_res14w8_glyph100', 256, 32, 3, 100, AMP),
    ('supervised/wrn402_cifar100', 64, 32, 3, 100, {}),
]


def batch(size: int, side: int, channels: int, classes: int) -> dict[str, Any]:
    """Return a batch of random images and labels, in the format of a data loader."""
    images = torch.randint(256, (size, channels, side, side), dtype=torch.uint8)
    return dict(
        inputs=images, data_samples=[DataSample().set_gt_label(label) for label in torch.arange(size) % classes]
    )


def two_steps(cfg: Any, size: int, *shape: int) -> None:
    """Build the networks and take two steps, of 2 images and of ``size``."""
    if cfg.get('data_preprocessor') is not None:  # as the Runner does
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    model = MODELS.build(cfg.model).train()
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    count = cfg.optim_wrapper.get('accumulative_counts', 1)
    for images in (*[2] * count, *[size] * count):
        model.train_step(batch(images, *shape), wrapper)


def measure(place: int, threads: int) -> dict[str, Any]:
    """Plan and measure one case."""
    name, size, side, channels, classes, fields = CASES[place]
    args = Namespace(config=f'configs/{name}.py', cfg_options=fields, threads=threads)
    step = PlannedStep(read_config(args), side, on_gpu=False)
    planned = max(step.trace(size).peak, step.preparation)
    del step
    cfg = read_config(args)
    peak = most_allocated(lambda: two_steps(cfg, size, side, channels, classes))
    return dict(config=name, images=size, side=side, fields=fields, planned=planned, measured=peak)


def report(cases: list[dict[str, Any]]) -> None:
    """Write the results as JSON and Markdown, and print the latter."""
    rows = [
        [
            case['config'],
            f'{case["images"]} of {case["side"]} x {case["side"]}',
            ', '.join(f'{key}={value}' for key, value in case['fields'].items()),
            f'{case["planned"] / 1e6:.1f}',
            f'{case["measured"] / 1e6:.1f}',
            f'{100 * (case["planned"] / case["measured"] - 1):+.1f} %',
        ]
        for case in cases
    ]
    head = ['config', 'images', 'changed', 'planned, MB', 'measured, MB', 'difference']
    found = environment()
    markdown = f'# Planned and measured memory of a step\n\n{table(head, rows)}\n\n{describe(found)}\n'
    path = RESULTS / 'plan_peaks_cpu.json'
    path.write_text(json.dumps(dict(environment=found, cases=cases), indent=1) + '\n')
    path.with_suffix('.md').write_text(markdown)
    print(markdown)


def main() -> None:
    """Measure every case, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--threads', type=positive, default=1, help='CPU threads of a process (default %(default)s)')
    parser.add_argument('--case', type=int, choices=range(len(CASES)), help='measure this one alone, and print it')
    args = parser.parse_args()
    with clear_errors():
        if args.case is not None:
            print(json.dumps(measure(args.case, args.threads)))
            return
        cases = []
        for place in range(len(CASES)):
            command = [sys.executable, __file__, '--case', str(place), '--threads', str(args.threads)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            cases.append(json.loads(done.stdout.splitlines()[-1]))
        report(cases)


if __name__ == '__main__':
    main()
