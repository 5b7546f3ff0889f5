"""Train on one or two GPUs with NCCL, and check that all processes end with the same weights; start it with torchrun.

torchrun --standalone --nproc_per_node 2 benchmarks/gpu/two_cards.py ddp
"""

import r2kd_mm  # isort: skip  # noqa: F401  first, because it cures what comes below

import contextlib
import sys
import tempfile

import torch
import torch.distributed as dist
from devices import runs
from torch.distributed.fsdp import FullyShardedDataParallel

WRAPPERS = dict(
    ddp=dict(sync_bn='torch', model_wrapper_cfg=dict(type='r2kd_mm.PortableDistributedDataParallel')),
    fsdp=dict(model_wrapper_cfg=dict(type='MMFullyShardedDataParallel', use_orig_params=True)),
)


def main() -> None:
    """Train for four steps; exit with an error if the weights of the processes differ or are not finite."""
    wrapper = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        fields = dict(val_dataloader=None, val_cfg=None, val_evaluator=None, launcher='pytorch', **WRAPPERS[wrapper])
        runner = runs.runner(folder, **fields)
        runner.train()
        whole = FullyShardedDataParallel.summon_full_params(runner.model) if wrapper == 'fsdp' else None
        with whole or contextlib.nullcontext():
            own = torch.cat([parameter.detach().flatten() for parameter in runner.model.parameters()])
        others = [torch.empty_like(own) for _ in range(dist.get_world_size())]
        dist.all_gather(others, own)
        if not own.isfinite().all() or not all(torch.equal(own, other) for other in others):
            raise SystemExit('the weights of the processes differ, or are not finite')
        if dist.get_rank() == 0:
            print(f'same weights on {len(others)} processes, {dist.get_backend()}')


if __name__ == '__main__':
    main()
