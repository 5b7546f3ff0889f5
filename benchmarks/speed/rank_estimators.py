"""Measure the cost and the gradient quality of each estimator of ranks in R2KD's rank loss.

python benchmarks/speed/rank_estimators.py [--out FILE]

Cost: time and peak extra memory of the rank loss, forward and backward, at N = 256, and that time as a share of one
ResNet-18 training step at 224 x 224 measured in the same run. Quality: how far gradient steps raise the exact Spearman
coefficient, and the bias of the loss value.
"""

import r2kd_mm  # isort: skip  # noqa: F401  first, because it cures what comes below

import argparse
import json
import statistics
import sys
from pathlib import Path

import torch
from common import MIB, describe, peak_extra_bytes, seconds, table

from r2kd_mm.environment import environment
from r2kd_mm.functional import ESTIMATORS, spearman
from r2kd_mm.losses import rank_distance
from r2kd_mm.registry import MODELS

BATCH = 256
CLASSES = (10, 100, 1000, 21841)
STEP_BATCH = 16  # images in the ResNet-18 step; its time is scaled to BATCH images
CASE_LIMIT = 120.0  # seconds of one forward and backward; a case above it is measured with fewer rows
SMOOTHINGS = {'sigmoid': (0.03, 0.1, 0.3, 1.0), 'permutahedron': (0.1, 0.3, 1.0, 3.0), 'blackbox': (0.1, 0.3, 1.0, 3.0)}


def logits(rows: int, classes: int, seed: int) -> torch.Tensor:
    return 3 * torch.randn(rows, classes, generator=torch.Generator().manual_seed(seed))


def measure_step(repeats: int) -> list[float]:
    """Return the seconds of each ResNet-18 training step on ``STEP_BATCH`` images, after one warm-up step."""
    backbone, head = MODELS.build(dict(type='mmpretrain.ResNet', depth=18)), torch.nn.Linear(512, 1000)
    optimizer = torch.optim.SGD([*backbone.parameters(), *head.parameters()], lr=0.1, momentum=0.9)
    images, labels = torch.randn(STEP_BATCH, 3, 224, 224), torch.randint(1000, (STEP_BATCH,))

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(head(backbone(images)[-1].mean((2, 3))), labels).backward()
        optimizer.step()

    step()
    return [seconds(step) for _ in range(repeats)]


def measure_cost(estimator: str, classes: int, step: float, slow_rows: bool = False) -> dict:
    """Time, memory, and share of a ``step`` of ``BATCH`` images. ``slow_rows``: the worst pattern known for pooling."""

    def run(rows: int) -> float:
        student = logits(rows, classes, seed=0)
        if slow_rows:  # evenly spaced, then tied: the tied block swallows its neighbours one by one
            student = torch.arange(classes).float().clamp(max=classes // 2).repeat(rows, 1)
        student.requires_grad_(estimator != 'hard')
        teacher = logits(rows, classes, seed=1)

        def forward_backward() -> None:
            loss = rank_distance(student, teacher, estimator)
            if loss.requires_grad:
                loss.backward()

        return seconds(forward_backward)

    run(1)
    rows = BATCH
    while run(max(1, rows // 64)) * min(rows, 64) > CASE_LIMIT:
        rows //= 2
    memory = peak_extra_bytes(lambda: run(rows)) / MIB
    first = run(rows)
    times = [first, *(run(rows) for _ in range(0 if first > 20 else 2 if first > 2 else 6))]
    median = statistics.median(times)
    return dict(
        estimator=estimator + ' (slow rows)' * slow_rows,
        classes=classes,
        rows=rows,
        seconds_median=median,
        seconds_min=min(times),
        seconds_max=max(times),
        repeats=len(times),
        peak_extra_mib=memory,
        share_of_step=median / rows * BATCH / step,
    )


def measure_quality(estimator: str, smoothing: float, classes: int) -> dict:
    """Worth of the gradient and honesty of the value, on ``rows`` pairs of independent random logits.

    ``spearman_after``: exact Spearman coefficient (0 before) after 20 steps of 0.1 standard deviations each.
    ``cosine``: with the gradient of the exact coefficient averaged over Gaussian noise of 0.1 standard deviations.
    ``bias``: value of the loss where the exact one is 0, for a student that is the exponential of a normal teacher.
    """
    rows = 16 if classes >= 1000 else 64
    teacher, student = logits(rows, classes, seed=1), logits(rows, classes, seed=2)
    moved = student.clone()
    for _ in range(20):
        moved.requires_grad_()
        (grad,) = torch.autograd.grad(rank_distance(moved, teacher, estimator, smoothing), moved)
        length = grad.norm(dim=1, keepdim=True).clamp(min=torch.finfo(grad.dtype).tiny)
        moved = (moved - 0.1 * 3 * classes**0.5 * grad / length).detach()
    with torch.no_grad():
        bias = rank_distance((teacher / 3).exp(), teacher, estimator, smoothing).item()
    return dict(
        estimator=estimator,
        smoothing=smoothing,
        classes=classes,
        bias=bias,
        spearman_after=spearman(moved, teacher).mean().item(),
        cosine=cosine_with_perturbation(estimator, smoothing, classes) if classes <= 100 else None,
    )


def cosine_with_perturbation(estimator: str, smoothing: float, classes: int) -> float:
    rows, samples = 8, 4000
    teacher, student = logits(rows, classes, seed=1), logits(rows, classes, seed=2)
    student.requires_grad_()
    (grad,) = torch.autograd.grad(rank_distance(student, teacher, estimator, smoothing), student)
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(samples, rows, classes, generator=generator)
    goal, step = teacher.expand_as(noise), 0.1 * 3 * noise
    with torch.no_grad():
        change = spearman(student - step, goal) - spearman(student + step, goal)
        estimate = (change[..., None] * noise).mean(0)
    return torch.cosine_similarity(grad, estimate, dim=1).mean().item()


def markdown(result: dict) -> str:
    step = result['resnet18_step']
    cost = [
        [
            case['estimator'],
            str(case['classes']),
            str(case['rows']),
            f'{1e3 * case["seconds_median"]:.1f}',
            f'{1e3 * case["seconds_min"]:.1f} to {1e3 * case["seconds_max"]:.1f}',
            str(case['repeats']),
            f'{case["peak_extra_mib"]:.0f}',
            f'{100 * case["share_of_step"]:.2f}',
        ]
        for case in result['cost']
    ]
    quality = [
        [
            case['estimator'],
            str(case['smoothing']),
            str(case['classes']),
            f'{case["spearman_after"]:.3f}',
            '' if case['cosine'] is None else f'{case["cosine"]:.3f}',
            f'{case["bias"]:.4f}',
        ]
        for case in result['quality']
    ]
    return '\n\n'.join(
        [
            f'ResNet-18 step at 224 x 224: {step["seconds_median"]:.2f} s for {step["images"]} images, so '
            f'{step["seconds_per_batch"]:.1f} s for {BATCH} (scaled). Share: of that step.',
            table(['estimator', 'C', 'N', 'ms', 'range', 'repeats', 'extra MiB', 'share %'], cost),
            table(['estimator', 'smoothing', 'C', 'Spearman after 20 steps', 'cosine', 'bias'], quality),
            describe(result['environment']),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, help='JSON file to write')
    parser.add_argument('--classes', type=int, nargs='+', default=CLASSES)
    parser.add_argument('--threads', type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)

    steps = measure_step(repeats=3)
    step = statistics.median(steps) / STEP_BATCH * BATCH
    result: dict = dict(
        environment=environment(),
        resnet18_step=dict(
            images=STEP_BATCH, seconds=steps, seconds_median=statistics.median(steps), seconds_per_batch=step
        ),
        cost=[],
        quality=[],
    )
    for classes in arguments.classes:
        for estimator in ESTIMATORS:
            result['cost'].append(measure_cost(estimator, classes, step))
            print(result['cost'][-1], file=sys.stderr, flush=True)
        if classes <= 1000:
            result['cost'].append(measure_cost('permutahedron', classes, step, slow_rows=True))
            result['quality'] += [
                measure_quality(estimator, smoothing, classes)
                for estimator, smoothings in SMOOTHINGS.items()
                for smoothing in smoothings
            ]
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(result, indent=1) + '\n')
    print(markdown(result))


if __name__ == '__main__':
    main()
