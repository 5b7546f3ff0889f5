"""Refuse a learning-rate schedule that ends before the run, unless the rate then stays constant above 0.

Also refuse a schedule that counts epochs in a run that counts iterations.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.optim.scheduler.param_scheduler import (
    CosineAnnealingParamScheduler,
    CosineRestartParamScheduler,
    LinearParamScheduler,
    OneCycleParamScheduler,
    PolyParamScheduler,
    _ParamScheduler,
)


def check_counts_iterations(schedulers: Sequence[_ParamScheduler]) -> None:
    """Raise if a scheduler counts epochs (``by_epoch=True``) in an iteration-based run, where it would never step."""
    for scheduler in schedulers:
        if scheduler.by_epoch and not depends_on_scores(scheduler):
            raise ValueError(
                f'{type(scheduler).__name__} counts epochs, and IterBasedTrainLoop has none, so it would never step; '
                'set by_epoch=False, and its numbers in iterations'
            )


def check_length(schedulers: Sequence[_ParamScheduler], max_epochs: int, length: int, unit: str = 'epoch') -> None:
    """Refuse a run that is longer than its schedule if its rate then rises again, is 0, or is not defined.

    A schedule that ends early at a rate above 0 keeps this rate, and is allowed.

    Args:
        schedulers: Schedulers of one optimizer, as the Runner builds them.
        max_epochs: Length of the run.
        length: Iterations per epoch.
        unit: Unit of the numbers in the message.

    Raises:
        ValueError: ``max_epochs`` lies beyond the end of a schedule.
    """
    for scheduler in schedulers:
        steps = 1 if scheduler.by_epoch else length  # of an epoch
        course, name = _course(scheduler), type(scheduler).__name__
        last = min(scheduler.end, max_epochs * steps)  # the first step without a value from it
        if course is None or scheduler.begin + course > last:
            continue  # it does not reach its end
        complete = scheduler.begin + course
        ends = f'after {unit} {complete / steps:g}'
        way_out = (
            f'end the run there (train_cfg.max_{unit}s), or make the schedule longer by its T_max, total_steps or '
            'periods, and its end; on --resume, --allow-changes stretches it'
        )
        # T_max may be one epoch less than the run, which then ends at the minimum
        if isinstance(scheduler, CosineAnnealingParamScheduler) and last - complete > steps:
            raise ValueError(
                f'{name} is at its minimum {ends} (T_max={course / steps:g}), and {scheduler.param_name} would rise '
                f'again until {unit} {max_epochs}: {way_out}. For a schedule that starts again take CosineRestartLR'
            )
        if isinstance(scheduler, OneCycleParamScheduler) and last > complete:
            raise ValueError(
                f'{name} ends {ends} (total_steps={course / steps:g}), and the run continues until {unit} '
                f'{max_epochs}: {way_out}'
            )
        stops = complete if isinstance(scheduler, CosineRestartParamScheduler) else last
        if stops < max_epochs * steps and _ends_at_zero(scheduler):
            others = [
                min(other.end / (1 if other.by_epoch else length), max_epochs)
                for other in schedulers
                if other is not scheduler and other.param_name == scheduler.param_name
            ]
            if max(others, default=0) <= stops / steps:
                raise ValueError(
                    f'{name} brings {scheduler.param_name} down to 0 {ends}, and the run continues until {unit} '
                    f'{max_epochs}, in which it would learn nothing: {way_out}; or let it end above 0 by eta_min'
                )


def _course(scheduler: _ParamScheduler) -> int | None:
    """Return the number of steps of a schedule; ``None`` for a schedule without an end."""
    if isinstance(scheduler, CosineAnnealingParamScheduler):
        return scheduler.T_max
    if isinstance(scheduler, CosineRestartParamScheduler):
        return scheduler.cumulative_periods[-1]
    if isinstance(scheduler, OneCycleParamScheduler):
        return scheduler.total_steps
    if isinstance(scheduler, (LinearParamScheduler, PolyParamScheduler)):
        return scheduler.end - scheduler.begin
    return None


def _ends_at_zero(scheduler: _ParamScheduler) -> bool:
    if isinstance(scheduler, LinearParamScheduler):
        return scheduler.end_factor == 0
    ratio = getattr(scheduler, 'eta_min_ratio', None)
    return (getattr(scheduler, 'eta_min', 0) or 0) == 0 and not ratio


def depends_on_scores(scheduler: _ParamScheduler) -> bool:
    """Tell whether a scheduler follows validation scores (``ReduceOnPlateau``)."""
    return getattr(scheduler, 'need_val_args', False)
