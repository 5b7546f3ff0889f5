"""A hyperparameter search chooses by validation images, stops poor trials, and resumes after an interruption."""

import json
import runpy
from pathlib import Path

import pytest
import toolbox
from short_runs import NETWORK, SHORT

from r2kd_mm.report import find_groups
from r2kd_mm.report.exhibits.search import show_searches
from r2kd_mm.runs import Method, Result, load_config, plan_runs
from r2kd_mm.runs.grid import Ended, Outcome
from r2kd_mm.runs.training import train
from r2kd_mm.runs.tuning import Search, read_space, winner

optuna = pytest.importorskip('optuna', reason="the extra is not installed: pip install 'r2kd_mm[tune]'")

SPACES = sorted((toolbox.ROOT / 'tools/spaces').glob('*.py'))
SPLIT = {'val_dataloader.dataset.indices': 300, 'test_dataloader.dataset.indices': -200}


def rates(trial):
    return {'optim_wrapper.optimizer.lr': trial.suggest_float('learning rate', 1e-6, 0.1, log=True)}


def search(folder: Path, space=rates, **options) -> Search:
    return Search(Method('network', NETWORK, {**SHORT, **SPLIT, **options}), space, folder)


@pytest.mark.parametrize('space', SPACES, ids=lambda path: path.stem)
def test_a_shipped_space_changes_fields_that_its_config_reads(space, tmp_path):
    (config,) = (toolbox.ROOT / 'configs' / space.stem).glob(f'{space.stem}_res14_res6_digits.py')
    method = Method(space.stem, str(config), SPLIT)
    found = Search(method, read_space(str(space)), tmp_path)
    found.check()
    found.ask()
    (trial,) = found.open_trials()
    before, after = (load_config(run) for run in (plan_runs([method], [0], tmp_path)[0], found.run_of(trial)))
    assert len(trial.params) >= 3
    for field in trial.user_attrs['options']:
        values = [before, after]
        for part in field.split('.'):
            values = [value.get(part) for value in values]
        assert values[0] != values[1], field
        assert values[1] == trial.user_attrs['options'][field]


def test_trials_are_measured_without_the_test_images(tmp_path):
    found = search(tmp_path)
    found.ask()
    cfg = load_config(found.run_of(*found.open_trials()))
    assert (cfg.test_dataloader, cfg.test_cfg, cfg.test_evaluator) == (None, None, None)
    assert cfg.val_dataloader.dataset.indices == 300
    assert cfg.train_cfg.val_interval == 1
    assert cfg.default_hooks.trial == dict(type='TrialHook', journal=str(found.journal), trial=0, pruner='median')


def test_the_next_values_do_not_depend_on_an_interruption(tmp_path):
    whole, parts = search(tmp_path / 'whole'), search(tmp_path / 'parts')
    for number in range(6):
        for one in (whole, search(tmp_path / 'parts')):
            one.ask()
            (trial,) = one.open_trials()
            one.tell(trial, Result([2], [50.0 + number], {}, 1.0))
    assert [trial.params for trial in whole.study.trials] == [trial.params for trial in parts.study.trials]
    assert len({trial.params['learning rate'] for trial in whole.study.trials}) == 6


def test_a_trial_ends_as_its_run_did(tmp_path):
    found = search(tmp_path)
    for result in (Result([1, 2], [40.0, 60.0], {}, 1.0), Result([1], [30.0], {}, 1.0), None):
        found.ask()
        (trial,) = found.open_trials()
        found.tell(trial, result)
    states = optuna.trial.TrialState
    assert [trial.state for trial in found.study.trials] == [states.COMPLETE, states.PRUNED, states.FAIL]
    assert found.study.best_value == 60.0
    runs = found.finalists(3, [1, 2])
    assert [str(run) for run in runs] == [
        f'network{name}, seed {seed}' for name in ('', ', trial 0') for seed in (1, 2)
    ]


def test_the_winner_is_chosen_by_the_validation_images_and_over_all_seeds():
    methods = [Method(name, 'x.py') for name in ('as it is', 'lucky', 'better')]
    accuracy = {'as it is': (99, 99), 'lucky': (90, 70), 'better': (82, 82)}
    runs = [run for method in methods for run in plan_runs([method], [1, 2], Path('x'))]
    results = {
        run.method: {
            seed: Result([1], [value], {}, 1.0, test=dict(last=100.0 - value))
            for seed, value in zip((1, 2), accuracy[run.method.name])
        }
        for run in runs
    }
    assert winner(runs, results).name == 'better'
    assert winner(runs, {**results, methods[0]: {}}) is None


@pytest.mark.parametrize(
    ('space', 'options', 'error', 'message'),
    [
        (
            lambda trial: {'optim_wrapper.optimizer.rate': 1.0},
            {},
            ValueError,
            "SGD does not take 'rate'",
        ),
        (lambda trial: {'optim_wraper.lr': 1.0}, {}, ValueError, "did you mean 'optim_wrapper'"),
        (lambda trial: None, {}, ValueError, 'must return dotted keys and values, got None'),
        (
            rates,
            {'test_dataloader.dataset.indices': 300},
            ValueError,
            'has no test images of its own: .* --cfg-options',
        ),
    ],
)
def test_a_search_that_would_fail_later_is_refused(space, options, error, message, tmp_path):
    with pytest.raises(error, match=message):
        search(tmp_path, space, **options).check()


def test_a_file_without_a_space_is_refused(tmp_path):
    (tmp_path / 'space.py').write_text('x = 1\n')
    with pytest.raises(ValueError, match=r"--space '.*space.py' has no function 'space'"):
        read_space(str(tmp_path / 'space.py'))


class HereEngine:
    """Trains in this process, one run after the other."""

    slots = 1

    def __init__(self) -> None:
        self.pending = []

    def __str__(self) -> str:
        return 'here'

    def submit(self, runs):
        self.pending.extend(runs)

    def wait(self):
        run = self.pending.pop(0)
        train(run)
        return [Ended(run, Outcome.FINISHED)]

    def stop(self):
        self.pending.clear()


def test_a_poor_trial_is_stopped(tmp_path):
    found = search(tmp_path, **{'train_cfg.max_epochs': 3})
    for _ in range(5):
        found.ask()
        (frozen,) = found.open_trials()
        trial = optuna.trial.Trial(found.study, frozen._trial_id)
        for epoch in (1, 2, 3):
            trial.report(50.0, epoch)
        found.tell(frozen, Result([1, 2, 3], [50.0] * 3, {}, 1.0))
    found = search(tmp_path, lambda trial: {'optim_wrapper.optimizer.lr': 0.0}, **{'train_cfg.max_epochs': 3})
    found.ask()
    (frozen,) = found.open_trials()
    result = train(found.run_of(frozen))
    found.tell(frozen, result)
    assert result.epochs == [1]
    assert found.study.trials[5].state.name == 'PRUNED'


@pytest.mark.slow
def test_a_command_tunes_and_its_second_call_continues(tmp_path, monkeypatch, capsys):
    space = tmp_path / 'space.py'
    space.write_text(
        'def space(trial):\n'
        "    rate = trial.suggest_float('learning rate', 1e-6, 0.2, log=True)\n"
        "    decay = trial.suggest_float('weight decay', 1e-5, 1e-3, log=True)\n"
        "    return {'optim_wrapper.optimizer.lr': rate, 'optim_wrapper.optimizer.weight_decay': decay}\n"
    )
    options = [f'{name}={value}' for name, value in {**SHORT, **SPLIT}.items()]
    out = tmp_path / 'out'
    monkeypatch.setattr('r2kd_mm.runs.make_engine', lambda args, folder: HereEngine())
    tool = runpy.run_path(str(toolbox.ROOT / 'tools/tune.py'), run_name='tune')

    def tune(trials):
        arguments = [f'--space={space}', f'--trials={trials}', '--seeds', '1', '2', '--finalists=1', f'--out={out}']
        monkeypatch.setattr('sys.argv', ['tune.py', NETWORK, *arguments, '--cfg-options', *options])
        assert tool['search'](tool['parse_args']()) == 0
        return capsys.readouterr().out

    assert 'trials 0 to 4 of 5' in tune(5)
    trials = search(out / 'res14_digits').study.trials
    assert [trial.state.name for trial in trials] == ['COMPLETE'] * 5  # none is held against the first five
    for trial in trials:
        folder = out / f'res14_digits/runs/trial_{trial.number}/seed_0'
        result = json.loads((folder / 'result.json').read_text())
        assert result['test'] == {}
        assert list(trial.intermediate_values.values()) == result['accuracy']
    (_, _, row) = (out / 'table.md').read_text().splitlines()
    cells = [cell.strip() for cell in row.split('|')]
    assert cells[1] == 'res14_digits'
    assert cells[5:7] == ['2', '5 (0)']
    best = max(trials, key=lambda trial: trial.value)
    assert cells[7].startswith(f'learning rate {best.params["learning rate"]:.3g}, weight decay ')
    assert {'importance.png', 'slices.png'} <= {path.name for path in (out / 'res14_digits').iterdir()}
    again = tune(6)
    assert 'trials 5 to 5 of 6' in again
    exhibits = list(show_searches(find_groups([out / 'res14_digits/runs/res14_digits'])))
    assert [exhibit.name for exhibit in exhibits] == ['importance', 'slices']
    assert len(exhibits[1].rows) in (5, 6)  # the sixth may be stopped
