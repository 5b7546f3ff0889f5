"""Measure how often student and teacher predict the same class, and how far their class correlations differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.evaluator import BaseMetric
from torch import Tensor, nn

from r2kd_mm.classifiers import classifier_logits
from r2kd_mm.functional import agreement, class_correlation
from r2kd_mm.registry import METRICS, MODELS
from r2kd_mm.teachers.build import build_teacher, check_same_inputs


@METRICS.register_module()
class TeacherAgreement(BaseMetric):
    """Metric that compares a student's predictions with a frozen teacher's predictions on the same images.

    - ``agreement/top1``: percentage of images for which student and teacher predict the same class.
    - ``agreement/class_correlation_difference``: mean absolute difference of
      :func:`~r2kd_mm.functional.correlation.class_correlation` between student and teacher, over all pairs of two
      classes, in ``[0, 2]``. That function subtracts the mean of each row, so the logarithm of the student's
      ``pred_score`` can replace its logits.

    Args:
        teacher: The network, see :func:`~r2kd_mm.teachers.build.build_teacher`.
        teacher_ckpt: Path or URL of its weights.
        data_preprocessor: Data preprocessor of the run, which also normalises the images for the teacher.
        collect_device: See :class:`mmengine.evaluator.BaseMetric`.
        prefix: Prefix of the names, ``agreement`` by default.

    Raises:
        ValueError: The teacher has no weights, or was trained with another normalisation.

    Example:
        >>> teacher = dict(type='build_classifier', name='cifar/resnet8')
        >>> val_evaluator = [dict(type='TeacherAgreement', teacher=teacher, teacher_ckpt='teacher.pth')]  # in a config
        >>> METRICS.get(val_evaluator[0]['type']).default_prefix
        'agreement'
    """

    default_prefix = 'agreement'

    def __init__(
        self,
        teacher: dict | str | nn.Module,
        data_preprocessor: dict | nn.Module,
        teacher_ckpt: str | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device, prefix)
        with torch.random.fork_rng(devices=[]):  # measuring a run does not change it
            self.teacher = build_teacher(teacher, teacher_ckpt).eval().requires_grad_(False).to(get_device())
        self.data_preprocessor = (
            MODELS.build(data_preprocessor) if isinstance(data_preprocessor, dict) else (data_preprocessor)
        )
        check_same_inputs(self.teacher, self.data_preprocessor)
        self.data_preprocessor.to(get_device())

    @torch.no_grad()
    def process(self, data_batch: dict, data_samples: Sequence[Mapping[str, Any]]) -> None:
        """Ask the teacher about a batch, and keep both answers."""
        inputs = self.data_preprocessor(data_batch, training=False)['inputs']
        answers = classifier_logits(self.teacher, inputs).float().cpu()
        for sample, teacher_logits in zip(data_samples, answers):
            scores = sample['pred_score'].float().cpu()
            self.results.append((scores.clamp_min(torch.finfo(scores.dtype).tiny).log(), teacher_logits))

    def compute_metrics(self, results: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
        """Compute both measures over all images.

        Raises:
            ValueError: Student and teacher know different numbers of classes.
        """
        student, teacher = (torch.stack(answers) for answers in zip(*results))
        if student.shape != teacher.shape:
            raise ValueError(
                f'student and teacher must know the same classes, got {student.shape[1]} of the student and '
                f'{teacher.shape[1]} of the teacher; set num_classes of both heads to that of the data set'
            )
        difference = _between_classes(class_correlation(student) - class_correlation(teacher))
        return dict(
            top1=agreement(student, teacher),
            class_correlation_difference=difference.abs().mean().item(),
        )


def _between_classes(matrix: Tensor) -> Tensor:
    """Select the entries off the diagonal: a class always correlates by 1 with itself."""
    return matrix[~torch.eye(len(matrix), dtype=torch.bool)]
