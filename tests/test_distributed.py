"""The rows of all ranks are gathered in one collective, with the right gradient; each launcher joins its processes."""

import os

import pytest
import toolbox
import torch
import torch.distributed as dist
from mmengine.dist import get_world_size
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
    """Return the result of the second of two calls, and the number of collectives of each."""
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


@pytest.mark.skipif(torch.cuda.is_available(), reason='with CUDA the launchers of MMEngine are left alone')
class TestCpuLaunch:
    @pytest.fixture(autouse=True)
    def _clean_environment(self, monkeypatch):
        for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT'):
            monkeypatch.setenv(name, '')  # so that what the function sets is taken back
            monkeypatch.delenv(name)
        yield
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()

    @pytest.mark.parametrize(
        ('launcher', 'names'),
        [
            ('pytorch', dict(RANK='0', WORLD_SIZE='1', LOCAL_RANK='0')),
            ('slurm', dict(SLURM_PROCID='0', SLURM_NTASKS='1', SLURM_LOCALID='0')),
            ('mpi', dict(OMPI_COMM_WORLD_RANK='0', OMPI_COMM_WORLD_SIZE='1', OMPI_COMM_WORLD_LOCAL_RANK='0')),
        ],
    )
    def test_each_launcher_joins_its_processes(self, monkeypatch, launcher, names):
        port = toolbox.free_port()
        for name, value in dict(names, MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port)).items():
            monkeypatch.setenv(name, value)
        distributed.init_cpu_process_group(launcher)
        assert torch.distributed.get_backend() == 'gloo'
        assert get_world_size() == 1
        assert os.environ['LOCAL_RANK'] == '0'  # read by the Runner
        distributed.init_cpu_process_group(launcher)  # a second call leaves the group alone

    def test_slurm_meets_on_the_first_node_of_the_job(self, monkeypatch, tmp_path):
        scontrol = tmp_path / 'scontrol'  # stands for SLURM's, which the machines of the tests do not have
        scontrol.write_text('#!/bin/sh\n[ "$*" = "show hostnames node[3-4]" ] && printf "node3\\nnode4\\n"\n')
        scontrol.chmod(0o755)
        monkeypatch.setenv('PATH', str(tmp_path), prepend=os.pathsep)
        monkeypatch.setenv('SLURM_NODELIST', 'node[3-4]')
        assert distributed._launcher_environment('slurm')['MASTER_ADDR'] == 'node3'
        monkeypatch.setenv('MASTER_ADDR', 'login')
        assert distributed._launcher_environment('slurm')['MASTER_ADDR'] == 'login'

    def test_no_launcher_no_group(self):
        distributed.init_cpu_process_group('none')
        assert not torch.distributed.is_initialized()

    def test_missing_variables_are_named(self, monkeypatch):
        monkeypatch.setenv('RANK', '0')
        with pytest.raises(
            ValueError, match=r"launcher='pytorch' needs MASTER_ADDR, WORLD_SIZE, LOCAL_RANK in the env"
        ):
            distributed.init_cpu_process_group('pytorch')

    def test_an_unknown_launcher_is_refused(self):
        with pytest.raises(ValueError, match="launcher must be one of 'none', 'pytorch', 'slurm', 'mpi', got 'torch'"):
            distributed.init_cpu_process_group('torch')
