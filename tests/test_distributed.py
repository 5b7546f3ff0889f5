"""Rows of every rank: what arrives, in how many collectives, and the gradient of the own ones."""

import pytest
import torch
import torch.distributed as dist
from ranks import run_on_ranks

from r2kd_mm import distributed
from r2kd_mm.distributed import batch_share, gather_rows, global_batch


def rows_of(rank: int, counts: list[list[int]]) -> list[torch.Tensor]:
    """Blocks that tell rank, block and row."""
    return [
        torch.tensor([[rank, block, row, 0.5] for row in range(count)]).reshape(count, 4)
        for block, count in enumerate(counts[rank])
    ]


def gather_twice(counts):
    """What the second of two calls gave, and the number of collectives of each."""
    calls = []
    real = distributed.all_gather
    distributed.all_gather = lambda *args: calls.append(1) or real(*args)
    blocks = rows_of(dist.get_rank(), counts)
    gather_rows(blocks)
    first = len(calls)
    gathered = gather_rows(blocks, max(map(sum, counts)))
    return [[block.tolist() for block in of_rank] for of_rank in gathered], first, len(calls) - first


@pytest.mark.parametrize('counts', [[[3], [3]], [[4, 2], [1, 5]], [[0], [2]]], ids=str)
def test_every_rank_gets_the_rows_of_all_in_one_collective_once_the_room_is_known(counts):
    expected = [[block.tolist() for block in rows_of(rank, counts)] for rank in range(2)]
    for gathered, first, later in run_on_ranks(2, gather_twice, counts):
        assert gathered == expected
        assert (first, later) == (2, 1)


def scaled_gradient():
    own = torch.full((dist.get_rank() + 1, 2), 3.0, requires_grad=True)
    batch = global_batch(own, [block for (block,) in gather_rows([own])])
    other_use = own.sum()
    (batch.square().sum() + other_use).backward()
    return batch.tolist(), own.grad.tolist()


def test_the_gradient_of_a_global_loss_is_multiplied_by_the_number_of_ranks_and_of_nothing_else():
    for rank, (batch, gradient) in enumerate(run_on_ranks(2, scaled_gradient)):
        assert batch == [[3.0, 3.0]] * 3
        assert gradient == [[2 * 2 * 3.0 + 1] * 2] * (rank + 1)


def test_the_share_of_a_rank_alone_is_one():
    assert batch_share([7]) == 1
