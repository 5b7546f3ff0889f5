"""Define the data classes for measurements of trained networks: logits, accuracies, costs and example pictures.

The figures and tables of the results page are made from these measurements.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from r2kd_mm.report.trained_runs import RunGroup
from r2kd_mm.report.views import Picture


@dataclass(frozen=True)
class Cost:
    """Cost of a forward pass for one image.

    Args:
        parameters: Number of parameters.
        flops: Number of multiply-adds, as counted by ``mmengine.analysis``.
        latency: Median time of a forward pass with one image on this machine's CPU, in milliseconds.
    """

    parameters: int
    flops: int
    latency: float


@dataclass(frozen=True)
class WrongImage:
    """An image whose class was predicted wrongly.

    Args:
        picture: The image as the network got it, and what it was taken for.
        file: Its file; empty where the data set has none.
        label: Its class.
        predicted: The predicted class.
        probability: Probability of the predicted class, in percent.
    """

    picture: Picture
    file: str
    label: str
    predicted: str
    probability: float


@dataclass
class MeasuredTeacher:
    """The teacher of a method: a network, or a mixture of several.

    Args:
        names: Names of the networks.
        logits: Logits for the images, shape ``(images, classes)``.
        cost: Cost of all networks together.
        corrupted: Corruption and severity to accuracy in percent.

    Example:
        >>> cost = Cost(parameters=76_170, flops=3_000_000, latency=1.5)
        >>> MeasuredTeacher(('teacher', 'pruned_teacher'), torch.zeros(2, 3), cost).name
        'teacher + pruned teacher'
    """

    names: tuple[str, ...]
    logits: Tensor
    cost: Cost
    corrupted: dict[tuple[str, int], float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of the mixture, such as ``teacher + pruned teacher``."""
        return mixture_name(self.names)


@dataclass
class MeasuredMethod:
    """The measurements of the runs of one method.

    Args:
        group: The runs.
        students: Logits of the student of each run, shape ``(images, classes)``.
        cost: Cost of the student.
        teacher: Teacher of the students; ``None`` without one.
        corrupted: Corruption and severity to the accuracy of each student, in percent.
        clean_view: Logits of each teacher, and of their mixture, on the clean images of the views.
        augmented_view: Logits of the same networks on the augmented view; empty without augmentation.
        errors: The surest errors of the first student, the surest first.
        pictures: Rows of pictures of the views; empty without augmentation.
        augmentation: The augmentation as text.

    Example:
        >>> cost = Cost(parameters=450, flops=20_000, latency=0.3)
        >>> MeasuredMethod(RunGroup('KD'), students=[torch.zeros(2, 3)], cost=cost).name
        'KD'
    """

    group: RunGroup
    students: list[Tensor]
    cost: Cost
    teacher: MeasuredTeacher | None = None
    corrupted: dict[tuple[str, int], list[float]] = field(default_factory=dict)
    clean_view: dict[str, Tensor] = field(default_factory=dict)
    augmented_view: dict[str, Tensor] = field(default_factory=dict)
    errors: list[WrongImage] = field(default_factory=list)
    pictures: dict[str, list[Picture]] = field(default_factory=dict)
    augmentation: str = ''

    @property
    def name(self) -> str:
        """The name of the method."""
        return self.group.name

    @property
    def seeds(self) -> list[int | None]:
        """The seeds of its runs."""
        return [run.seed for run in self.group.runs]


@dataclass(frozen=True)
class Measurements:
    """Everything that the page shows and that the runs did not log themselves.

    Args:
        methods: The methods in the order of the groups.
        labels: Labels of the measured images, shape ``(images,)``.
        classes: Names of the classes.
        data: Number and origin of the images, for captions.
        notes: Measurements that were left out, each with the reason.

    Example:
        >>> cost = Cost(parameters=450, flops=20_000, latency=0.3)
        >>> alone = MeasuredMethod(RunGroup('alone'), students=[torch.zeros(2, 3)], cost=cost)
        >>> found = Measurements([alone], torch.tensor([0, 2]), ['cat', 'dog', 'eel'], data='2 images', notes=[])
        >>> found.teachers(), found.target_of(alone)
        ({}, None)
    """

    methods: list[MeasuredMethod]
    labels: Tensor
    classes: list[str]
    data: str
    notes: list[str]

    def teachers(self) -> dict[str, MeasuredTeacher]:
        """Name the teachers; a teacher of several methods comes once."""
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
    """Name the mixture of these teachers.

    >>> mixture_name(['teacher', 'pruned_teacher'])
    'teacher + pruned teacher'
    """
    return ' + '.join(name.replace('_', ' ') for name in teachers)
