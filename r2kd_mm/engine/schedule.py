"""Check that the learning-rate schedule fits the length of the run.

On resume, also compare the optimizer and schedule settings of the config with those in the checkpoint.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.optim.scheduler.param_scheduler import _ParamScheduler
from mmengine.runner import IterBasedTrainLoop, Runner

from r2kd_mm.engine.schedule_length import check_counts_iterations, check_length, depends_on_scores
from r2kd_mm.signatures import parameters_of

# Settings that schedulers compute from their arguments, and arguments that do not affect the values so far.
DERIVED = {'total_iters', 'total_steps'}
NO_SETTINGS = {'optimizer', 'param_name', 'end', 'last_step', 'verbose'}
SCALER_SETTINGS = ('growth_factor', 'backoff_factor', 'growth_interval')  # the scale itself is found in training
SHOWN_POINTS = 8  # of the curve in the log


class ScheduleHook(Hook):
    """Hook that checks the schedule against the length of the run, and against the checkpoint on resume.

    MMEngine restores optimizer and schedulers from the checkpoint with all their settings, and ignores the config of
    the resumed run. This hook compares both. If they agree, the restored state is left unchanged, bit by bit. If only
    the end of the schedule moved, the run continues as if the end had been there from the start. Any other difference
    is an error, unless a hook of the run has ``allow_changes=True`` (:class:`~r2kd_mm.hooks.RunRecordHook` has it with
    ``--allow-changes``). Then the config wins: its settings, and the values of its schedule at this iteration.

    Raises:
        ValueError: The schedule does not fit the length of the run, see
            :func:`~r2kd_mm.engine.schedule_length.check_length`; the checkpoint has no optimizer state; or its schedule
            differs from the config.
    """

    priority = 'ABOVE_NORMAL'  # RunRecordHook has compared the configs, and no teacher was scored

    def before_run(self, runner: Runner) -> None:
        """Check the schedules as built, and keep them, because a resume overwrites them."""
        if not isinstance(runner.optim_wrapper, (OptimWrapper, OptimWrapperDict)):
            return  # the run only tests
        self._schedules = [_Schedule(wrapper, schedulers) for wrapper, schedulers in _by_optimizer(runner)]
        self._has_state = True
        for schedule in self._schedules:
            time = _Time.of(runner)
            if time.unit == 'iter':
                check_counts_iterations(schedule.schedulers)
            check_length(schedule.schedulers, time.end, time.length, time.unit)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Refuse to resume without the optimizer."""
        if runner._resume and 'optimizer' not in checkpoint:
            raise ValueError(
                'the checkpoint has no state of the optimizer (save_optimizer=False?), so no run can resume from it; '
                'start from its weights by load_from without resume, or resume from another checkpoint'
            )
        self._has_state = not runner._resume or 'param_schedulers' in checkpoint

    def before_train(self, runner: Runner) -> None:
        """Compare the restored settings with the config; apply the config if changes are allowed."""
        if runner.iter == 0:
            return
        allowed = any(getattr(hook, 'allow_changes', False) for hook in runner.hooks)
        for schedule in self._schedules:
            changes = schedule.changes(with_optimizer=allowed)
            if changes and not allowed:
                raise ValueError(
                    'the schedule of the resumed run differs from that of its checkpoint: '
                    f'{"; ".join(changes)}. Another train_cfg.max_epochs changes a schedule that ends with the run. '
                    'Resume with the length and the schedule of before, start again in another --work-dir, or let '
                    'the rest of the run follow the new schedule by --allow-changes'
                )
            if changes or (schedule.schedulers and not self._has_state):
                curve = schedule.put_in_force(runner, whole=allowed)
                runner.logger.warning(
                    'The resumed run follows the schedule of its config'
                    f'{": " if changes else ""}{"; ".join(changes)}. From here on {curve}.'
                )
            else:
                schedule.move_end()


@dataclass
class _Schedule:
    """One optimizer, the schedulers of its parameters, and both as they were built from the config."""

    wrapper: OptimWrapper
    schedulers: Sequence[_ParamScheduler]

    def __post_init__(self) -> None:
        self.groups = _without_params(self.wrapper.param_groups)
        self.states = [copy.deepcopy(scheduler.state_dict()) for scheduler in self.schedulers]
        self.scaling = self._read_scaling()

    def _read_scaling(self) -> dict[str, Any]:
        """Return the settings of the gradient scaler; empty without one."""
        scaler = getattr(self.wrapper, 'loss_scaler', None)
        state = {} if scaler is None else scaler.state_dict()
        return {name: state[name] for name in SCALER_SETTINGS if name in state}

    @property
    def _scheduled(self) -> set[str]:
        """The entries of a parameter group that the schedulers write."""
        names = {scheduler.param_name for scheduler in self.schedulers}
        if any(getattr(scheduler, 'use_betas', False) for scheduler in self.schedulers):
            names.add('betas')  # the first of which is the momentum
        return names | {f'{bound}_{name}' for name in names for bound in ('initial', 'max', 'min')}

    def changes(self, with_optimizer: bool) -> list[str]:
        """List the settings that differ between the config and the checkpoint; another ``end`` does not count.

        Args:
            with_optimizer: Compare also entries that no scheduler writes, such as the weight decay. A hook may change
                them.
        """
        found = [
            f'{type(scheduler).__name__}.{name}: {_show(restored)} -> {_show(built)}'
            for scheduler, state in zip(self.schedulers, self.states)
            for name, restored, built in _differing(scheduler, state)
        ]
        scheduled = self._scheduled
        for group, built in zip(self.wrapper.param_groups, self.groups):
            for name, value in built.items():
                is_start = name.startswith('initial_')
                if group.get(name) != value and (is_start or (with_optimizer and name not in scheduled)):
                    found.append(f'{name.removeprefix("initial_")}: {_show(group.get(name))} -> {_show(value)}')
        for name, value in self._read_scaling().items() if with_optimizer else ():
            if self.scaling[name] != value:
                found.append(f'{name}: {value} -> {self.scaling[name]}')
        return list(dict.fromkeys(found))

    def move_end(self) -> None:
        """Use the ends of the config if nothing else differs; the values so far are the same.

        A complete run has not set the value after its last step. This sets it, in the order of ``ParamSchedulerHook``.
        """
        pairs = zip(self.schedulers, self.states)
        for scheduler, state in sorted(pairs, key=lambda pair: pair[0].by_epoch):
            was_over = scheduler.end == scheduler._global_step < state['end']
            scheduler.end = state['end']
            if was_over and not depends_on_scores(scheduler):
                scheduler._global_step -= 1
                scheduler.step()

    def put_in_force(self, runner: Runner, whole: bool) -> str:
        """Use the settings of the config, with the values that they give at this iteration.

        Args:
            runner: Runner with the progress of the run.
            whole: Apply also the entries that no scheduler writes.

        Returns:
            Description of the remaining curve.

        Raises:
            ValueError: The values depend on the validation scores so far, which are not known.
        """
        if any(map(depends_on_scores, self.schedulers)):
            raise ValueError(
                'the optimizer or its schedule has other settings than in the checkpoint, and a schedule by validation '
                'scores (ReduceOnPlateau) cannot be worked out again for them; start again in another --work-dir'
            )
        replayed, time = _Replay(self), _Time.of(runner)
        replayed.advance(runner.iter, time.now, time.length)
        scheduled = self._scheduled
        for group, values in zip(self.wrapper.param_groups, replayed.groups):
            group.update({name: value for name, value in values.items() if whole or name in scheduled})
        for scheduler, state in zip(self.schedulers, replayed.states):
            scheduler.load_state_dict(state)
        if whole:  # fused kernels want the state of the optimizer elsewhere
            self.wrapper.optimizer.load_state_dict(self.wrapper.optimizer.state_dict())
            if self.scaling:
                self.wrapper.loss_scaler.load_state_dict({**self.wrapper.loss_scaler.state_dict(), **self.scaling})
        return replayed.describe(runner.iter, time)


class _Time(NamedTuple):
    """Progress of a run, in epochs of ``length`` iterations; training by iterations has epochs of length 1."""

    unit: str
    now: int
    end: int
    length: int

    @classmethod
    def of(cls, runner: Runner) -> _Time:
        if isinstance(runner.train_loop, IterBasedTrainLoop):
            return cls('iter', runner.iter, runner.max_iters, 1)
        return cls('epoch', runner.epoch, runner.max_epochs, len(runner.train_dataloader))


class _Replay:
    """Copy of the schedulers and parameter groups that replays the run from its start."""

    def __init__(self, schedule: _Schedule) -> None:
        # a scheduler asks its optimizer for the groups, and whether it stepped
        stepped = SimpleNamespace(_with_counter=True)
        self.groups = copy.deepcopy(schedule.groups)
        optimizer = SimpleNamespace(param_groups=self.groups, step=stepped, _global_step=0)
        self.schedulers = [copy.copy(scheduler) for scheduler in schedule.schedulers]
        for scheduler, state in zip(self.schedulers, schedule.states):
            vars(scheduler).update(copy.deepcopy(state), optimizer=optimizer)

    @property
    def states(self) -> list[dict[str, Any]]:
        """The states of the schedulers."""
        return [scheduler.state_dict() for scheduler in self.schedulers]

    def advance(self, iterations: int, epochs: int, length: int) -> None:
        """Step as ``ParamSchedulerHook`` does in ``iterations`` and at the end of ``epochs`` of this length."""
        by_epoch = [scheduler for scheduler in self.schedulers if scheduler.by_epoch]
        by_iteration = [scheduler for scheduler in self.schedulers if not scheduler.by_epoch]
        for epoch in range(epochs + 1):
            for _ in range(min(length, iterations - epoch * length) if by_iteration else 0):
                for scheduler in by_iteration:
                    scheduler.step()
            for scheduler in by_epoch if epoch < epochs else []:
                scheduler.step()

    def describe(self, iteration: int, time: _Time) -> str:
        """Describe the values at the start of some of the remaining epochs."""
        names = sorted({scheduler.param_name for scheduler in self.schedulers})
        if not names or time.now >= time.end:
            return 'the values are constant'
        points = [self._values(names)]
        for epoch in range(time.now + 1, time.end):
            self.advance(epoch * time.length - iteration, 0, time.length)
            for scheduler in self.schedulers:
                if scheduler.by_epoch:
                    scheduler.step()
            iteration = epoch * time.length
            points.append(self._values(names))
        every = math.ceil(len(points) / SHOWN_POINTS)
        shown = [*range(0, len(points) - 1, every), len(points) - 1]
        return ', '.join(f'{points[place]} in {time.unit} {time.now + place + 1}' for place in shown)

    def _values(self, names: Sequence[str]) -> str:
        return ' and '.join(f'{name} {self.groups[0][name]:.3g}' for name in names)


def _differing(scheduler: _ParamScheduler, built: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield name, restored value and built value of the settings that differ."""
    restored = scheduler.state_dict()
    settings = (set(parameters_of(type(scheduler)) or ()) | DERIVED) - NO_SETTINGS
    for name in sorted(settings & restored.keys() & built.keys()):
        if restored[name] != built[name]:
            yield name, restored[name], built[name]


def _by_optimizer(runner: Runner) -> list[tuple[OptimWrapper, Sequence[_ParamScheduler]]]:
    """Return each optimizer with its schedulers."""
    wrapper, schedulers = runner.optim_wrapper, runner.param_schedulers or []
    if isinstance(wrapper, OptimWrapperDict):
        return [(part, schedulers[name] if schedulers else []) for name, part in wrapper.items()]
    return [(wrapper, schedulers)]


def _without_params(groups: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: copy.deepcopy(value) for name, value in group.items() if name != 'params'} for group in groups]


def _show(value: Any) -> str:
    return repr(dict(value) if isinstance(value, dict) else value)
