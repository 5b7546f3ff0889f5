"""Find trainable parameters that receive no gradient in the first step, and warn or raise an error."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.runner import Runner

from r2kd_mm.engine import unwrapped_model
from r2kd_mm.registry import HOOKS


@HOOKS.register_module()
class GradientCheckHook(Hook):
    """Hook that warns or raises if a trainable parameter has no gradient in the first step, and names the parameter.

    With one process, such a parameter keeps its initial value, and the hook only warns. With several processes,
    DistributedDataParallel would fail in the second step without naming the parameter, unless the config has
    ``find_unused_parameters=True``.

    Raises:
        ValueError: A parameter has no gradient, there are several processes, and ``find_unused_parameters`` is False.

    Example:
        >>> custom_hooks = [dict(type='GradientCheckHook')]  # in a config
        >>> isinstance(HOOKS.build(custom_hooks[0]), GradientCheckHook)
        True
    """

    def before_train(self, runner: Runner) -> None:
        """Check before the first step of the optimizer."""
        self._handle = runner.optim_wrapper.optimizer.register_step_pre_hook(lambda *_: self._check(runner))
        self._checked = False

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Remove the check; earlier it would upset the hooks that come after it."""
        if self._checked:
            self._handle.remove()

    def _check(self, runner: Runner) -> None:
        parameters = [item for item in unwrapped_model(runner).named_parameters() if item[1].requires_grad]
        names = [name for name, value in parameters if value.grad is None]
        if len(names) == len(parameters):  # a FiniteCheckHook before this one has left the step out
            return
        self._checked = True
        if not names:
            return
        message = f'{len(names)} trainable parameters received no gradient in the first step: {", ".join(names)}'
        if runner.world_size > 1 and not getattr(runner.model, 'find_unused_parameters', True):
            raise ValueError(
                f'{message}; with several processes, take them out of the student, freeze them (requires_grad=False), '
                'or set find_unused_parameters=True in the config, which costs time'
            )
        runner.logger.warning(f'{message}; they stay as they were initialised.')
