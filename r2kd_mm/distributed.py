"""The processes of a distributed run: which one this is, and batches that are spread over them."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from mmengine.dist import all_gather, get_dist_info, get_rank, get_world_size
from torch import Tensor

RANK_VARIABLES = ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK')  # torchrun, srun, mpirun


def process_rank() -> int:
    """Rank of this process, also before the processes have been joined."""
    rank, world_size = get_dist_info()
    if world_size > 1:
        return rank
    return next((int(os.environ[name]) for name in RANK_VARIABLES if os.environ.get(name)), 0)


def gather_rows(blocks: Sequence[Tensor], capacity: int = 0) -> list[list[Tensor]]:
    """The rows of every process, in one collective.

    Ranks may have different numbers of rows. The collective needs equal shapes, so each rank sends its rows padded to
    ``capacity`` behind a row that says how many they are. Where one has more rows than that, a second collective with
    room for all follows; whoever passes the largest number of rows seen so far pays that once.

    Args:
        blocks: Tensors of this rank, each of shape ``(N, K)`` with the same K, of at least as many columns as there
            are blocks, and one floating dtype. The gradient is not passed on.
        capacity: Rows in all blocks together that there is room for; the same on all ranks.

    Returns:
        For each rank the list of its blocks, shapes ``(N, K)``, without gradient; its own among them.
    """
    dtype = blocks[0].dtype
    rows = torch.cat([block.detach() for block in blocks])
    rows = rows.to(torch.promote_types(dtype, torch.float32))  # half precision cannot count
    while True:
        sent = rows.new_zeros(capacity + 1, rows.shape[1])
        sent[0, : len(blocks)] = torch.tensor([len(block) for block in blocks], dtype=rows.dtype)
        sent[1 : len(rows) + 1] = rows[:capacity]
        received = all_gather(sent)
        counts = torch.stack([block[0, : len(blocks)] for block in received]).long().tolist()
        largest = max(map(sum, counts))
        if largest <= capacity:
            return [list(block[1 : sum(count) + 1].to(dtype).split(count)) for block, count in zip(received, counts)]
        capacity = largest


def global_batch(own: Tensor, gathered: Sequence[Tensor]) -> Tensor:
    """The rows of all ranks, of which the own ones have a gradient.

    The gradient of a loss of the whole batch with respect to the own rows comes out multiplied by the number of
    processes. Every process computes that loss, and DistributedDataParallel then averages: the average is the gradient
    that one process with the whole batch would have, and no collective is needed in the backward pass.

    Args:
        own: The rows of this rank, shape ``(N, K)``.
        gathered: The rows of each rank in the order of the ranks, as :func:`gather_rows` gives them.

    Returns:
        Shape ``(N_0 + N_1 + ..., K)``.
    """
    if own.requires_grad:
        own = own.view_as(own)  # the factor is for this use of the rows alone
        own.register_hook(lambda gradient: gradient * len(gathered))
    rank = get_rank()
    return torch.cat([*gathered[:rank], own, *gathered[rank + 1 :]])


def batch_share(counts: Sequence[int]) -> float:
    """Factor that turns the mean over this rank's samples into its part of the mean over all, averaged over ranks.

    1 where all ranks have equally many samples.

    Args:
        counts: Number of samples of each rank.
    """
    return counts[get_rank()] * get_world_size() / sum(counts)
