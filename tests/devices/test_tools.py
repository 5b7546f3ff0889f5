"""The tools that measure networks work on the simulated device, and give the numbers of the CPU."""

from __future__ import annotations

import json
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import run_folders
import toolbox
import torch
from devices import pretend
from mmengine.device import utils

from r2kd_mm import cost
from r2kd_mm.report import find_groups, measure, teacher_engine
from r2kd_mm.teachers.store import RowFormat

IMAGES, BATCH = 12, 6
SMALL = {
    'val_dataloader.dataset.indices': IMAGES,
    'val_dataloader.batch_size': BATCH,
    'train_dataloader.dataset.indices': IMAGES,
    'train_dataloader.batch_size': BATCH,
    'train_dataloader.num_workers': 0,
    'val_dataloader.num_workers': 0,
}


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """Folder of a teacher and of a run of R2KD that ended; nothing was trained."""
    folder = tmp_path_factory.mktemp('tools')
    teacher = {'model.teacher_ckpt': str(run_folders.write_teacher(folder))}
    run_folders.write_run(folder / 'run', run_folders.R2KD, **SMALL, **teacher)
    return folder


@pytest.fixture
def run_tool(folder, monkeypatch, capsys):
    """Return what runs a tool on a device in this process; it returns what the tool prints."""

    def run(device: str, name: str, *arguments: str | Path, has_work: bool = True) -> str:
        monkeypatch.setattr(utils, 'DEVICE', device)
        monkeypatch.setattr(sys, 'argv', [name, *map(str, arguments)])
        before = pretend.device_state.operations
        capsys.readouterr()
        runpy.run_path(str(toolbox.ROOT / 'tools' / name), run_name='__main__')
        assert (pretend.device_state.operations > before) == (has_work and device == pretend.NAME)
        return capsys.readouterr().out

    return run


def config(folder: Path) -> Path:
    return next((folder / 'run').glob('*/vis_data/config.py'))


@pytest.mark.parametrize('view', toolbox.quick_first([[], ['--augmented', 'CutMix']]), ids=str)
def test_pruned_teachers_are_measured(view, folder, run_tool, tmp_path):
    for device in ('cpu', pretend.NAME):
        run_tool(
            device, 'prune_teacher.py', config(folder), folder / 'run/epoch_200.pth', *view,
            '--out', tmp_path / device, '--amounts', '0.3', '--pruners', 'magnitude', 'channels', '1:3',
        )  # fmt: skip
    tables = [json.loads((tmp_path / device / 'table.json').read_text())['rows'] for device in ('cpu', pretend.NAME)]
    assert len(tables[0]) == len(tables[1]) == 4
    for row, other in zip(*tables):
        assert other == {
            name: pytest.approx(value, rel=1e-3, abs=1e-4) if isinstance(value, float) else value
            for name, value in row.items()
        }


def test_the_engine_is_compared_with_the_plain_teachers(folder, run_tool, monkeypatch):
    monkeypatch.setattr(teacher_engine, 'REPETITIONS', 1)
    arguments = (config(folder), '--engine', 'exact', '--batches', '1')
    printed = run_tool(pretend.NAME, 'check_teacher_engine.py', *arguments)
    assert re.search(rf'^{pretend.NAME}', printed, re.M)
    assert printed.count(f'100.00 % ({BATCH} of {BATCH} images)') == 2
    differences = re.findall(r'([\d.e-]+) of the largest logit', printed)
    assert all(0 < float(difference) < 1e-5 for difference in differences)  # 0: the same computation was compared twice
    assert len(differences) == 2


def test_teachers_are_cached(folder, run_tool, tmp_path):
    logits = {}
    for device in ('cpu', pretend.NAME):
        options = {
            **{name: value for name, value in SMALL.items() if name.startswith('train')},
            'model.teacher_ckpt': folder / 'teacher.pth',
            'model.replay.folder': tmp_path / device,
            'model.replay.dtype': 'float32',
            'train_cfg.cycle': 1,
        }
        run_tool(
            device, 'cache_teacher.py', toolbox.ROOT / 'configs/r2kd/r2kd-replay_res14_res6_digits.py',
            '--work-dir', tmp_path / f'work_{device}', '--cfg-options', *(f'{k}={v}' for k, v in options.items()),
        )  # fmt: skip
        layout = RowFormat(10, 'float32').layout
        logits[device] = {
            path.name: np.fromfile(path, layout)['logits']
            for path in (tmp_path / device).rglob('*')
            if path.is_file() and path.suffix != '.json'
        }
    assert logits['cpu']
    for name, values in logits['cpu'].items():
        assert np.abs(values).max() > 0
        np.testing.assert_allclose(logits[pretend.NAME][name], values, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_a_run_is_measured_for_its_page(folder, monkeypatch):
    monkeypatch.setattr(cost, 'RUNS', 1)
    groups, found = find_groups([folder / 'run']), {}
    for device in ('cpu', pretend.NAME):
        monkeypatch.setattr(utils, 'DEVICE', device)
        before = pretend.device_state.operations
        found[device] = measure(groups, IMAGES, [('contrast', 3)], report=lambda line: None)
        assert (pretend.device_state.operations > before) == (device == pretend.NAME)
    (one,), (other,) = found['cpu'].methods, found[pretend.NAME].methods
    # tensors of the host, which the page is drawn from
    torch.testing.assert_close(other.students, one.students, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(other.teacher.logits, one.teacher.logits, rtol=1e-3, atol=1e-4)
    assert other.corrupted == one.corrupted


def test_a_student_is_exported(folder, run_tool, tmp_path):
    arguments = (folder / 'run/epoch_200.pth', tmp_path / 'export', '--format', 'torch')
    printed = run_tool(pretend.NAME, 'model_converters/export_student.py', *arguments, has_work=False)
    assert 'largest difference to the student on 8 images: 0.0e+00 of the largest logit' in printed
