"""Undo an optimizer step whose gradients, losses or buffers are NaN or infinite.

The GPU itself decides and restores the old values, so the CPU does not wait for the GPU.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from mmengine.hooks import EMAHook
from mmengine.runner import Runner
from torch import Tensor, nn

from r2kd_mm.hooks.step_state import Kept


class DeviceStep:
    """Guard that copies the state before an optimizer step, and restores it on the device if the step was not finite.

    Args:
        runner: Runner of the training.
        parameters: Parameters that the optimizer updates.
        allowed: Number of bad steps in a row that are tolerated; one more ends the run.
    """

    def __init__(self, runner: Runner, parameters: list[nn.Parameter], allowed: int) -> None:
        device = parameters[0].device
        self.in_a_row = torch.zeros((), dtype=torch.int32, device=device)
        self.has_ended = torch.zeros((), dtype=torch.bool, device=device)
        self._runner = runner
        self._parameters = parameters
        self._allowed = allowed
        self._with_state: set[nn.Parameter] = set()  # parameters that took a step
        self._kept = Kept()
        self._is_good: Tensor | None = None  # the step that is being taken
        models = [hook.ema_model for hook in runner.hooks if isinstance(hook, EMAHook)]
        self._averages = [
            (model, [tensor for tensor in (*model.parameters(), *model.buffers()) if tensor.device == device], Kept())
            for model in models
        ]

    def can_take_back(self) -> bool:
        """Return whether all that a step changes is on the device, and there before the step."""
        optimizer = self._runner.optim_wrapper.optimizer
        changed = [parameter for parameter in self._parameters if parameter.grad is not None]
        return (
            bool(changed)
            and type(optimizer).__module__.startswith('torch.optim')
            and self._with_state.issuperset(changed)
            and all(
                value is None or (isinstance(value, Tensor) and value.device == parameter.device)
                for parameter in changed
                for value in optimizer.state.get(parameter, {}).values()
            )
        )

    def decide(self, is_finite: Tensor) -> None:
        """Decide on the step that begins now; after the end of the run all steps are bad."""
        self.in_a_row = (self.in_a_row + 1) * ~is_finite
        self.has_ended = self.has_ended | (self.in_a_row > self._allowed)
        self._is_good = is_finite & ~self.has_ended
        state = self._runner.optim_wrapper.optimizer.state
        changed = [parameter for parameter in self._parameters if parameter.grad is not None]
        of_state = [value for parameter in changed for value in state.get(parameter, {}).values() if value is not None]
        self._kept.keep([*changed, *of_state])

    def take_back(self) -> Tensor | None:
        """Take the step back if it is bad; return the flag, or ``None`` if the host has decided on this step."""
        is_good, self._is_good = self._is_good, None
        if is_good is not None:
            self._kept.put_back_unless(is_good)
        else:
            self._with_state.update(parameter for parameter in self._parameters if parameter.grad is not None)
        return is_good

    def keep_averages(self) -> None:
        """Keep the averaged weights; take their update back if the run has ended before it."""
        for _, tensors, kept in self._averages:
            kept.put_back_unless(~self.has_ended)
            kept.keep(tensors)

    def host_state(self) -> tuple[list[dict], list[dict], list[Tensor]]:
        """Copy what the host changes between steps: settings of the optimizer, schedules and counts of averages."""
        groups = self._runner.optim_wrapper.optimizer.param_groups
        settings = [{name: value for name, value in group.items() if name != 'params'} for group in groups]
        schedules = [copy.deepcopy(schedule.state_dict()) for schedule in self._schedules]
        return settings, schedules, [model.steps.clone() for model, *_ in self._averages]

    def put_back_host_state(self, settings: list[dict], schedules: list[dict], averages: list[Tensor]) -> None:
        """Put back what :meth:`host_state` returned, and the averaged weights."""
        for group, of_group in zip(self._runner.optim_wrapper.optimizer.param_groups, settings):
            group.update(of_group)
        for schedule, state in zip(self._schedules, schedules):
            schedule.load_state_dict(state)
        for (model, _, kept), steps in zip(self._averages, averages):
            kept.put_back_unless(~self.has_ended)
            model.steps.copy_(steps)

    @property
    def _schedules(self) -> list[Any]:
        schedules = self._runner.param_schedulers or []
        return schedules if isinstance(schedules, list) else [one for several in schedules.values() for one in several]
