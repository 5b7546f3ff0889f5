"""Fit a non-decreasing sequence to each row of a tensor by least squares (isotonic regression)."""

import torch
from torch import Tensor


def isotonic(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Fit a non-decreasing sequence to each row by least squares (pool-adjacent-violators).

    Args:
        rows: Shape ``(N, C)``.

    Returns:
        The fit ``(N, C)``, constant on blocks, and the block number of each entry; no two rows share a block.

    Example:
        >>> isotonic(torch.tensor([[1.0, 4.0, 2.0, 5.0]]))[0]  # 4 and 2 are in the wrong order: their mean is 3
        tensor([[1., 3., 3., 5.]])
    """
    count, size = rows.shape
    sums = rows.reshape(-1)
    lengths = torch.ones_like(sums)
    owner = torch.arange(count, device=rows.device).repeat_interleave(size)
    while True:
        means = sums / lengths
        begins = torch.ones_like(owner, dtype=torch.bool)
        begins[1:] = (means[1:] >= means[:-1]) | (owner[1:] != owner[:-1])
        owner = owner[begins]
        if owner.numel() == sums.numel():
            break
        # a run of falling means ends up in one block, in whatever order it is pooled: pool it at once
        run = begins.cumsum(0) - 1
        sums = means.new_zeros(owner.numel()).index_add_(0, run, sums)
        lengths = means.new_zeros(owner.numel()).index_add_(0, run, lengths)
    block = torch.arange(owner.numel(), device=rows.device).repeat_interleave(lengths.long())
    return means[block].view(count, size), block.view(count, size)


def block_means(rows: Tensor, block: Tensor) -> Tensor:
    """Replace each entry of ``rows`` ``(N, C)`` by the mean of its block of :func:`isotonic`."""
    numbers = block.reshape(-1)
    blocks = int(numbers[-1]) + 1
    sums = rows.new_zeros(blocks).index_add_(0, numbers, rows.reshape(-1))
    lengths = torch.bincount(numbers, minlength=blocks)
    return (sums / lengths)[block]
