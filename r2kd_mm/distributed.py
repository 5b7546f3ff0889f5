"""Join the processes of a run without CUDA, find the rank of a process, and gather tensors from all processes."""

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
    """Return the rank of this process; before the process group exists, read the launcher's environment variables.

    Example:
        >>> process_rank()
        0
    """
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

    Example:
        >>> init_cpu_process_group('none')  # one process
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
    """Return the variables of ``torch.distributed`` for this launcher; an empty value is missing."""

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
    """Return the host of rank 0 from a list such as ``node[3-5]``; empty without SLURM's ``scontrol``."""
    try:
        hosts = subprocess.run(['scontrol', 'show', 'hostnames', nodes], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ''
    return hosts.stdout.split('\n')[0]


def gather_rows(blocks: Sequence[Tensor], capacity: int = 0) -> list[list[Tensor]]:
    """Gather the rows of every process in one collective.

    Ranks may have different numbers of rows, but the collective needs equal shapes. So each rank sends its number of
    rows, and its rows padded to ``capacity``. If a rank has more rows, a second collective with room for all follows.
    A caller that passes the largest number of rows so far pays for this only once.

    Args:
        blocks: Tensors of this rank with the same floating dtype and shape ``(N, K)``. All have the same K, which is at
            least the number of blocks. No gradient flows back.
        capacity: Room for this number of rows in all blocks together; equal on all ranks.

    Returns:
        For each rank, this one included, the list of its blocks of shape ``(N, K)``, without gradient.

    Example:
        >>> gather_rows([torch.zeros(4, 3)])[0][0].shape  # of one process
        torch.Size([4, 3])
    """
    dtype = blocks[0].dtype
    rows = torch.cat([block.detach() for block in blocks])
    rows = rows.to(torch.promote_types(dtype, torch.float32))  # half precision cannot hold the counts
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
    """Join the rows of all ranks; only this rank's rows have a gradient.

    This rank's gradient is multiplied by the number of processes. Every process computes the loss of the whole batch,
    and DistributedDataParallel averages the gradients. The average equals the gradient of one process with the whole
    batch, without a collective in the backward pass.

    Args:
        own: Rows of this rank, shape ``(N, K)``.
        gathered: Rows of each rank in the order of the ranks, from :func:`gather_rows`.

    Returns:
        Shape ``(N_0 + N_1 + ..., K)``.

    Example:
        >>> own = torch.tensor([[1.0]])
        >>> global_batch(own, [own])  # of one process
        tensor([[1.]])
    """
    if own.requires_grad:
        own = own.view_as(own)  # the factor applies only to this use of the rows
        own.register_hook(lambda gradient: gradient * len(gathered))
    rank = get_rank()
    return torch.cat([*gathered[:rank], own, *gathered[rank + 1 :]])


def batch_share(counts: Sequence[int]) -> float:
    """Return the factor from the mean over this rank's samples to its share of the mean over all ranks.

    The factor is 1 if all ranks have the same number of samples.

    Args:
        counts: Number of samples of each rank.

    Example:
        >>> batch_share([8])  # of one process
        1.0
    """
    return counts[get_rank()] * get_world_size() / sum(counts)
