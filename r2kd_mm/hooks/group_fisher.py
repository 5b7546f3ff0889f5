"""Prune channels of the student by mmrazor's Group Fisher method while the student is distilled."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmrazor.implementations.pruning.group_fisher import GroupFisherAlgorithm

from r2kd_mm.distillers.algorithms import algorithms
from r2kd_mm.engine import unwrapped_model
from r2kd_mm.registry import HOOKS


@HOOKS.register_module()
class GroupFisherHook(Hook):
    """Hook that runs the pruning of mmrazor's ``GroupFisherAlgorithm`` in each training step of a distiller.

    The importance of a channel includes the gradients of all losses, also those on the augmented view. Every
    ``interval`` iterations, the least important channel is removed.

    Raises:
        ValueError: The student is not a ``GroupFisherAlgorithm``.

    Example:
        >>> custom_hooks = [dict(type='GroupFisherHook')]  # in a config whose student is a GroupFisherAlgorithm
        >>> isinstance(HOOKS.build(custom_hooks[0]), GroupFisherHook)
        True
    """

    def before_train(self, runner: Runner) -> None:
        """Find the algorithm in the student."""
        student = getattr(unwrapped_model(runner), 'architecture', None)
        found = [algorithm for algorithm in algorithms(student) if isinstance(algorithm, GroupFisherAlgorithm)]
        if not found:
            raise ValueError(
                'GroupFisherHook prunes a student whose architecture is a GroupFisherAlgorithm, got a '
                f'{type(student).__name__}; change the architecture, or take the hook out'
            )
        (self._algorithm,) = found

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Start to record the step."""
        self._algorithm.mutator.start_record_info()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Update the importance of the channels, and prune every ``interval`` iterations."""
        mutator = self._algorithm.mutator
        mutator.end_record_info()
        mutator.update_imp()
        mutator.reset_recorded_info()
        if runner.iter % self._algorithm.interval == 0:
            mutator.try_prune()
            mutator.reset_imp()
