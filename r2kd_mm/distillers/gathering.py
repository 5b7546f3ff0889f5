"""Gather the logits of all processes into one batch, for losses that compare images with each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from mmengine.dist import all_gather
from torch import Tensor
from torch.nn import functional

from r2kd_mm.distributed import batch_share, gather_rows, global_batch
from r2kd_mm.functional.standardization import widen


class ViewLogits(NamedTuple):
    """Student logits, teacher logits and labels for one view: for the clean or for the augmented images of a batch.

    Attributes:
        student: Shape ``(N, C)``, with gradient.
        teacher: Same shape, without gradient.
        labels: Class indices ``(N,)`` or soft labels ``(N, C)``; ``None`` where no loss of the view needs them.
    """

    student: Tensor
    teacher: Tensor
    labels: Tensor | None


class LogitGatherer:
    """Compute every loss over the batches of all processes.

    DistributedDataParallel averages the gradients of the ranks. After it, a loss of the gathered logits trains as on
    one process with the whole batch. So does a mean over the own samples of a rank, times the share of the rank. Both
    hold for any number of samples on each rank.
    """

    def __init__(self) -> None:
        self._capacity = 0  # a function of what was gathered before, hence the same on all ranks

    def gather(
        self, views: Mapping[str, ViewLogits], unlabelled: int = 0
    ) -> tuple[dict[str, ViewLogits], dict[str, float]]:
        """Return the views with the rows of all ranks, and this rank's share of each, in one collective.

        Args:
            views: The logits of this rank; on all ranks the same views in the same order.
            unlabelled: Number of images of this rank that have no label. The share of the others is ``'task'``.
        """
        rows = [_as_rows(view) for view in views.values()]
        width = max(block.shape[1] for block in rows)  # that of the views with labels
        rows = [functional.pad(block, (0, width - block.shape[1])) for block in rows]
        rows.append(rows[0].new_zeros(unlabelled, width))  # to count them on all ranks
        blocks = gather_rows(rows, self._capacity)
        counts = torch.tensor([[len(block) for block in of_rank] for of_rank in blocks])
        self._capacity = max(self._capacity, int(counts.sum(dim=1).max()))
        whole, shares = {}, {}
        for place, (name, view) in enumerate(views.items()):
            whole[name] = _from_rows(view, [of_rank[place] for of_rank in blocks])
            shares[name] = batch_share(counts[:, place].tolist())
        shares['task'] = batch_share((counts[:, 0] - counts[:, -1]).tolist())
        return whole, shares

    def shares(self, counts: Mapping[str, int], device: torch.device) -> dict[str, float]:
        """Return this rank's share of each batch, where no logits need to be gathered.

        Args:
            counts: Number of samples of this rank by name.
            device: Where the process group can send from.
        """
        of_ranks = torch.stack(all_gather(torch.tensor(list(counts.values()), device=device))).tolist()
        return {name: batch_share(column) for name, column in zip(counts, zip(*of_ranks))}


def _as_rows(view: ViewLogits) -> Tensor:
    """Put the logits of student and teacher, and the labels, into one row a sample; in float32 at least."""
    columns = [widen(view.student.detach()), widen(view.teacher)]
    if view.labels is not None:
        columns.append(view.labels.reshape(len(view.labels), -1).to(columns[0].dtype))  # exact below 2^24 classes
    return torch.cat(columns, dim=1)


def _from_rows(own: ViewLogits, rows: list[Tensor]) -> ViewLogits:
    """Undo :func:`_as_rows` for the rows of all ranks; those of this rank keep their gradient."""
    num_classes = own.student.shape[1]
    student = global_batch(widen(own.student), [block[:, :num_classes] for block in rows])
    everything = torch.cat(rows)
    teacher = everything[:, num_classes : 2 * num_classes]
    labels = None
    if own.labels is not None:
        columns = own.labels.numel() // len(own.labels)
        labels = everything[:, 2 * num_classes : 2 * num_classes + columns].to(own.labels.dtype)
        labels = labels.reshape(-1, *own.labels.shape[1:])
    return ViewLogits(student, teacher, labels)
