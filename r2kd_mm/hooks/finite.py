"""Keep a step that would ruin the student from being taken."""

from __future__ import annotations

from pathlib import Path

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from r2kd_mm.engine.cli import RunStopped
from r2kd_mm.hooks.schedules import unwrapped_distiller
from r2kd_mm.registry import HOOKS

ACTIONS = ('stop', 'skip')
# In the message hub, and so in every checkpoint: how many steps of this run were skipped.
SKIPPED_STEPS = 'skipped_steps'
SHOWN_IMAGES = 5


@HOOKS.register_module()
class FiniteCheckHook(Hook):
    """Take no step whose gradient is NaN or infinite: stop with the last good state, or leave the step out.

    The check runs before every optimizer step. Weights, optimizer and batch-norm statistics stay as they were before
    the step that went wrong. It costs one synchronisation with the device a step, and a copy of the student's buffers.

    Args:
        action: ``'stop'`` ends the run, with a checkpoint of the good state and the batch for inspection in the work
            dir. ``'skip'`` leaves the step out, with a warning that names the first images, and counts it.
        max_skips: End the run like ``'stop'`` when more than so many steps in a row would be skipped, >= 1.

    Raises:
        RunStopped: Says in which iteration, which logits were not finite, and where checkpoint and batch are.
        ValueError: An argument is out of range.
    """

    def __init__(self, action: str = 'stop', max_skips: int = 10) -> None:
        if action not in ACTIONS:
            raise ValueError(f'action must be one of {ACTIONS}, got {action!r}')
        if max_skips < 1:
            raise ValueError(f"max_skips must be at least 1, got {max_skips}; action='stop' skips none")
        self.action = action
        self.max_skips = max_skips
        self._skipped_in_a_row = 0

    def before_train(self, runner: Runner) -> None:
        """Look at the gradients before each step of the optimizer."""
        self._distiller = unwrapped_distiller(runner, type(self).__name__)
        self._buffers: list[Tensor] = list(self._distiller.buffers())
        self._buffers_before = [buffer.clone() for buffer in self._buffers]
        optimizer = runner.optim_wrapper.optimizer
        parameters = [parameter for group in optimizer.param_groups for parameter in group['params']]
        self._handle = optimizer.register_step_pre_hook(lambda *_: self._check(runner, parameters))

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Keep the batch, and the batch-norm statistics, which the forward pass of the step changes."""
        self._batch = data_batch
        if self._buffers:
            torch._foreach_copy_(self._buffers_before, self._buffers)

    def after_train(self, runner: Runner) -> None:
        """Leave the optimizer as it was found."""
        self._handle.remove()

    @torch.no_grad()
    def _check(self, runner: Runner, parameters: list[nn.Parameter]) -> None:
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if not gradients or torch.stack(torch._foreach_norm(gradients)).isfinite().all():
            self._skipped_in_a_row = 0
            return
        for buffer, before in zip(self._buffers, self._buffers_before):
            buffer.copy_(before)
        fault = self._describe(runner.iter + 1)
        if self.action == 'stop' or self._skipped_in_a_row >= self.max_skips:
            self._stop(runner, fault)
        for parameter in parameters:
            parameter.grad = None  # an optimizer passes over such a parameter, momentum and weight decay included
        self._skipped_in_a_row += 1
        skipped = runner.message_hub.runtime_info.get(SKIPPED_STEPS, 0) + 1
        runner.message_hub.update_info(SKIPPED_STEPS, skipped)
        paths = [sample.get('img_path') for sample in self._batch['data_samples']]
        images = ', '.join(path for path in paths[:SHOWN_IMAGES] if path)
        runner.logger.warning(
            f'{fault}: this step is left out, the {_ordinal(skipped)} in this run'
            f'{f". The first images of the batch are {images}" if images else ""}.'
        )

    def _stop(self, runner: Runner, fault: str) -> None:
        checkpoint = f'before_non_finite_iter_{runner.iter + 1}.pth'
        runner.save_checkpoint(
            runner.work_dir,
            checkpoint,
            meta=dict(epoch=runner.epoch, iter=runner.iter),
            backend_args=dict(backend='atomic'),
        )
        batch = Path(runner.work_dir, f'non_finite_iter_{runner.iter + 1}_batch_rank_{runner.rank}.pth')
        torch.save(self._contents(), batch)
        after = f' after {self._skipped_in_a_row} skipped steps in a row' if self._skipped_in_a_row else ''
        raise RunStopped(
            f'{fault}{after}. The state before that step is in {runner.work_dir}/{checkpoint}, its batch in {batch}. '
            'Look for NaN in the images of this batch, lower the learning rate, or clip the gradient '
            '(optim_wrapper.clip_grad)'
        )

    def _describe(self, iteration: int) -> str:
        culprits = [
            f'the {network} logits of the {view} images'
            for (view, network), logits in self._distiller.step_logits.items()
            if not logits.isfinite().all()
        ]
        return (
            f'the gradient of iteration {iteration} is not finite'
            f'{"; nor are " + " and ".join(culprits) if culprits else ", though all logits are"}'
        )

    def _contents(self) -> dict:
        """The batch as the data loader gave it, and the logits of the step, by plain types."""
        samples = self._batch['data_samples']
        return dict(
            inputs=self._batch['inputs'],
            labels=[sample.gt_label.tolist() for sample in samples],
            paths=[sample.get('img_path') for sample in samples],
            logits={f'{view}.{network}': logits for (view, network), logits in self._distiller.step_logits.items()},
        )


def _ordinal(number: int) -> str:
    ending = 'th' if number % 100 in (11, 12, 13) else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')
    return f'{number}{ending}'
