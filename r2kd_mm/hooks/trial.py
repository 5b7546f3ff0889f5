"""Report each validation accuracy of a run to an Optuna search, and stop the run if Optuna's pruner asks for it."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.runner import Runner

from r2kd_mm.engine.study import open_study, require_optuna
from r2kd_mm.registry import HOOKS

ACCURACY = 'accuracy/top1'


@HOOKS.register_module()
class TrialHook(Hook):
    """Hook that reports each validation accuracy to an Optuna study, and stops the run if Optuna's pruner asks for it.

    A pruned run ends as with ``EarlyStoppingHook``, with a checkpoint of its last epoch.

    Args:
        journal: Journal file of the study.
        trial: Number of the trial in the study.
        pruner: Name of the pruner, one of :data:`r2kd_mm.engine.study.PRUNERS`.

    Raises:
        ImportError: Optuna is not installed.

    Example:
        >>> hook = dict(type='TrialHook', journal='tune/study.journal', trial=3)  # in default_hooks of a config
        >>> sorted(hook)
        ['journal', 'trial', 'type']
    """

    def __init__(self, journal: str, trial: int, pruner: str = 'median') -> None:
        require_optuna()
        self.journal, self.trial, self.pruner = journal, trial, pruner

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Report the accuracy, and look whether the trial goes on."""
        import optuna

        study = open_study(self.journal, self.pruner)
        known = study.trials[self.trial]
        if runner.epoch in known.intermediate_values:  # of a run that was resumed
            return
        trial = optuna.trial.Trial(study, known._trial_id)
        trial.report((metrics or {})[ACCURACY], step=runner.epoch)
        if runner.epoch < runner.max_epochs and trial.should_prune():
            runner.logger.info(f'Trial {self.trial} is stopped after epoch {runner.epoch}: earlier ones were better.')
            runner.train_loop.stop_training = True
