"""Stop before a step that would ruin the student."""

from __future__ import annotations

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from r2kd_mm.hooks.schedules import unwrapped_distiller
from r2kd_mm.registry import HOOKS


@HOOKS.register_module()
class FiniteCheckHook(Hook):
    """Stop with a checkpoint of the last good state when the gradient is NaN or infinite.

    The check runs before every optimizer step, so that the weights of the checkpoint, and the batch-norm statistics,
    are those from before the step that went wrong. It costs one synchronisation with the device a step.

    Raises:
        ValueError: A gradient is not finite; says in which iteration, which logits were not, and where the checkpoint
            is. A traceback follows where training has begun.
    """

    def before_train(self, runner: Runner) -> None:
        """Look at the gradients before each step of the optimizer."""
        self._distiller = unwrapped_distiller(runner, type(self).__name__)
        self._buffers: list[Tensor] = []
        optimizer = runner.optim_wrapper.optimizer
        parameters = [parameter for group in optimizer.param_groups for parameter in group['params']]
        self._handle = optimizer.register_step_pre_hook(lambda *_: self._check(runner, parameters))

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        """Keep the batch-norm statistics, which the forward pass of the step changes."""
        self._buffers = [buffer.clone() for buffer in self._distiller.buffers()]

    def after_train(self, runner: Runner) -> None:
        """Leave the optimizer as it was found."""
        self._handle.remove()

    @torch.no_grad()
    def _check(self, runner: Runner, parameters: list[nn.Parameter]) -> None:
        norms = [parameter.grad.norm() for parameter in parameters if parameter.grad is not None]
        if not norms or torch.stack(norms).isfinite().all():
            return
        for buffer, before in zip(self._distiller.buffers(), self._buffers):
            buffer.copy_(before)
        name = f'before_non_finite_iter_{runner.iter + 1}.pth'
        runner.save_checkpoint(runner.work_dir, name, backend_args=dict(backend='atomic'))
        culprits = [
            f'the {network} logits of the {view} images'
            for (view, network), logits in self._distiller.step_logits.items()
            if not logits.isfinite().all()
        ]
        raise ValueError(
            f'the gradient of iteration {runner.iter + 1} is not finite'
            f'{"; nor are " + " and ".join(culprits) if culprits else ", though all logits are"}. The state before '
            f'that step is in {runner.work_dir}/{name}. Look for NaN in the images of this batch, lower the learning '
            'rate, or clip the gradient (optim_wrapper.clip_grad)'
        )
