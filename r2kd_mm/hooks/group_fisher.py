"""Prune a student by Group Fisher while it is distilled."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmrazor.implementations.pruning.group_fisher import GroupFisherAlgorithm

from r2kd_mm.distillers.algorithms import algorithms
from r2kd_mm.engine import unwrapped_model
from r2kd_mm.registry import HOOKS


@HOOKS.register_module()
class GroupFisherHook(Hook):
    """Do around each step of a distiller what mmrazor's ``GroupFisherAlgorithm`` does in a step of its own.

    All losses of the step, those of the augmented view too, decide which channel matters least; every ``interval``
    iterations of the algorithm one channel goes.

    Raises:
        ValueError: The student is no ``GroupFisherAlgorithm``.
    """

    def before_train(self, runner: Runner) -> None:
        """Find the algorithm."""
        student = getattr(unwrapped_model(runner), 'architecture', None)
        found = [algorithm for algorithm in algorithms(student) if isinstance(algorithm, GroupFisherAlgorithm)]
        if not found:
            raise ValueError(
                'GroupFisherHook prunes a student whose architecture is a GroupFisherAlgorithm, got a '
                f'{type(student).__name__}; change the architecture, or take the hook out'
            )
        (self._algorithm,) = found

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Watch the step."""
        self._algorithm.mutator.start_record_info()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Learn from the step, and prune when it is time."""
        mutator = self._algorithm.mutator
        mutator.end_record_info()
        mutator.update_imp()
        mutator.reset_recorded_info()
        if runner.iter % self._algorithm.interval == 0:
            mutator.try_prune()
            mutator.reset_imp()
