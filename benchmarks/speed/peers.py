"""Time one training step of knowledge distillation in timm, in torchdistill and in this package, in one process.

    python benchmarks/speed/peers.py --image-size 64 --batch-size 32

The networks are timm's, from the same weights; images, labels, optimizer and losses are the same. Student and teacher
must be normalised alike, because timm normalises the images for the teacher. torchdistill is timed only if it is
installed (pip install torchdistill). benchmarks/README.md says what each number means.
"""

from __future__ import annotations

import r2kd_mm  # isort: skip  # noqa: F401  first, because it cures what comes below

import argparse
import copy
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from common import describe, interleaved, positive, quartiles, ratio, run, seconds, table, with_quartiles
from mmengine.device import get_device
from timm.data import Mixup
from timm.task import LogitDistillationTask
from torch import Tensor, nn

from r2kd_mm.distillers import Distillation
from r2kd_mm.distillers.student import keep_channels_last_
from r2kd_mm.environment import environment
from r2kd_mm.losses import KLDivergenceLoss

TEMPERATURE = 4.0
BASE = 'timm'
# What the order of the same float32 arithmetic may change in the first loss; a mistake is near 1.
TOLERANCE = 1e-4
# Maps images and labels to what is minimised.
Loss = Callable[[Tensor, Tensor], Tensor]
Make = Callable[[nn.Module, nn.Module], Loss]


class Case:
    """One implementation of a training step with cross entropy and KL divergence.

    Args:
        make: Makes the loss of a student and a teacher.
        student: Is copied.
        teacher: Is copied, too.
        channels_last: Whether images and weights have that memory format.
        bf16: Whether the networks run under bf16 autocast.
        mix: Mixes images and labels before both networks see them.
    """

    def __init__(
        self,
        make: Make,
        student: nn.Module,
        teacher: nn.Module,
        channels_last: bool = False,
        bf16: bool = False,
        mix: Mixup | None = None,
    ) -> None:
        self.student = copy.deepcopy(student).to(get_device()).train()
        teacher = copy.deepcopy(teacher).to(get_device()).eval().requires_grad_(False)
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        if channels_last:
            keep_channels_last_(self.student)
            keep_channels_last_(teacher)
        self.loss = make(self.student, teacher)
        self.bf16 = bf16
        self.mix = mix
        self.optimizer = torch.optim.SGD(self.student.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)

    def step(self, images: Tensor, labels: Tensor) -> float:
        """Train on normalised images ``(N, 3, H, W)``; return the loss."""
        if self.mix is not None:
            images, labels = self.mix(images.clone(), labels)
        images = images.contiguous(memory_format=self.memory_format)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.bf16):
            loss = self.loss(images, labels)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(loss.detach())


def by_timm(student: nn.Module, teacher: nn.Module) -> Loss:
    """Return the step of timm's task."""
    task = LogitDistillationTask(
        student,
        teacher,
        nn.CrossEntropyLoss(),
        task_loss_weight=1.0,
        distill_loss_weight=1.0,
        temperature=TEMPERATURE,
        device=torch.device(get_device()),
        verbose=False,
    )
    return lambda images, labels: task(images, labels)['loss']


def by_torchdistill(student: nn.Module, teacher: nn.Module) -> Loss:
    """Return a plain step with torchdistill's loss."""
    from torchdistill.losses.mid_level import KDLoss

    criterion = KDLoss('', 'output', '', 'output', temperature=TEMPERATURE, alpha=1.0, beta=1.0)

    def loss(images: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            target = teacher(images)
        return criterion({'': dict(output=student(images))}, {'': dict(output=target)}, labels)

    return loss


def by_us(engine: str) -> Make:
    """Return what makes the step of this package with a teacher engine."""

    def make(student: nn.Module, teacher: nn.Module) -> Loss:
        losses = dict(loss_kd=KLDivergenceLoss(TEMPERATURE))
        step = Distillation(student, teacher, losses, engine=engine)
        return lambda images, labels: torch.stack(list(step(images, labels).values())).sum()

    return make


def build_cases(student: nn.Module, teacher: nn.Module, mix: Mixup | None) -> dict[str, Case]:
    """Make the cases, each with a copy of the networks."""
    faster = dict(channels_last=True)
    low = dict(channels_last=True, bf16=True)
    settings: dict[str, tuple[Make, dict[str, bool]]] = {
        BASE: (by_timm, {}),
        'timm, channels_last': (by_timm, faster),
        'timm, bf16 channels_last': (by_timm, low),
        'ours, plain': (by_us('plain'), {}),
        'ours, exact': (by_us('exact'), {}),
        'ours, exact, channels_last': (by_us('exact'), faster),
        'ours, fast, bf16 channels_last': (by_us('fast'), low),
    }
    if find_spec('torchdistill') is not None:
        settings['torchdistill'] = (by_torchdistill, {})
        settings['torchdistill, channels_last'] = (by_torchdistill, faster)
    return {name: Case(make, student, teacher, mix=mix, **layout) for name, (make, layout) in settings.items()}


def check_agreement(cases: Mapping[str, Case], images: Tensor, labels: Tensor) -> dict[str, float]:
    """Train each case for its first step, which also warms it up.

    Returns:
        The relative difference of each first loss to that of :data:`BASE`.

    Raises:
        ValueError: One in float32 is off by more than :data:`TOLERANCE`.
    """
    losses = {}
    for name, case in cases.items():
        np.random.seed(0)  # timm draws its boxes from the global generator
        losses[name] = case.step(images, labels)
    differences = {name: abs(loss - losses[BASE]) / abs(losses[BASE]) for name, loss in losses.items()}
    for name, difference in differences.items():
        if not cases[name].bf16 and not difference <= TOLERANCE:
            raise ValueError(
                f'{name} does not compute what timm does: its first loss is {losses[name]:.6g}, that of timm '
                f'{losses[BASE]:.6g}, off by {difference:.2g} (relative, {TOLERANCE:g} allowed)'
            )
    return differences


def settle(teacher: nn.Module, images: Tensor) -> None:
    """Set the batch statistics of an untrained teacher to those of ``images``, so that its logits are ordinary."""
    for module in teacher.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # a mean over all batches, of which there is one
    with torch.no_grad():
        teacher.train()(images)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Build the cases of each view, check them, and measure their time."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    device = get_device()
    student = timm.create_model(args.student, num_classes=args.classes)
    teacher = timm.create_model(args.teacher, num_classes=args.classes).to(device)
    for name in ('mean', 'std'):
        values = [network.pretrained_cfg[name] for network in (student, teacher)]
        if values[0] != values[1]:
            raise ValueError(
                f'{args.student} and {args.teacher} are normalised by another {name}: {values[0]} and {values[1]}; '
                'give two networks that get the same images'
            )
    images = torch.randn(args.batch_size, 3, args.image_size, args.image_size, device=device)
    labels = torch.randint(args.classes, (args.batch_size,), device=device)
    settle(teacher, images)
    now = environment()
    views = {
        'clean': None,
        'CutMix': Mixup(mixup_alpha=0.0, cutmix_alpha=1.0, label_smoothing=0.0, num_classes=args.classes),
    }
    found = {}
    for view, mix in views.items():
        cases = build_cases(student, teacher, mix)
        differences = check_agreement(cases, images, labels)
        actions = {name: partial(seconds, partial(case.step, images, labels)) for name, case in cases.items()}
        times = interleaved(actions, args.rounds)
        found[view] = {
            name: dict(
                seconds=times[name],
                **quartiles(times[name]),
                to_timm=ratio(times[name], times[BASE]),
                difference=differences[name],
            )
            for name in cases
        }
    command = {name: value for name, value in vars(args).items() if name not in ('out', 'config')}
    return dict(environment=now, command=command, views=found)


def to_markdown(result: Mapping[str, Any]) -> str:
    """Format the result as a table for each view."""
    command = result['command']
    parts = [
        f'timm/{command["teacher"]} to timm/{command["student"]}, {command["classes"]} classes, '
        f'{command["batch_size"]} images of {command["image_size"]} x {command["image_size"]} pixels, '
        f'{command["threads"]} thread(s), {command["rounds"]} rounds'
    ]
    for view, cases in result['views'].items():
        fastest = {
            bf16: min(case['median'] for name, case in cases.items() if 'timm' in name and ('bf16' in name) == bf16)
            for bf16 in (False, True)
        }
        rows = [
            [
                name,
                with_quartiles(case, scale=1e3),
                with_quartiles(case['to_timm'], 'ratio', digits=2),
                f'{case["median"] / fastest["bf16" in name]:.2f}',
                f'{case["difference"]:.1e}',
            ]
            for name, case in cases.items()
        ]
        head = ['case', 'ms a step', 'of timm', 'of the faster layout of timm', 'loss off by']
        parts += [f'KD, {view} images:', table(head, rows)]
    return '\n\n'.join([*parts, describe(result['environment'])])


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--teacher', default='resnet34', help='name of the teacher in timm (default: %(default)s)')
    parser.add_argument('--student', default='resnet18', help='name of the student in timm (default: %(default)s)')
    parser.add_argument('--classes', type=positive, default=100, help='number of classes (default: %(default)s)')
    parser.add_argument('--image-size', type=positive, required=True, help='height and width, in pixels')
    parser.add_argument('--batch-size', type=positive, required=True, help='images of a step')
    parser.add_argument('--rounds', type=positive, default=15, help='measured rounds (default: %(default)s)')
    parser.add_argument('--threads', type=positive, default=1, help='CPU threads (default: %(default)s)')
    parser.add_argument(
        '--out', type=Path, metavar='JSON', help='file to write, and one with .md (default: in results/)'
    )
    args = parser.parse_args()
    args.config = f'{args.teacher}_{args.student}_{args.image_size}px_n{args.batch_size}'
    return args


if __name__ == '__main__':
    run(parse_args(), 'peers', measure, to_markdown)
