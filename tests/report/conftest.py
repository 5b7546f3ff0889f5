"""Provide runs to analyse: two seeds of R2KD, and one student trained alone."""

from pathlib import Path

import pytest
import run_folders

from r2kd_mm.report import find_groups, measure

CORRUPTIONS = [('gaussian_noise', 1), ('gaussian_noise', 5), ('contrast', 1), ('contrast', 5)]


@pytest.fixture(scope='package')
def runs(tmp_path_factory) -> Path:
    """Folder of the runs."""
    folder = tmp_path_factory.mktemp('runs')
    teacher = run_folders.write_teacher(folder / 'elsewhere')
    for seed in (0, 1):
        run_folders.write_run(
            folder / 'runs' / 'r2kd' / f'seed_{seed}', run_folders.R2KD, seed, **{'model.teacher_ckpt': str(teacher)}
        )
    run_folders.write_run(folder / 'runs' / 'alone')
    return folder / 'runs'


@pytest.fixture(scope='package')
def groups(runs):
    """The runs, by method: alone, then R2KD."""
    return find_groups([runs])


@pytest.fixture(scope='package')
def found(groups):
    """The measurements of the runs on 100 images."""
    return measure(groups, 100, CORRUPTIONS, report=lambda line: None)
