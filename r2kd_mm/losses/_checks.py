"""Check the logits and labels that a distillation loss gets, and raise an error that names the mistake.

No check makes the CPU wait for the GPU.
"""

import torch
from torch import Tensor

from r2kd_mm.functional.standardization import widen

SUM_TOLERANCE = 1e-2  # for a row of soft labels, which may be in half precision


def prepare_logits(student_logits: Tensor, teacher_logits: Tensor) -> tuple[Tensor, Tensor]:
    """Check a pair of logits, widen both to at least float32, and detach the teacher's.

    NaN and Inf are not refused, because a check would synchronise with the GPU in every step.

    Args:
        student_logits: Shape ``(N, C)``.
        teacher_logits: Same shape.

    Returns:
        Both logits, float32 or wider.

    Raises:
        ValueError: The shapes differ, are not ``(N, C)`` with ``N, C >= 1``, or a dtype is not floating point.
    """
    shapes = f'{tuple(student_logits.shape)} and {tuple(teacher_logits.shape)}'
    if student_logits.ndim != 2 or teacher_logits.ndim != 2:
        raise ValueError(f'student_logits and teacher_logits must be two-dimensional, (N, C), got {shapes}')
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f'student_logits and teacher_logits must share one shape (N, C), got {shapes}; '
            'check that both heads have the same num_classes'
        )
    if student_logits.numel() == 0:
        raise ValueError(f'student_logits and teacher_logits must not be empty, got {shapes}')
    if not (student_logits.is_floating_point() and teacher_logits.is_floating_point()):
        raise ValueError(
            'student_logits and teacher_logits must be floating point, got '
            f'{student_logits.dtype} and {teacher_logits.dtype}; pass scores, not class indices'
        )
    return widen(student_logits), widen(teacher_logits.detach())


def label_distribution(target: Tensor | None, logits: Tensor) -> Tensor:
    """Turn labels into one distribution over the classes per sample, in the dtype of ``logits``.

    Args:
        target: Class indices ``(N,)`` of an integer dtype, or soft labels ``(N, C)`` of a floating dtype.
        logits: Shape ``(N, C)``.

    Returns:
        Shape ``(N, C)``; one-hot rows for class indices, soft labels as they are.

    Raises:
        ValueError: ``target`` is missing, or has another shape or dtype. On the CPU also: a row of soft labels is not
            a distribution.
    """
    count, num_classes = logits.shape
    if target is None:
        raise ValueError('this loss needs the labels: pass target, class indices (N,) or soft labels (N, C)')
    if target.shape == (count,) and not target.is_floating_point() and target.dtype != torch.bool:
        return torch.zeros_like(logits).scatter_(1, target.long()[:, None], 1.0)
    if target.shape == (count, num_classes) and target.is_floating_point():
        if target.device.type == 'cpu' and not are_distributions(target).all():
            raise ValueError(
                'each row of soft labels must be a distribution over the classes, 0 or more with a sum of 1; got rows '
                f'that sum to {target.sum(dim=1).min():g} up to {target.sum(dim=1).max():g}. Several labels an image '
                'cannot be distilled through a softmax'
            )
        return target.detach().to(logits.dtype)
    raise ValueError(
        f'target must be class indices of shape {(count,)} or floating-point soft labels of shape '
        f'{(count, num_classes)}, got {target.dtype} of shape {tuple(target.shape)}'
    )


def are_distributions(shares: Tensor) -> Tensor:
    """Tell for each row of shares ``(..., C)`` whether all are 0 or more and sum to 1; shape ``(...)``."""
    return (shares.amin(dim=-1) >= 0) & ((shares.sum(dim=-1) - 1).abs() <= SUM_TOLERANCE)
