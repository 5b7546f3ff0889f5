"""Schedule the weight of one distillation loss, or of all losses on augmented images: start, ramp-up and end."""

from __future__ import annotations

from abc import abstractmethod

from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner

from r2kd_mm.distillers import LogitDistiller
from r2kd_mm.hooks.distiller import unwrapped_distiller
from r2kd_mm.registry import HOOKS


def scheduled_scale(time: int, begin: int, end: int | None, scale: float, ramp: int) -> float:
    """Return the loss scale at ``time``: 0 before ``begin``, then a linear ramp up to ``scale``, and 0 from ``end`` on.

    Example:
        >>> [scheduled_scale(epoch, begin=1, end=5, scale=1.0, ramp=1) for epoch in range(6)]
        [0.0, 0.5, 1.0, 1.0, 1.0, 0.0]
    """
    if time < begin or (end is not None and time >= end):
        return 0.0
    if time >= begin + ramp:
        return scale
    return scale * (time - begin + 1) / (ramp + 1)


class _ScheduleHook(Hook):
    """Give a part of the distiller its scale at the start of every epoch or iteration.

    Args:
        begin: First epoch or iteration, counted from 0, in which the part acts.
        end: First one in which it no longer acts; ``None`` for never.
        by_epoch: Count epochs rather than iterations.
        scale: Factor of the part's losses once it is fully on, > 0.
        ramp: Number of epochs or iterations over which the factor rises in equal steps.

    Raises:
        ValueError: A number is out of range; or training that has no epochs is to be counted by them.
    """

    def __init__(
        self, begin: int = 0, end: int | None = None, by_epoch: bool = True, scale: float = 1.0, ramp: int = 0
    ) -> None:
        if begin < 0 or ramp < 0:
            raise ValueError(f'begin and ramp must be >= 0, got begin={begin} and ramp={ramp}')
        if end is not None and end <= begin:
            raise ValueError(
                f'end must come after begin, got begin={begin} and end={end}; leave the loss or the '
                'augmentation out of the config if it is never to act'
            )
        if not 0 < scale < float('inf'):
            raise ValueError(f'scale must be > 0, got {scale}')
        self.begin = begin
        self.end = end
        self.by_epoch = by_epoch
        self.scale = scale
        self.ramp = ramp

    def before_run(self, runner: Runner) -> None:
        """Report a mistake in the config before anything is loaded or trained."""
        self._update(runner, 0)

    def before_train(self, runner: Runner) -> None:
        """Refuse to count epochs where there is only one, which would leave the scale as it begins."""
        if self.by_epoch and isinstance(runner.train_loop, IterBasedTrainLoop):
            raise ValueError(
                f'{type(self).__name__} counts epochs, and {type(runner.train_loop).__name__} has none; set '
                'by_epoch=False, and begin, end and ramp in iterations'
            )

    def before_train_epoch(self, runner: Runner) -> None:
        """Set the scale of the epoch that begins."""
        if self.by_epoch:
            self._update(runner, runner.epoch)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        """Set the scale of the iteration that begins."""
        if not self.by_epoch:
            self._update(runner, runner.iter)

    def _update(self, runner: Runner, time: int) -> None:
        scale = scheduled_scale(time, self.begin, self.end, self.scale, self.ramp)
        self.set_scale(unwrapped_distiller(runner, type(self).__name__), scale)

    @abstractmethod
    def set_scale(self, distiller: LogitDistiller, scale: float) -> None:
        """Give the scheduled part its scale."""


@HOOKS.register_module()
class AugmentationScheduleHook(_ScheduleHook):
    """Schedule the augmented view: from when, until when, and with which weight its losses act.

    While the scale is 0 the view is not made and no network runs on it. The arguments are those of
    :class:`LossScheduleHook` without ``loss``.

    Example:
        >>> custom_hooks = [dict(type='AugmentationScheduleHook', begin=10, ramp=5)]  # in a config
        >>> HOOKS.build(custom_hooks[0]).begin
        10
    """

    def set_scale(self, distiller: LogitDistiller, scale: float) -> None:
        """Scale all losses of the augmented view."""
        distiller.step.objective.set_augmented_scale(scale)


@HOOKS.register_module()
class LossScheduleHook(_ScheduleHook):
    """Schedule one distillation loss by its name: warm-up, ramp, and stop.

    Once every loss has stopped, the teachers are no longer run, and neither is the augmented view made.

    Args:
        loss: Name of the loss in the distiller's ``losses``.
        begin: First epoch or iteration, counted from 0, in which the loss acts.
        end: First epoch or iteration in which it no longer acts; ``None`` for never.
        by_epoch: Count epochs rather than iterations.
        scale: Factor of the loss once it is fully on, > 0.
        ramp: Number of epochs or iterations over which the factor rises in equal steps.

    Example:
        >>> custom_hooks = [dict(type='LossScheduleHook', loss='loss_rank', ramp=10)]  # in a config
        >>> HOOKS.build(custom_hooks[0]).loss
        'loss_rank'
    """

    def __init__(
        self,
        loss: str,
        begin: int = 0,
        end: int | None = None,
        by_epoch: bool = True,
        scale: float = 1.0,
        ramp: int = 0,
    ) -> None:
        super().__init__(begin, end, by_epoch, scale, ramp)
        self.loss = loss

    def set_scale(self, distiller: LogitDistiller, scale: float) -> None:
        """Scale the loss on both views."""
        distiller.step.objective.set_loss_scale(self.loss, scale)
