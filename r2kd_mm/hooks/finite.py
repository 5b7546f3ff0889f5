"""Check gradients, losses and buffers (such as batch-norm statistics) for NaN and infinity at each optimizer step.

If any value is not finite, stop the run or skip the step.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from r2kd_mm.devices import HOST_LIKE, Arriving
from r2kd_mm.engine.cli import RunStopped
from r2kd_mm.hooks.device_step import DeviceStep
from r2kd_mm.hooks.distiller import unwrapped_distiller
from r2kd_mm.hooks.step_faults import Iteration, describe_fault, with_culprits
from r2kd_mm.hooks.step_state import Buffers, names_not_finite
from r2kd_mm.registry import HOOKS

ACTIONS = ('stop', 'skip')
# In the message hub, and so in every checkpoint: number of skipped steps of this run.
SKIPPED_STEPS = 'skipped_steps'
SHOWN_IMAGES = 5
# Steps after which the host reads whether a step on the GPU was finite; by then the answer has arrived.
DELAY = 4


@dataclass(frozen=True)
class _Unread:
    """A step whose result is still on the device, and what the host has to put back if the run stops there."""

    iterations: list[Iteration]
    is_finite: Arriving
    norms: list[Tensor]
    buffers: dict[str, Tensor]
    settings: list[dict]
    schedules: list[dict]
    averages: list[Tensor]


@HOOKS.register_module()
class FiniteCheckHook(Hook):
    """Hook that stops the run, or skips the step, if a gradient, loss or buffer is NaN or infinite.

    The check runs before every optimizer step. It looks at the gradients, the losses and the student's buffers, such as
    batch-norm statistics. It ignores buffers that were not finite from the beginning, such as a mask. After a bad
    step, weights, optimizer and buffers have their values from before this step; with gradient accumulation, from
    before its first iteration. The check needs memory for a copy of the buffers.

    On a GPU, the CPU does not wait for the check. The GPU itself undoes a bad step. If the bad step ends the run, it
    also undoes all later steps. The CPU learns of a bad step up to four steps later, and then reacts. This needs
    a PyTorch optimizer with its state on the GPU, such as SGD, or Adam with ``fused=True``. It also needs a copy of
    weights, optimizer state and averaged weights. With another optimizer, with a gradient scaler, and in the first
    step, the CPU waits.

    A gradient scaler (``AmpOptimWrapper``) skips a bad step itself and lowers its scale. If logits or batch-norm
    statistics are not finite either, the scale is not the cause, and the hook acts as without a scaler. Otherwise the
    hook acts only after more than ``max_skips`` skipped steps in a row.

    Args:
        action: ``'stop'`` ends the run, and saves a checkpoint of the last good state and the bad batch in the work
            dir. ``'skip'`` skips the step, warns with the names of the first images, and counts it.
        max_skips: Largest number of skipped steps in a row, at least 1; after that the run ends as with ``'stop'``.

    Raises:
        RunStopped: Names the iteration, the losses, logits or buffers that are not finite, and the saved files.
        ValueError: An argument is out of range.

    Example:
        >>> custom_hooks = [dict(type='FiniteCheckHook', action='skip')]  # in a config
        >>> HOOKS.build(custom_hooks[0]).action
        'skip'
    """

    def __init__(self, action: str = 'stop', max_skips: int = 10) -> None:
        if action not in ACTIONS:
            raise ValueError(f'action must be one of {ACTIONS}, got {action!r}')
        if max_skips < 1:
            raise ValueError(f"max_skips must be at least 1, got {max_skips}; action='stop' skips none")
        self.action = action
        self.max_skips = max_skips
        self._left_out_in_a_row = 0
        self._earlier: list[Iteration] = []  # of the step that is being accumulated
        self._on_device: DeviceStep | None = None
        self._unread: deque[_Unread] = deque()

    def before_train(self, runner: Runner) -> None:
        """Check the gradients before each step of the optimizer."""
        self._distiller = unwrapped_distiller(runner, type(self).__name__)
        self._buffers = Buffers(self._distiller)
        self._losses: dict[str, Tensor] = {}
        self._losses_handle = self._distiller.register_forward_hook(self._keep_losses)
        optimizer = runner.optim_wrapper.optimizer
        parameters = [parameter for group in optimizer.param_groups for parameter in group['params']]
        if parameters[0].device.type not in HOST_LIKE:
            self._on_device = DeviceStep(runner, parameters, self.max_skips if self.action == 'skip' else 0)
            runner.save_checkpoint = self._saving_what_is_good(runner)
        self._handles = [
            optimizer.register_step_pre_hook(lambda *_: self._check(runner, parameters, _found_inf(optimizer))),
            optimizer.register_step_post_hook(lambda *_: self._take_back()),
        ]

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Keep the batch and the batch-norm statistics, which the forward passes of the step change."""
        self._batch = data_batch or {}
        self._is_checked = False
        if not self._earlier:
            self._read(runner, DELAY)
            self._buffers.keep()
        if self._on_device is not None:
            self._on_device.keep_averages()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Keep an iteration without a step: a part of a step, or one whose step a gradient scaler skipped."""
        if not self._is_checked:
            if not runner.optim_wrapper.should_update():
                self._earlier.append(self._iteration(runner))
                return
            self._check_without_step(runner)
        self._earlier = []

    def after_train_epoch(self, runner: Runner) -> None:
        """Read what is still on the device."""
        self._read(runner)

    def before_val_epoch(self, runner: Runner) -> None:
        """Read what is still on the device."""
        self._read(runner)

    def after_train(self, runner: Runner) -> None:
        """Remove the hooks from the optimizer and the model."""
        self._read(runner)
        for handle in (*self._handles, self._losses_handle):
            handle.remove()
        if self._on_device is not None:
            del runner.save_checkpoint  # the method of the class again
            self._on_device = None

    def _saving_what_is_good(self, runner: Runner) -> Callable:
        """Return the method that saves a checkpoint, after the last step was found to be good."""
        save = runner.save_checkpoint

        def save_checkpoint(*args: Any, **kwargs: Any) -> None:
            self._read(runner)
            save(*args, **kwargs)

        return save_checkpoint

    def _keep_losses(self, _distiller: nn.Module, _inputs: tuple, outputs: dict | list | Tensor) -> None:
        """Keep the trained terms of a forward pass that returns losses."""
        if isinstance(outputs, dict):
            self._losses = {name: value.detach().mean() for name, value in outputs.items() if 'loss' in name}

    @torch.no_grad()
    def _check(self, runner: Runner, parameters: list[nn.Parameter], found_inf: Tensor | None) -> None:
        if found_inf is not None and found_inf > 0:
            # the scaler skips this step; a fused SGD would make momentum from uninitialised memory
            for parameter in parameters:
                parameter.grad = None
            return
        self._is_checked = True
        iterations = [*self._earlier, self._iteration(runner)]
        losses = [value for iteration in iterations for value in iteration.losses.values()]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        norms = list(torch._foreach_norm(gradients)) if gradients else []
        largest = self._buffers.largest()
        values = [*norms, *losses, *largest.values()]
        on_device = self._on_device
        if on_device is not None and found_inf is None and self._can_take_back(on_device):
            is_finite = _are_finite(values).int()
            all_reduce(is_finite, 'min')
            if not self._unread:
                on_device.in_a_row.fill_(self._left_out_in_a_row)
            on_device.decide(is_finite > 0)
            self._unread.append(_Unread(iterations, Arriving(is_finite), norms, largest, *on_device.host_state()))
            return
        self._read(runner)
        is_finite = torch.tensor(int(_all_finite(values)))
        all_reduce(is_finite, 'min')  # the processes share the gradient, but neither losses nor buffers
        if is_finite:
            self._left_out_in_a_row = 0
            return
        self._leave_out(runner, iterations, describe_fault(iterations, _bad_buffers(norms, largest)))
        for parameter in parameters:
            parameter.grad = None  # an optimizer skips a parameter without gradient, also its momentum and weight decay

    def _can_take_back(self, on_device: DeviceStep) -> bool:
        """Return whether the device can take this step back."""
        return on_device.can_take_back() and not self._buffers.are_replaced()

    def _take_back(self) -> None:
        """Have the device take back the step if it is bad."""
        if self._on_device is not None:
            is_good = self._on_device.take_back()
            if is_good is not None:
                self._buffers.put_back_unless(is_good)

    def _read(self, runner: Runner, but_for: int = 0) -> None:
        """Read whether earlier steps were finite, but for the last ones; act on those that were not."""
        while self._on_device is not None and len(self._unread) > but_for:
            step = self._unread.popleft()
            if step.is_finite.read() > 0:
                self._left_out_in_a_row = 0
                continue
            fault = describe_fault(step.iterations, _bad_buffers(step.norms, step.buffers))
            if self._ends_the_run:
                self._unread.clear()
                self._buffers.put_back()
                self._on_device.put_back_host_state(step.settings, step.schedules, step.averages)
            self._act(runner, step.iterations, fault)

    @torch.no_grad()
    def _check_without_step(self, runner: Runner) -> None:
        self._read(runner)
        iterations = [*self._earlier, self._iteration(runner)]
        losses = [value for iteration in iterations for value in iteration.losses.values()]
        is_the_scale = _all_finite([*losses, *self._buffers.largest().values()]) and not with_culprits(iterations)
        agreed = torch.tensor(int(is_the_scale))  # all processes skipped the step, and one may know why
        all_reduce(agreed, 'min')
        if agreed and self._left_out_in_a_row < self.max_skips:
            self._left_out_in_a_row += 1
        else:
            self._leave_out(runner, iterations, describe_fault(iterations))

    def _iteration(self, runner: Runner) -> Iteration:
        return Iteration(runner.iter + 1, self._batch, dict(self._distiller.step_logits), self._losses)

    def _leave_out(self, runner: Runner, iterations: Sequence[Iteration], fault: str) -> None:
        """Restore the student's buffers; then stop, or warn and count."""
        self._buffers.put_back()
        self._act(runner, iterations, fault)

    @property
    def _ends_the_run(self) -> bool:
        """Return whether the next bad step does."""
        return self.action == 'stop' or self._left_out_in_a_row >= self.max_skips

    def _act(self, runner: Runner, iterations: Sequence[Iteration], fault: str) -> None:
        """Stop, or warn and count."""
        suspects = with_culprits(iterations) or iterations
        if self._ends_the_run:
            self._stop(runner, fault, iterations[0].number, suspects)
        self._left_out_in_a_row += 1
        skipped = runner.message_hub.runtime_info.get(SKIPPED_STEPS, 0) + 1
        runner.message_hub.update_info(SKIPPED_STEPS, skipped)
        images = ', '.join(path for path in suspects[0].paths[:SHOWN_IMAGES] if path)
        runner.logger.warning(
            f'{fault}: this step is left out, the {_ordinal(skipped)} in this run'
            f'{f". The first images of the batch are {images}" if images else ""}.'
        )

    def _stop(self, runner: Runner, fault: str, first: int, suspects: Sequence[Iteration]) -> None:
        checkpoint = f'before_non_finite_iter_{first}.pth'
        runner.save_checkpoint(
            runner.work_dir,
            checkpoint,
            meta=dict(epoch=runner.epoch, iter=first - 1),
            backend_args=dict(backend='atomic'),
        )
        batches = []
        for iteration in suspects:
            batches.append(Path(runner.work_dir, f'non_finite_iter_{iteration.number}_batch_rank_{runner.rank}.pth'))
            torch.save(iteration.contents(), batches[-1])
        after = f' after {self._left_out_in_a_row} skipped steps in a row' if self._left_out_in_a_row else ''
        raise RunStopped(
            f'{fault}{after}. The state before that step is in {runner.work_dir}/{checkpoint}, its batch in '
            f'{" and ".join(map(str, batches))}. Look for NaN in the images of this batch, lower the learning rate, or '
            'clip the gradient (optim_wrapper.clip_grad)'
        )


def _found_inf(optimizer: torch.optim.Optimizer) -> Tensor | None:
    """Return a number above 0 if a gradient scaler asks a fused optimizer to skip the step; else ``None`` or 0."""
    return getattr(optimizer, 'found_inf', None)


def _all_finite(values: Sequence[Tensor]) -> bool:
    """Tell whether all numbers are finite, with one synchronisation with the device."""
    return not values or bool(_are_finite(values))


def _are_finite(values: Sequence[Tensor]) -> Tensor:
    """Return whether all numbers are finite, on the device of the first."""
    return torch.stack([value.to(values[0].device, torch.float32) for value in values]).isfinite().all()


def _bad_buffers(norms: Sequence[Tensor], largest: dict[str, Tensor]) -> list[str] | None:
    """Return the buffers that are not finite although the gradient is; ``None`` if the gradient is not finite."""
    return names_not_finite(largest) if _all_finite(norms) else None


def _ordinal(number: int) -> str:
    ending = 'th' if number % 100 in (11, 12, 13) else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')
    return f'{number}{ending}'
