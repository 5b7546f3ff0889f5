"""Train on two GPUs with NCCL and SyncBN, and compare the weights of both; started by torchrun."""

import r2kd_mm  # isort: skip  # noqa: F401  first, because it cures what comes below

import tempfile

import torch
import torch.distributed as dist
from devices import runs


def main() -> None:
    """Train for four steps."""
    with tempfile.TemporaryDirectory() as folder:
        runner = runs.runner(
            folder,
            val_dataloader=None,
            val_cfg=None,
            val_evaluator=None,
            launcher='pytorch',
            sync_bn='torch',
            model_wrapper_cfg=dict(type='r2kd_mm.PortableDistributedDataParallel'),
        )
        runner.train()
        own = torch.cat([parameter.detach().flatten() for parameter in runner.model.parameters()])
        others = [torch.empty_like(own) for _ in range(dist.get_world_size())]
        dist.all_gather(others, own)
        if not all(torch.equal(own, other) for other in others):
            raise SystemExit('the weights of the two processes differ')
        if dist.get_rank() == 0:
            print(f'same weights on {len(others)} processes, {dist.get_backend()}')


if __name__ == '__main__':
    main()
