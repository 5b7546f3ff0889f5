"""The stored results of finished runs are restored only for runs with the same settings."""

import shutil
from dataclasses import replace

import grid
import pytest
import torch
from records import Records

from r2kd_mm.checkpoint import load_checkpoint_file
from r2kd_mm.runs import Result, State, last_checkpoint, load_result, look_at, plan_runs
from r2kd_mm.runs.plan import load_config
from r2kd_mm.runs.result import save_result
from r2kd_mm.runs.state import DIGEST_FILE, settings_digest

RESULT = Result([1], [52.0], {}, seconds=3.0, cpu_seconds=2.5, test={'last': 51.0, 'best': 51.0})


@pytest.fixture
def run(tmp_path):
    """A finished run with a checkpoint."""
    (run,) = plan_runs([grid.Teacher().training(grid.SCALES['tiny'])], [3], tmp_path / 'runs/tiny')
    run.folder.mkdir(parents=True)
    (run.folder / DIGEST_FILE).write_text(settings_digest(load_config(run)))
    torch.save(dict(state_dict=dict(weight=torch.ones(2)), optimizer=dict(lr=0.1)), run.folder / 'epoch_1.pth')
    (run.folder / 'last_checkpoint').write_text('epoch_1.pth')
    save_result(run, RESULT)
    return run


@pytest.fixture
def records(tmp_path):
    return Records(tmp_path / 'records', tmp_path / 'runs/tiny')


def test_a_lost_run_is_restored(run, records):
    weights = records.teacher(run)
    records.keep([run])
    kept = records.file.read_text()
    shutil.rmtree(run.folder)
    assert records.restore([run]) == [run]
    assert look_at([run]) == {run: State.FINISHED}
    assert load_result(run) == RESULT
    assert records.teacher(run) == weights
    assert load_checkpoint_file(last_checkpoint(run))['state_dict']['weight'].tolist() == [1.0, 1.0]
    assert set(load_checkpoint_file(str(weights))) == {'state_dict'}
    records.keep([run])
    assert records.file.read_text() == kept


def test_a_run_of_other_settings_is_not_restored(run, records):
    records.keep([run])
    shutil.rmtree(run.folder)
    other = replace(run, method=replace(run.method, options={**run.method.options, 'train_cfg.max_epochs': 2}))
    assert records.restore([other]) == []
    assert look_at([other]) == {other: State.NEW}


def test_a_teacher_of_other_settings_has_a_file_of_its_own(run, records):
    first = records.teacher(run)
    (run.folder / DIGEST_FILE).write_text('0123456789abcdef')
    assert records.teacher(run) != first


def test_an_unfinished_run_is_not_recorded(run, records):
    (run.folder / 'result.json').unlink()
    records.keep([run])
    shutil.rmtree(run.folder)
    assert records.restore([run]) == []


def test_records_of_other_runs_stay(run, records, tmp_path):
    records.keep([run])
    shutil.rmtree(run.folder)
    (other,) = plan_runs([run.method], [4], tmp_path / 'runs/tiny')
    other.folder.mkdir(parents=True)
    (other.folder / DIGEST_FILE).write_text(settings_digest(load_config(other)))
    save_result(other, RESULT)
    records.keep([other])
    assert records.restore([run]) == [run]
