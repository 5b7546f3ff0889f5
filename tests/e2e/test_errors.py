"""A user's mistake ends the tool with one clear line, before anything is trained or written."""

import os
import pickle
from pathlib import Path

import pytest
import toolbox
import torch

from r2kd_mm.registry import MODELS

FLAGSHIP = toolbox.ROOT / 'configs/r2kd/r2kd_res50_mbv1_imagenet.py'


def fails_clearly(finished: toolbox.Finished, work_dir: Path) -> str:
    """Check how the tool ended, and return its message."""
    assert finished.returncode == 1, finished.stderr
    assert 'Traceback' not in finished.stderr
    lines = finished.stderr.splitlines()
    (start,) = (index for index, line in enumerate(lines) if line.startswith('error: '))
    assert lines[start + 1].startswith('(the traceback is shown with')
    assert 'Epoch(train)' not in finished.stdout
    assert not [path for path in work_dir.glob('**/*') if path.suffix in ('.pth', '.tmp')]
    return lines[start]


@pytest.fixture
def fail(mini_options: list[str], mini_teacher: Path, tmp_path: Path):
    """Train the flagship on the miniature with these options changed, and return the message it fails with."""
    work_dir = tmp_path / 'work'

    def train(*options: str, work_dir: Path = work_dir, arguments: tuple[str, ...] = ()) -> str:
        finished = toolbox.run_forked(
            'train.py',
            FLAGSHIP,
            '--work-dir',
            work_dir,
            *arguments,
            '--cfg-options',
            *mini_options,
            f'model.teacher_ckpt={mini_teacher}',
            *options,
        )
        return fails_clearly(finished, work_dir)

    return train


class RunsCode:
    """Pickled, it makes a folder when it is read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize(
    ('option', 'words'),
    [
        ('model.teacher_ckpt=None', ('the teacher has no weights', 'allow_untrained_teacher=True')),
        ('model.teacher_ckpt=/no/such/teacher.pth', ('/no/such/teacher.pth',)),
        ('model.teacher.head.num_classes=7', ('does not fit this', 'head.fc.weight')),
        ('model.teacher.backbone.depth=101', ('does not fit this', 'layer3.6')),
        ('model.architecture.head.num_classes=7', ('num_classes=7 in the student and 5 in the teacher',)),
        ('model.teacher_weight=1.5', ('teacher_weight', '[0, 1]', '1.5')),
        ('model.pruner.amount=10', ('amount', '[0, 1)', '10')),
        ('model.losses.loss_value.loss_weight=-1', ('loss_weight', '-1')),
        ('model.losses.loss_value.type=CorelationLoss', ('CorelationLoss', 'CorrelationDistanceLoss', 'DISTLoss')),
        ('model.losses.loss_rank.estimator=soft', ("'soft'", "'sigmoid'", "'hard'")),
        ('model.augmentation.type=CutMixx', ('CutMixx', 'CutMix', 'Mixup')),
        ('train_dataloader.dataset.data_root=/no/such/folder', ('/no/such/folder/train', '<data_root>/<split>')),
        ('val_dataloader.dataset.data_root=/no/such/folder', ('/no/such/folder/val', '<data_root>/<split>')),
        ('modle.teacher_weight=0.5', ("no run reads a field 'modle'", "did you mean 'model'?")),
        ('model.teacher_weigth=0.5', ('--cfg-options model.teacher_weigth: R2KD', "did you mean 'teacher_weight'?")),
        ('default_hooks.chekpoint.interval=2', ("default_hooks has no 'chekpoint'", "did you mean 'checkpoint'?")),
        ('res50.head.num_classes=5', ("'res50' is only a name inside the config", 'model.teacher')),
        ('custom_hooks.0.type=NoSuchHook', ('NoSuchHook',)),
    ],
)
def test_a_wrong_option_is_named(fail, option, words):
    message = fail(option)
    assert all(word in message for word in words), message


def test_a_batch_from_which_a_loss_learns_nothing_is_named(fail):
    message = fail('train_dataloader.batch_size=1', 'model.losses.loss_value.class_wise=False')
    assert 'loss_value teaches nothing with 1 image a batch' in message


def test_a_teacher_that_is_no_checkpoint_is_named(fail, tmp_path):
    path = tmp_path / 'teacher.pth'
    path.write_text('404: not found')
    assert str(path) in fail(f'model.teacher_ckpt={path}')


def test_a_teacher_pickle_that_runs_code_does_not_run(fail, tmp_path):
    path, evidence = tmp_path / 'teacher.pth', tmp_path / 'it-ran'
    torch.save(dict(state_dict=RunsCode(evidence)), path)
    assert str(path) in fail(f'model.teacher_ckpt={path}')
    assert not evidence.exists()
    pickle.loads(pickle.dumps(RunsCode(evidence)))
    assert evidence.exists()  # so it would have run


@pytest.mark.slow
def test_a_teacher_that_guesses_is_stopped_before_it_teaches(fail, mini_config, tmp_path):
    teacher = MODELS.build({**mini_config.model.teacher.to_dict(), '_scope_': 'r2kd_mm'})
    torch.nn.init.zeros_(teacher.head.fc.weight)  # one class whatever the image
    torch.save(teacher.state_dict(), tmp_path / 'teacher.pth')
    message = fail(f'model.teacher_ckpt={tmp_path / "teacher.pth"}')
    assert 'the teacher scores 20.00 %' in message
    assert 'no better than guessing among 5 classes' in message


def test_an_empty_data_folder_is_named_with_the_layout(fail, tmp_path):
    (tmp_path / 'data/train').mkdir(parents=True)
    message = fail(f'train_dataloader.dataset.data_root={tmp_path}/data')
    assert f"no image in the data folder '{tmp_path}/data/train'" in message


@pytest.mark.slow
def test_data_of_another_number_of_classes_than_the_head_is_refused(fail):
    message = fail(
        'model.architecture.head.num_classes=7',
        'model.teacher.head.num_classes=7',
        'model.teacher_ckpt=None',
        'model.allow_untrained_teacher=True',
    )
    assert 'train_dataloader has 5 classes, but the head of the model has num_classes=7' in message


def test_a_work_dir_that_cannot_be_written_is_named(fail, tmp_path):
    (tmp_path / 'file').touch()
    message = fail(work_dir=tmp_path / 'file' / 'work')
    assert f"work_dir '{tmp_path}/file/work' cannot be written" in message


def test_a_config_without_base_batch_size_cannot_scale_its_learning_rate(fail):
    message = fail('auto_scale_lr=None', arguments=('--auto-scale-lr',))
    assert '--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=...)' in message


def test_a_missing_config_is_named(tmp_path):
    finished = toolbox.run_forked('train.py', 'configs/no_such.py', '--work-dir', tmp_path)
    assert 'configs/no_such.py' in fails_clearly(finished, tmp_path)


@pytest.mark.slow
def test_a_process_of_its_own_fails_the_same_way(mini_options, tmp_path):
    finished = toolbox.run(
        'train.py', FLAGSHIP, '--work-dir', tmp_path, '--cfg-options', *mini_options, 'model.teacher_ckpt=None'
    )
    assert 'the teacher has no weights' in fails_clearly(finished, tmp_path)


def test_cfg_options_without_a_value_are_a_usage_error():
    finished = toolbox.run_forked('train.py', FLAGSHIP, '--cfg-options', 'model.teacher_ckpt')
    assert finished.returncode == 2
    assert "--cfg-options takes key=value pairs, got 'model.teacher_ckpt'" in finished.stderr
