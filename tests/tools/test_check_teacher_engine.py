"""check_teacher_engine.py compares every teacher of a config, with and without the engine, on validation images."""

import argparse
import re

import pytest
import toolbox

from r2kd_mm.engine.arguments import add_config_options
from r2kd_mm.engine.run_config import read_changed_config
from r2kd_mm.teachers.engine import TeacherEngine

CONFIG = toolbox.ROOT / 'configs/r2kd/r2kd_res14_res6_digits.py'
UNTRAINED = ['model.teacher_ckpt=None', 'model.allow_untrained_teacher=True', 'val_dataloader.batch_size=20']


def check(*arguments, options=()):
    return toolbox.run_forked('check_teacher_engine.py', CONFIG, *arguments, '--cfg-options', *UNTRAINED, *options)


def test_compares_both_teachers_on_the_images_that_were_asked_for():
    finished = check('--engine', 'exact', '--batches', '2')
    assert finished.returncode == 0, finished.stderr
    assert "TeacherEngine(dtype='float32', fuse=True, channels_last=True, compile=False)" in finished.stdout
    assert re.findall(r'^(\w+) \(', finished.stdout, re.M) == ['teacher', 'pruned_teacher']
    assert finished.stdout.count('100.00 % (40 of 40 images)') == 2
    differences = [float(value) for value in re.findall(r'([\d.e-]+) of the largest logit', finished.stdout)]
    assert len(differences) == 2
    assert all(0 < difference < 1e-5 for difference in differences)  # 0: the same computation was compared twice
    assert len(re.findall(r'[\d.]+ ms plain, [\d.]+ ms by the engine: [\d.]+ times as fast', finished.stdout)) == 2


@pytest.mark.parametrize('preset', [None, pytest.param('exact', marks=pytest.mark.slow)])
def test_the_fastest_formats_are_printed_as_options_that_a_run_takes(preset, tmp_path):
    config = CONFIG
    if preset:
        config = tmp_path / 'preset.py'
        config.write_text(
            f'from mmengine.config import read_base\n\nwith read_base():\n    from r2kd_mm.configs.r2kd.{CONFIG.stem} '
            f"import *\n\nmodel['teacher_engine'] = {preset!r}\n"
        )
    options = [*UNTRAINED, 'train_dataloader.batch_size=8', 'train_dataloader.num_workers=0']
    finished = toolbox.run_forked('check_teacher_engine.py', config, '--choose', '--cfg-options', *options)
    assert finished.returncode == 0, finished.stderr
    timed = re.findall(r'^\| (\w+) +\| ([\w ,]+?) +\| [\d.]+', finished.stdout, re.M)
    assert [network for network, _ in timed] == ['teachers'] * 4 + ['student'] * 2
    assert len(set(timed)) == 6
    options = finished.stdout.splitlines()[-1].removeprefix('--cfg-options ').split()
    parser = argparse.ArgumentParser()
    add_config_options(parser, '')
    cfg = read_changed_config(str(config), parser.parse_args(['--cfg-options', *options]).cfg_options)
    engine = TeacherEngine.from_config(cfg.model.teacher_engine)
    assert (engine.dtype, engine.fuse) == ('float32', True)
    assert {engine.channels_last, engine.join_views, cfg.model.channels_last} <= {True, False}


def test_the_plain_engine_leaves_nothing_to_choose():
    finished = check('--choose', options=['model.teacher_engine=plain'])
    assert finished.returncode == 1
    assert "error: teacher_engine='plain' leaves nothing to choose" in finished.stderr


@pytest.mark.slow
def test_the_engine_is_that_of_the_config_where_none_is_named():
    finished = check('--batches', '1', options=['model.teacher_engine.dtype=bf16', 'model.teacher_engine.fuse=False'])
    assert finished.returncode == 0, finished.stderr
    assert "TeacherEngine(dtype='bf16', fuse=False, channels_last=True, compile=False)" in finished.stdout


@pytest.mark.slow
def test_a_teacher_in_train_mode_is_named_and_not_compared():
    finished = check('--batches', '1', options=['model.pruned_teacher_mode=train'])
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count('top-1 agreement') == 1
    assert 'pruned_teacher (ImageClassifier)\n  runs as it is, because it is in train mode' in finished.stdout


@pytest.mark.parametrize(
    ('options', 'message'),
    toolbox.quick_first(
        [
            (
                ['val_dataloder.batch_size=9'],
                "--cfg-options val_dataloder.batch_size: no run reads a field 'val_dataloder'",
            ),
            (['model.teacher=None'], 'has no model.teacher to check; give the config of a distillation'),
            (['val_dataloader=None'], 'has no val_dataloader to take images from'),
            (['model.teacher_engine=quick'], "teacher_engine must be one of ('exact', 'fast', 'plain')"),
        ]
    ),
)
def test_a_mistake_is_one_line(options, message):
    # without a val_dataloader there is no batch size to change either
    kept = [option for option in UNTRAINED if not (options[0].startswith('val') and option.startswith('val'))]
    finished = toolbox.run_forked('check_teacher_engine.py', CONFIG, '--cfg-options', *kept, *options)
    assert finished.returncode == 1
    assert finished.stderr.startswith('error: ')
    assert message in finished.stderr
