"""Provide the folder in which the docstring examples run, with all files that they need."""

from __future__ import annotations

import gc
from pathlib import Path

import converters
import pytest
from mmengine.config import Config
from toolbox import ROOT

from r2kd_mm.datasets import Glyph100
from r2kd_mm.export import export_student
from r2kd_mm.photos import stages
from r2kd_mm.runs import Method, Run, last_checkpoint, plan_runs
from r2kd_mm.runs.training import train

SHORT = {'train_cfg.val_interval': 1, 'default_hooks.checkpoint.interval': 1, 'log_level': 'ERROR'}
PHOTOS = dict(
    data='photos', teacher='r2kd/cifar/resnet14', student='r2kd/cifar/resnet8', out='distilled', epochs=1,
    teacher_init='none', student_init='none', image_size=32, teacher_image_size=32, workers=0, baseline=False,
    formats=(), page=False,
)  # fmt: skip


@pytest.fixture(scope='session')
def example_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what a user has: configs, trained runs, an export, photos, and miniatures of the image sets.

    ``docs/reference/index.md`` lists them. Everything is made by the library itself, in this process.
    """
    folder = tmp_path_factory.mktemp('examples')
    gc.freeze()  # mmengine looks for garbage at each data set, and all that was imported is none
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        compare()
        distil_photos(patch)
        Glyph100('val', size=100).full_init()
        for name in ('cifar100', 'cub200', 'mit67', 'stanford40', 'stanford_dogs', 'tiny_imagenet', 'imagenet'):
            converters.make_mini(name, folder / 'data' / name)
    return folder


def compare() -> None:
    """Train a teacher, and a student by two methods, for two epochs on the digits; export one."""
    short_config('teacher.py', 'supervised/res14_digits.py', 2)
    teacher = Run(Method('teacher', 'teacher.py'), 0, Path('teacher'))
    train(teacher, lambda share: None)
    weights = {'model.teacher_ckpt': last_checkpoint(teacher)}
    for name in ('kd', 'r2kd'):
        short_config(f'{name}.py', f'{name}/{name}_res14_res6_digits.py', 1, **weights)
    for run in plan_runs([Method('KD', 'kd.py'), Method('R2KD', 'r2kd.py')], [0], Path('work_dirs')):
        train(run, lambda share: None)
    export_student(last_checkpoint(run), 'exported', 'torchscript')


def short_config(path: str, source: str, epochs: int, **changes) -> None:
    cfg = Config.fromfile(ROOT / 'configs' / source)
    cfg.merge_from_dict({**SHORT, 'train_cfg.max_epochs': epochs, **changes})
    cfg.dump(path)


def distil_photos(patch: pytest.MonkeyPatch) -> None:
    """Go through the command ``r2kd-mm distill``, with the runs in this process, which saves the start of others."""

    def in_this_process(runs, engine):
        for run in runs:
            train(run)
        return {}

    patch.setattr(stages, 'complete', in_this_process)
    converters.make_mini('imagenet', Path('mini'), '--classes', '3', '--train', '20', '--val', '1', '--size', '32')
    Path('mini/train').rename('photos')
    stages.distill(**PHOTOS)
