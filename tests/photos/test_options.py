"""The options of `r2kd-mm distill` are checked before PyTorch and MMEngine are imported."""

import argparse
import json
from dataclasses import fields

import pytest

from r2kd_mm.export import FORMATS
from r2kd_mm.photos import options as module
from r2kd_mm.photos.arguments import add_arguments
from r2kd_mm.photos.config import INSTALLED
from r2kd_mm.photos.options import Options
from r2kd_mm.photos.teachers import AskedTeacher

GIVEN = ['photos', '--teacher', 'timm/a', '--student', 'timm/b', '--out', 'runs/x']


def parsed(*arguments):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return vars(parser.parse_args([*GIVEN, *arguments]))


def test_the_command_line_has_every_option_with_its_default():
    per_teacher = {
        field.name for field in fields(Options) if field.name.startswith('teacher_')
    }  # left out unless given
    assert parsed().keys() == {field.name for field in fields(Options)} - per_teacher
    assert Options(**parsed()) == Options('photos', 'timm/a', 'timm/b', 'runs/x')


def test_the_command_line_gives_what_was_asked_for():
    asked = Options(**parsed('--epochs', '5', '--no-baseline', '--no-flip', '--format', 'onnx', 'torch', '--amp'))
    assert (asked.epochs, asked.formats) == (5, ('onnx', 'torch'))
    assert (asked.baseline, asked.flip, asked.amp) == (False, False, True)


def test_the_names_are_those_of_the_installed_methods_and_of_the_exports():
    assert set(module.FORMATS) == FORMATS.keys()
    found = {(precision, name) for name, form in FORMATS.items() for precision in form.precisions}
    assert {(precision, name) for precision, names in module.PRECISIONS.items() for name in names} == found
    assert all((INSTALLED / 'methods' / f'{name}.py').is_file() for name in module.METHODS)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(epochs=0), '--epochs must be at least 1, got 0'),
        (dict(batch_size=1), '--batch-size must be at least 2'),
        (dict(image_size=0), '--image-size must be above 0'),
        (dict(lr=-0.1), '--lr must be above 0'),
        (dict(val_split=1.0), '--val-split is a share of the images, above 0 and below 1, got 1.0'),
        (dict(unlabelled_share=0.99), '--unlabelled-share is a share of the 32 images of a batch, .* got 0.99'),
        (dict(method='r2d2'), "--method must be one of auto, dist_light, .* got 'r2d2'"),
        (dict(loggers=('sacred',)), "--logger must be one of tensorboard, mlflow, wandb, got 'sacred'"),
        (dict(formats=('tflite',)), "--format must be one of mmpretrain, torch.* got 'tflite'"),
        (dict(formats=('mmpretrain',), with_softmax=True), '--format mmpretrain has normalisation and softmax in its'),
        (dict(precision='int4'), "--precision must be one of int8, fp16, got 'int4'"),
        (
            dict(formats=('onnx', 'torch'), precision='int8'),
            '--precision int8 is one of the formats exported, onnx, openvino, executorch, got --format torch; give',
        ),
        (dict(formats=(), precision='fp16'), '--precision fp16 is one of the formats onnx, openvino, got --format'),
        (dict(license='free'), "--license takes an identifier of SPDX, such as .* got 'free'"),
        (dict(replay=0), '--replay must be at least 1, got 0'),
        (dict(teacher_mean=(1, 2, 3)), '--teacher-mean and --teacher-std belong together'),
        (dict(teacher_mean=(1, 2, 3), teacher_std=(0, 1, 1)), 'the latter above 0'),
    ],
)
def test_an_option_out_of_range_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Options('photos', 'timm/a', 'timm/b', 'runs/x', **changes)


def test_local_files_are_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('HOME', str(tmp_path))
    (tmp_path / 'a.pth').touch()
    (tmp_path / 'net').mkdir()
    asked = Options(
        'photos', 'hf/net', 'hf/microsoft/resnet-18', 'x', teacher_init='a.pth#model', student_init='~/a.pth'
    )
    assert asked.teacher == f'hf/{tmp_path}/net'
    assert asked.student == 'hf/microsoft/resnet-18'
    assert (asked.teacher_init, asked.student_init) == (f'{tmp_path}/a.pth#model', f'{tmp_path}/a.pth')
    other = Options('photos', 'hf/~/net', 'timm/b', 'x')
    assert (other.teacher, other.student, other.teacher_init) == (asked.teacher, 'timm/b', 'published')


def test_what_no_finished_stage_depends_on_may_change():
    one, other = (Options('photos', 'timm/a', 'timm/b', 'runs/x', seeds=seeds, formats=()) for seeds in (1, 3))
    assert one.identity == other.identity
    assert Options('photos', 'timm/a', 'timm/b', 'runs/x', epochs=5).identity != one.identity


class TestSeveralTeachers:
    def asked(self, *arguments):
        return Options(**parsed('--teacher', 'timm/c', *arguments))  # 'timm/a' is the first

    def test_each_has_options_of_its_own_in_the_order_of_the_names(self):
        first, second = self.asked(
            '--teacher-ckpt', 'none', '--teacher-ckpt', 'c.pth', '--teacher-lr', '0.1', '--teacher-image-size', '64',
            '--teacher-image-size', '32', '--teacher-mean', '1', '2', '3', '--teacher-mean', '4', '5', '6',
            '--teacher-std', '1', '1', '1', '--teacher-std', '2', '2', '2',
        ).teachers  # fmt: skip
        assert first == AskedTeacher('timm/a', None, lr=0.1, image_size=64, mean=(1, 2, 3), std=(1, 1, 1))
        assert second == AskedTeacher('timm/c', 'c.pth', lr=0.1, image_size=32, mean=(4, 5, 6), std=(2, 2, 2))

    def test_one_is_the_same_as_a_list_of_one(self):
        given = dict(teacher_ckpt=['a.pth'], teacher_mean=[(1, 2, 3)], teacher_std=[(1, 1, 1)], teacher_init=['none'])
        one = dict(teacher_ckpt='a.pth', teacher_mean=(1, 2, 3), teacher_std=(1, 1, 1), teacher_init='none')
        assert Options('photos', ['timm/a'], 'timm/b', 'x', **given) == Options(
            'photos', 'timm/a', 'timm/b', 'x', **one
        )

    def test_how_they_are_given_does_not_change_what_is_recorded(self):
        once, twice = self.asked('--teacher-lr', '0.1'), self.asked('--teacher-lr', '0.1', '--teacher-lr', '0.1')
        assert once.identity == twice.identity
        assert json.loads(json.dumps(once.identity))['teacher'] == ['timm/a', 'timm/c']

    @pytest.mark.parametrize(
        ('arguments', 'message'),
        [
            (['--teacher-ckpt', 'a.pth'], "--teacher-ckpt is given 1 times for 2 teachers; give .* 'none'"),
            (['--teacher-lr', '1'] * 3, '--teacher-lr is given 3 times for 2 teachers; .*, or once for all$'),
            (['--teacher-mean', '1', '2', '3'], '--teacher-mean is given 1 times for 2 teachers'),
            (['--teacher', 'timm/a'], '--teacher timm/a is given twice with the same weights and inputs'),
            (['--teacher-image-size', '0'], '--teacher-image-size must be above 0, got 0'),
        ],
    )  # fmt: skip
    def test_what_does_not_fit_together_is_refused(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            self.asked(*arguments)

    def test_none_at_all_is_refused(self):
        with pytest.raises(ValueError, match='--teacher must name at least one network'):
            Options('photos', [], 'timm/b', 'x')

    def test_of_one_architecture_with_two_checkpoints_both_count(self):
        assert len(Options('photos', ['timm/a'] * 2, 'timm/b', 'x', teacher_ckpt=['a.pth', 'b.pth']).teachers) == 2
