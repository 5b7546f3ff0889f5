"""Keep a step that would ruin the student from being taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.dist import all_reduce
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


@dataclass(frozen=True)
class _Iteration:
    """One of the iterations whose gradients a step adds up: its number from 1, its batch, its logits and its losses."""

    number: int
    batch: dict
    logits: dict[tuple[str, str], Tensor]
    losses: dict[str, Tensor]

    @property
    def culprits(self) -> list[str]:
        """The logits that are not finite."""
        return [
            f'the {network} logits of the {view} images'
            for (view, network), logits in self.logits.items()
            if not logits.isfinite().all()
        ]

    @property
    def bad_losses(self) -> list[str]:
        """The losses that are not finite."""
        return [name for name, value in self.losses.items() if not value.isfinite()]

    @property
    def paths(self) -> list[str | None]:
        """The image files, where there are any."""
        return [sample.get('img_path') for sample in self.batch['data_samples']]

    def contents(self) -> dict:
        """The batch as the data loader gave it, and its logits, by plain types."""
        return dict(
            inputs=self.batch['inputs'],
            labels=[sample.gt_label.tolist() for sample in self.batch['data_samples']],
            paths=self.paths,
            logits={f'{view}.{network}': logits for (view, network), logits in self.logits.items()},
        )


@HOOKS.register_module()
class FiniteCheckHook(Hook):
    """Take no step with a gradient, loss or buffer that is NaN or infinite: stop with the last good state, or skip it.

    The check runs before every optimizer step. It sees the gradients, the losses, and the student's buffers of that
    step, such as batch-norm statistics. Buffers that were not finite to begin with, such as a mask, are left out.
    Weights, optimizer and buffers stay as they were before the step that went wrong, with gradient accumulation before
    the first of its iterations. It costs one synchronisation with the device a step, and a copy of the buffers.

    A gradient scaler (``AmpOptimWrapper``) leaves such a step out itself, that of a fused optimizer too, and lowers its
    scale. Where logits or batch-norm statistics are not finite either, the scale is not to blame and the hook acts as
    without a scaler; else it acts when more than ``max_skips`` steps in a row were left out.

    Args:
        action: ``'stop'`` ends the run, with a checkpoint of the good state and the batch for inspection in the work
            dir. ``'skip'`` leaves the step out, with a warning that names the first images, and counts it.
        max_skips: End the run like ``'stop'`` when more than so many steps in a row would be skipped, >= 1.

    Raises:
        RunStopped: Says in which iteration, which losses, logits or buffers were not finite, and where checkpoint and
            batch are.
        ValueError: An argument is out of range.
    """

    def __init__(self, action: str = 'stop', max_skips: int = 10) -> None:
        if action not in ACTIONS:
            raise ValueError(f'action must be one of {ACTIONS}, got {action!r}')
        if max_skips < 1:
            raise ValueError(f"max_skips must be at least 1, got {max_skips}; action='stop' skips none")
        self.action = action
        self.max_skips = max_skips
        self._left_out_in_a_row = 0
        self._earlier: list[_Iteration] = []  # of the step that is being accumulated

    def before_train(self, runner: Runner) -> None:
        """Look at the gradients before each step of the optimizer."""
        self._distiller = unwrapped_distiller(runner, type(self).__name__)
        self._buffers = _Buffers(self._distiller)
        self._losses: dict[str, Tensor] = {}
        self._losses_handle = self._distiller.register_forward_hook(self._keep_losses)
        optimizer = runner.optim_wrapper.optimizer
        parameters = [parameter for group in optimizer.param_groups for parameter in group['params']]
        self._handle = optimizer.register_step_pre_hook(
            lambda *_: self._check(runner, parameters, _found_inf(optimizer))
        )

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Keep the batch, and the batch-norm statistics, which the forward passes of the step change."""
        self._batch = data_batch or {}
        self._is_checked = False
        if not self._earlier:
            self._buffers.keep()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Remember an iteration without a step: one of several, or one whose step a gradient scaler left out."""
        if not self._is_checked:
            if not runner.optim_wrapper.should_update():
                self._earlier.append(self._iteration(runner))
                return
            self._check_without_step(runner)
        self._earlier = []

    def after_train(self, runner: Runner) -> None:
        """Leave the optimizer as it was found."""
        self._handle.remove()
        self._losses_handle.remove()

    def _keep_losses(self, _distiller: nn.Module, _inputs: tuple, outputs: dict | list | Tensor) -> None:
        """Keep the terms that are trained, of a forward pass that gives losses."""
        if isinstance(outputs, dict):
            self._losses = {name: value.detach().mean() for name, value in outputs.items() if 'loss' in name}

    @torch.no_grad()
    def _check(self, runner: Runner, parameters: list[nn.Parameter], found_inf: Tensor | None) -> None:
        if found_inf is not None and found_inf > 0:
            # the scaler leaves this step out. A fused SGD would make momentum of uninitialised memory in it
            for parameter in parameters:
                parameter.grad = None
            return
        self._is_checked = True
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        iterations = [*self._earlier, self._iteration(runner)]
        losses = [value for iteration in iterations for value in iteration.losses.values()]
        norms = list(torch._foreach_norm(gradients)) if gradients else []
        is_finite = torch.tensor(int(_all_finite([*norms, *losses, *self._buffers.largest()])))
        all_reduce(is_finite, 'min')  # the processes share the gradient, but neither losses nor buffers
        if is_finite:
            self._left_out_in_a_row = 0
            return
        bad_buffers = self._buffers.names_not_finite() if _all_finite(norms) else None
        self._leave_out(runner, iterations, _describe(iterations, bad_buffers))
        for parameter in parameters:
            parameter.grad = None  # an optimizer passes over such a parameter, momentum and weight decay included

    @torch.no_grad()
    def _check_without_step(self, runner: Runner) -> None:
        iterations = [*self._earlier, self._iteration(runner)]
        losses = [value for iteration in iterations for value in iteration.losses.values()]
        is_the_scale = _all_finite([*losses, *self._buffers.largest()]) and not _with_culprits(iterations)
        agreed = torch.tensor(int(is_the_scale))  # all processes left the step out, and one may know why
        all_reduce(agreed, 'min')
        if agreed and self._left_out_in_a_row < self.max_skips:
            self._left_out_in_a_row += 1
        else:
            self._leave_out(runner, iterations, _describe(iterations))

    def _iteration(self, runner: Runner) -> _Iteration:
        return _Iteration(runner.iter + 1, self._batch, dict(self._distiller.step_logits), self._losses)

    def _leave_out(self, runner: Runner, iterations: Sequence[_Iteration], fault: str) -> None:
        """Undo what the iterations of a step did to the student's buffers; stop, or warn and count."""
        suspects = _with_culprits(iterations) or iterations
        self._buffers.put_back()
        if self.action == 'stop' or self._left_out_in_a_row >= self.max_skips:
            self._stop(runner, fault, iterations[0].number, suspects)
        self._left_out_in_a_row += 1
        skipped = runner.message_hub.runtime_info.get(SKIPPED_STEPS, 0) + 1
        runner.message_hub.update_info(SKIPPED_STEPS, skipped)
        images = ', '.join(path for path in suspects[0].paths[:SHOWN_IMAGES] if path)
        runner.logger.warning(
            f'{fault}: this step is left out, the {_ordinal(skipped)} in this run'
            f'{f". The first images of the batch are {images}" if images else ""}.'
        )

    def _stop(self, runner: Runner, fault: str, first: int, suspects: Sequence[_Iteration]) -> None:
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


class _Buffers:
    """The buffers of a network before a step and after it, also those that it makes or replaces in that step."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._before: dict[str, Tensor] = {}
        self._values: list[Tensor] = []
        self._not_finite: set[str] = set()  # before the step, such as a mask of minus infinity
        self.keep()

    @torch.no_grad()
    def keep(self) -> None:
        """Take the state of now for the one before the step."""
        self._tables = [(module, dict(module._buffers)) for module in self._network.modules() if module._buffers]
        now = dict(self._network.named_buffers())
        is_same = now.keys() == self._before.keys() and all(now[name] is self._before[name] for name in now)
        if now and is_same:
            torch._foreach_copy_(self._values, list(now.values()))
        elif not is_same:
            self._before, self._values = now, [buffer.clone() for buffer in now.values()]
            self._not_finite = set()
            self._not_finite.update(self.names_not_finite())

    def largest(self) -> list[Tensor]:
        """The largest magnitude of each buffer of now that was finite before the step, in no order."""
        return list(self._largest().values())

    def names_not_finite(self) -> list[str]:
        """The buffers that became infinite or NaN in the step."""
        return [name for name, value in self._largest().items() if not value.isfinite()]

    @torch.no_grad()
    def put_back(self) -> None:
        """Make the buffers what they were before the step: the same tensors with the same values."""
        for buffer, value in zip(self._before.values(), self._values):
            buffer.copy_(value)
        for module, buffers in self._tables:
            module._buffers.clear()
            module._buffers.update(buffers)

    def _largest(self) -> dict[str, Tensor]:
        watched = {
            name: buffer
            for name, buffer in self._network.named_buffers()
            if buffer.is_floating_point() and buffer.numel() and name not in self._not_finite
        }
        if not watched:
            return {}
        norms = dict(zip(watched, torch._foreach_norm(list(watched.values()), float('inf'))))
        # one that the step has made may be a mask: of these, NaN alone is wrong
        return {
            name: norm if name in self._before else norm.masked_fill(norm.isinf(), 0) for name, norm in norms.items()
        }


def _found_inf(optimizer: torch.optim.Optimizer) -> Tensor | None:
    """Above 0 where a gradient scaler asks a fused optimizer to leave the step out; others it does not call then."""
    return getattr(optimizer, 'found_inf', None)


def _with_culprits(iterations: Sequence[_Iteration]) -> list[_Iteration]:
    return [iteration for iteration in iterations if iteration.culprits]


def _all_finite(values: Sequence[Tensor]) -> bool:
    """Whether all numbers are finite; one synchronisation with the device."""
    return not values or bool(
        torch.stack([value.to(values[0].device, torch.float32) for value in values]).isfinite().all()
    )


def _describe(iterations: Sequence[_Iteration], bad_buffers: list[str] | None = None) -> str:
    """Say what is not finite.

    Args:
        iterations: Of the step.
        bad_buffers: The buffers that are not, where the gradient is; ``None`` where the gradient is to blame.
    """
    first, last = iterations[0].number, iterations[-1].number
    several = last > first
    culprits = [
        culprit + (f' in iteration {iteration.number}' if several else '')
        for iteration in iterations
        for culprit in iteration.culprits
    ]
    if bad_buffers is None:
        what = 'the gradient'
    else:
        losses = dict.fromkeys(name for iteration in iterations for name in iteration.bad_losses)
        bad = [*(f'the loss {name}' for name in losses), *(f'the buffer {name}' for name in bad_buffers)]
        what = ' and '.join(bad) or 'a loss or a buffer of another process'
    return (
        f'{what} of iteration{f"s {first} to {last}" if several else f" {last}"} is not finite'
        f'{"; nor are " + " and ".join(culprits) if culprits else ", though all logits are"}'
    )


def _ordinal(number: int) -> str:
    ending = 'th' if number % 100 in (11, 12, 13) else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')
    return f'{number}{ending}'
