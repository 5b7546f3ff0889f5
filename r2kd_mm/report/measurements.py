"""Hold what was measured of trained networks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from r2kd_mm.report.trained_runs import RunGroup
from r2kd_mm.report.views import Picture


@dataclass(frozen=True)
class Cost:
    """What one image costs.

    Args:
        parameters: Number of weights.
        flops: Multiply-adds, as mmengine.analysis counts.
        latency: Median time of a call with one image, in milliseconds, on this machine's processor.
    """

    parameters: int
    flops: int
    latency: float


@dataclass
class MeasuredTeacher:
    """What taught a method: a network, or a mixture of several.

    Args:
        names: Of the networks.
        logits: What it says of the images, shape ``(images, classes)``.
        cost: Of the first network.
        corrupted: By corruption and severity: accuracy in percent.
    """

    names: tuple[str, ...]
    logits: Tensor
    cost: Cost
    corrupted: dict[tuple[str, int], float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """``teacher + pruned teacher``."""
        return mixture_name(self.names)


@dataclass
class MeasuredMethod:
    """What was measured of the runs of one method.

    Args:
        group: Its runs.
        students: Logits of the student of each run, shape ``(images, classes)``.
        cost: Of the student.
        teacher: What taught the students; ``None`` without a teacher.
        corrupted: By corruption and severity: accuracy of each student, in percent.
        clean_view: Logits of each teacher, and of their mixture, on the clean images of the views.
        augmented_view: Likewise, on the augmented view of those; empty without augmentation.
        pictures: Rows of pictures of the views; empty without augmentation.
        augmentation: The augmentation as text.
    """

    group: RunGroup
    students: list[Tensor]
    cost: Cost
    teacher: MeasuredTeacher | None = None
    corrupted: dict[tuple[str, int], list[float]] = field(default_factory=dict)
    clean_view: dict[str, Tensor] = field(default_factory=dict)
    augmented_view: dict[str, Tensor] = field(default_factory=dict)
    pictures: dict[str, list[Picture]] = field(default_factory=dict)
    augmentation: str = ''

    @property
    def name(self) -> str:
        """What the method is called."""
        return self.group.name

    @property
    def seeds(self) -> list[int | None]:
        """Of its runs."""
        return [run.seed for run in self.group.runs]


@dataclass(frozen=True)
class Measurements:
    """Everything the page shows, other than what the runs logged themselves.

    Args:
        methods: In the order of the groups.
        labels: Of the images that were looked at, shape ``(images,)``.
        classes: Their names.
        data: What the images are, for captions.
        notes: What could not be measured, and why.
    """

    methods: list[MeasuredMethod]
    labels: Tensor
    classes: list[str]
    data: str
    notes: list[str]

    def teachers(self) -> dict[str, MeasuredTeacher]:
        """Name what taught, once where several methods have the same teacher."""
        distinct: dict[str, MeasuredTeacher] = {}
        taken = [method.name for method in self.methods]
        for method in self.methods:
            teacher = method.teacher
            if teacher is None or any(torch.equal(teacher.logits, other.logits) for other in distinct.values()):
                continue
            is_free = teacher.name not in taken and teacher.name not in distinct
            distinct[teacher.name if is_free else f'{teacher.name} of {method.name}'] = teacher
        return distinct

    def target_of(self, method: MeasuredMethod) -> Tensor | None:
        """Return the logits that students are compared with: of their own teacher, or else of the teacher of others."""
        if method.teacher is not None:
            return method.teacher.logits
        return next((other.teacher.logits for other in self.methods if other.teacher is not None), None)


def mixture_name(teachers: Iterable[str]) -> str:
    """What the mixture of these teachers is called: ``teacher + pruned teacher``."""
    return ' + '.join(name.replace('_', ' ') for name in teachers)
