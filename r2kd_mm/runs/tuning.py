"""Search with Optuna for the values of config fields that give the best validation accuracy."""

from __future__ import annotations

import os
import runpy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from r2kd_mm.engine.study import JOURNAL, open_study, require_optuna
from r2kd_mm.runs.compare import complete
from r2kd_mm.runs.grid import Engine
from r2kd_mm.runs.plan import Method, Run, load_config, plan_runs
from r2kd_mm.runs.result import Result, load_result
from r2kd_mm.runs.state import has_test_set

if TYPE_CHECKING:
    import optuna

_OPTIONS = 'options'  # of a trial: the fields of the config and their values
_WITHOUT_TEST = {'test_dataloader': None, 'test_cfg': None, 'test_evaluator': None}
_TOGETHER = 5  # trials that are begun at a time, at least: a worker's start costs as much as a small trial
_SEED = 0  # of the trials; the finalists have others


@dataclass(frozen=True)
class Search:
    """Hyper-parameter search for one config.

    Args:
        method: The config to tune, with options that apply to all trials.
        space: Function that takes an ``optuna.Trial`` and returns new values by dotted key.
        folder: Folder for the study and its runs.
        pruner: Name of the pruner, one of :data:`r2kd_mm.engine.study.PRUNERS`.

    Example:
        >>> def space(trial):
        ...     return {'optim_wrapper.optimizer.lr': trial.suggest_float('lr', 0.01, 1.0, log=True)}
        >>> search = Search(Method('KD', 'kd.py'), space, Path('work_dirs/tune/KD'))
        >>> search.journal.name
        'study.journal'
    """

    method: Method
    space: Callable[[optuna.Trial], Mapping[str, Any]]
    folder: Path
    pruner: str = 'median'

    @property
    def journal(self) -> Path:
        """The file of the study."""
        return self.folder / JOURNAL

    @property
    def _runs(self) -> Path:
        return self.folder / 'runs'

    @cached_property
    def study(self) -> optuna.Study:
        """The study, with all its trials."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return open_study(self.journal, self.pruner)

    def check(self) -> None:
        """Refuse what would fail later: a space with a field that no run reads, or a config without test images.

        Raises:
            ValueError: It would.
            TypeError: A part of the config does not take a field of the space.
        """
        import optuna

        trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask()
        options = self._options(trial)
        cfg = load_config(self._plan(self.method.name, options, [_SEED])[0])
        if not has_test_set(cfg):
            raise ValueError(
                f'{self.method.config!r} has no test images of its own: what is chosen on the validation images cannot '
                'be reported on them. Give it a test_dataloader, or split its images by --cfg-options '
                'val_dataloader.dataset.indices=500 test_dataloader.dataset.indices=-997'
            )

    def open_trials(self) -> list[optuna.trial.FrozenTrial]:
        """Return the trials that were begun and have no result."""
        opened = [trial for trial in self.study.trials if not trial.state.is_finished()]
        for trial in opened:
            if _OPTIONS not in trial.user_attrs:  # killed while it was begun
                self.tell(trial, None)
        return [trial for trial in opened if _OPTIONS in trial.user_attrs]

    def ask(self) -> None:
        """Begin a trial: choose its values by those of the trials so far."""
        import optuna

        # a seed by the number of trials: the next values are the same however often the search was interrupted
        self.study.sampler = optuna.samplers.TPESampler(seed=len(self.study.trials), constant_liar=True)
        trial = self.study.ask()
        trial.set_user_attr(_OPTIONS, self._options(trial))

    def run_of(self, trial: optuna.trial.FrozenTrial) -> Run:
        """Plan the run of a trial: validated after each epoch, and without the test images."""
        hook = dict(type='TrialHook', journal=os.fspath(self.journal), trial=trial.number, pruner=self.pruner)
        shared = {name: value for name, value in self.method.options.items() if name.split('.')[0] not in _WITHOUT_TEST}
        options = {
            **shared,
            **trial.user_attrs[_OPTIONS],
            **_WITHOUT_TEST,
            'train_cfg.val_interval': 1,
            **{f'default_hooks.trial.{name}': value for name, value in hook.items()},
        }
        method = Method(f'trial {trial.number}', self.method.config, options)
        return plan_runs([method], [_SEED], self._runs)[0]

    def tell(self, trial: optuna.trial.FrozenTrial, result: Result | None) -> None:
        """End a trial with its accuracy on the validation images; ``None`` stands for a run that failed."""
        from optuna.trial import TrialState

        if result is None:
            self.study.tell(trial.number, state=TrialState.FAIL)
        elif result.epochs[-1] < load_config(self.run_of(trial)).train_cfg.max_epochs:
            self.study.tell(trial.number, state=TrialState.PRUNED)
        else:
            self.study.tell(trial.number, result.accuracy[-1])

    def finalists(self, count: int, seeds: Sequence[int]) -> list[Run]:
        """Plan the best trials, and the config as it is, with several seeds and the test images.

        Raises:
            ValueError: No trial came to its end.
        """
        from optuna.trial import TrialState

        trials = self.study.get_trials(states=(TrialState.COMPLETE,))
        if not trials:
            raise ValueError(f'no trial of {self.method.name!r} came to its end; look into the logs in {self.folder}')
        best = sorted(trials, key=lambda trial: -trial.value)[:count]
        runs = self._plan(self.method.name, {}, seeds)
        for trial in best:
            runs += self._plan(f'{self.method.name}, trial {trial.number}', trial.user_attrs[_OPTIONS], seeds)
        return runs

    def _options(self, trial: optuna.Trial) -> dict[str, Any]:
        options = self.space(trial)
        if not isinstance(options, Mapping) or not options:
            raise ValueError(f'the space of {self.method.name!r} must return dotted keys and values, got {options!r}')
        return dict(options)

    def _plan(self, name: str, options: Mapping[str, Any], seeds: Sequence[int]) -> list[Run]:
        method = Method(name, self.method.config, {**self.method.options, **options})
        return plan_runs([method], seeds, self._runs)


def read_space(path: str) -> Callable[[optuna.Trial], Mapping[str, Any]]:
    """Read the function ``space`` of a Python file.

    Raises:
        ImportError: Optuna is not installed.
        ValueError: The file has no such function.
    """
    require_optuna()
    space = runpy.run_path(path).get('space')
    if not callable(space):
        raise ValueError(f"--space {path!r} has no function 'space', from an optuna.Trial to dotted keys and values")
    return space


def tune(searches: Sequence[Search], trials: int, engine: Engine) -> None:
    """Bring every search to the same number of trials, several at a time where the engine has room.

    Trials that were begun and not ended, by a kill or a fault of the machine, are continued first.
    """
    for search in searches:
        while True:
            at_a_time = max(engine.slots or trials, _TOGETHER)
            room = min(at_a_time, trials - len(search.study.trials) + len(search.open_trials()))
            while len(search.open_trials()) < room:
                search.ask()
            opened = search.open_trials()
            if not opened:
                break
            print(f'{search.method.name}: trials {opened[0].number} to {opened[-1].number} of {trials}', flush=True)
            runs = {trial.number: search.run_of(trial) for trial in opened}
            failures = complete(list(runs.values()), engine)
            for trial in opened:
                run = runs[trial.number]
                search.tell(trial, None if run in failures else load_result(run))


def winner(runs: Sequence[Run], results: Mapping[Method, Mapping[int, Result]]) -> Method | None:
    """Return the finalist with the best mean accuracy on the validation images, over the seeds.

    ``None`` where no finalist can be compared with the config as it is, because their runs failed.

    Args:
        runs: The runs of :meth:`Search.finalists`; the config as it is comes first and does not count.
        results: Method to seed to result.
    """
    untuned, *finalists = dict.fromkeys(run.method for run in runs)
    measured = [method for method in finalists if results[method]]
    if not measured or not results[untuned]:
        return None
    return max(measured, key=lambda method: fmean(result.accuracy[-1] for result in results[method].values()))
