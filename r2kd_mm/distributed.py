"""The processes of a distributed run: joining them, which one this is, and batches that are spread over them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

import torch
from mmengine.dist import all_gather, get_dist_info, get_rank, get_world_size, is_distributed
from torch import Tensor

RANK_VARIABLES = ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK')  # torchrun, srun, mpirun
DEFAULT_MASTER_PORT = '29500'  # that of torch.distributed and of mmengine


def process_rank() -> int:
    """Rank of this process, also before the processes have been joined."""
    rank, world_size = get_dist_info()
    if world_size > 1:
        return rank
    return next((int(os.environ[name]) for name in RANK_VARIABLES if os.environ.get(name)), 0)


def init_cpu_process_group(launcher: str) -> None:
    """Join the processes of ``launcher`` by gloo, on a machine without CUDA, before a Runner is built.

    Upstream symptom: MMEngine's ``init_dist`` calls ``torch.cuda.set_device`` whatever the backend, which fails with
    ``AttributeError: _cuda_setDevice`` or "no NVIDIA driver". It is not called where a process group exists already.

    Args:
        launcher: ``'pytorch'``, ``'slurm'`` or ``'mpi'``; ``'none'`` does nothing.

    Raises:
        ValueError: The launcher is unknown, or its environment variables are missing.
    """
    if launcher == 'none' or torch.cuda.is_available() or is_distributed():
        return
    environment = _launcher_environment(launcher)
    missing = [name for name, value in environment.items() if not value]
    if missing:
        raise ValueError(
            f'launcher={launcher!r} needs {", ".join(missing)} in the environment; start the program through '
            "tools/dist_train.sh (pytorch), srun (slurm) or 'MASTER_ADDR=... mpirun ...' (mpi; 127.0.0.1 on one "
            "machine), or use launcher='none'"
        )
    os.environ.update(environment)
    torch.distributed.init_process_group('gloo')


def _launcher_environment(launcher: str) -> dict[str, str]:
    """What ``torch.distributed`` reads, as this launcher gives it; an empty value is missing."""

    def get(name: str, default: str = '') -> str:
        return os.environ.get(name, default)

    common = {'MASTER_ADDR': get('MASTER_ADDR'), 'MASTER_PORT': get('MASTER_PORT', DEFAULT_MASTER_PORT)}
    if launcher == 'pytorch':
        names = dict(RANK='RANK', WORLD_SIZE='WORLD_SIZE', LOCAL_RANK='LOCAL_RANK')
    elif launcher == 'slurm':
        names = dict(RANK='SLURM_PROCID', WORLD_SIZE='SLURM_NTASKS', LOCAL_RANK='SLURM_LOCALID')
        common['MASTER_ADDR'] = common['MASTER_ADDR'] or _first_slurm_node(get('SLURM_NODELIST'))
    elif launcher == 'mpi':
        names = {
            'RANK': 'OMPI_COMM_WORLD_RANK',
            'WORLD_SIZE': 'OMPI_COMM_WORLD_SIZE',
            'LOCAL_RANK': 'OMPI_COMM_WORLD_LOCAL_RANK',
        }
    else:
        raise ValueError(f"launcher must be one of 'none', 'pytorch', 'slurm', 'mpi', got {launcher!r}")
    return {**common, **{name: get(source) for name, source in names.items()}}


def _first_slurm_node(nodes: str) -> str:
    """The host on which rank 0 runs, of a list such as ``node[3-5]``; empty where SLURM's ``scontrol`` is missing."""
    try:
        hosts = subprocess.run(['scontrol', 'show', 'hostnames', nodes], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ''
    return hosts.stdout.split('\n')[0]


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
