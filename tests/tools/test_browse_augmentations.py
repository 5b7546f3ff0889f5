"""browse_augmentations.py shows the images that a run trains on, before it is run."""

import runpy
import sys

import cv2
import numpy as np
import pytest
import run_folders
import toolbox
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from r2kd_mm.report import first_step

TOOL = str(toolbox.ROOT / 'tools' / 'browse_augmentations.py')
CONFIG = toolbox.ROOT / 'configs' / run_folders.R2KD


class FirstStep(Hook):
    """Keep what the first step of an ordinary run was made from."""

    def before_run(self, runner):
        model = runner.model
        augment = model.augmentation

        def keep_view(images, context):
            self.clean, self.view = images, augment(images, context)
            return self.view

        model.step.views.augmentation = keep_view

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        raise StopIteration


@pytest.fixture
def teacher(tmp_path):
    return run_folders.write_teacher(tmp_path / 'teacher')


def test_what_is_shown_is_what_the_first_step_of_the_run_sees(teacher, tmp_path, monkeypatch, capsys):
    pictures = []
    monkeypatch.setattr(sys, 'argv', [TOOL, str(CONFIG), '--out', str(tmp_path / 'x.png'), '--num', '10'])
    sys.argv += ['--cfg-options', f'model.teacher_ckpt={teacher}']
    draw = first_step.draw_pictures
    monkeypatch.setattr(first_step, 'draw_pictures', lambda rows: pictures.append(rows) or draw(rows))
    runpy.run_path(TOOL, run_name='__main__')
    assert '10 of the 60 images of the first step, seed 0' in capsys.readouterr().out

    cfg = Config.fromfile(CONFIG)
    cfg.merge_from_dict({'model.teacher_ckpt': str(teacher), 'work_dir': str(tmp_path / 'run'), 'log_level': 'ERROR'})
    cfg.custom_hooks = [hook for hook in cfg.custom_hooks if hook['type'].__name__ != 'TeacherCheckHook']
    runner, seen = Runner.from_cfg(cfg), FirstStep()
    runner.register_hook(seen)
    with pytest.raises(StopIteration):
        runner.train()

    rows = pictures[0]
    assert list(rows) == ['clean, from 1', 'augmented, from 1', 'clean, from 9', 'augmented, from 9']
    for name, images in (('clean', seen.clean), ('augmented', seen.view)):
        expected = (images * 95.9 + 77.9).round().clamp(0, 255).byte()[:10, 0].numpy()
        shown = [picture.pixels[..., 0] for row in (f'{name}, from 1', f'{name}, from 9') for picture in rows[row]]
        assert np.array_equal(shown, expected)
    logits = runner.model.teacher_logits(seen.view[:1])
    assert rows['augmented, from 1'][0].text.startswith(f'{logits.argmax()}: ')
    assert not torch.equal(seen.view, seen.clean)


@pytest.mark.slow
def test_without_the_teacher_the_images_are_shown_without_its_word(tmp_path):
    picture = tmp_path / 'views.png'
    lost = 'model.teacher_ckpt=lost.pth'
    finished = toolbox.run_forked('browse_augmentations.py', CONFIG, '--out', picture, '--cfg-options', lost)
    assert finished.returncode == 0, finished.stderr
    assert "without predictions of the teacher, whose checkpoint 'lost.pth' is not here" in finished.stdout
    assert cv2.imread(str(picture)).shape[1] == 9 * 150
    pick = 'model.augmentation.type=CutMixPick'
    finished = toolbox.run_forked('browse_augmentations.py', CONFIG, '--out', picture, '--cfg-options', lost, pick)
    assert finished.returncode == 1
    assert (
        "CutMixPick picks images by the teacher's predictions, and its checkpoint 'lost.pth' is not here"
        in finished.stderr
    )


@pytest.mark.slow
def test_a_run_without_augmentation_has_clean_images_alone(tmp_path):
    finished = toolbox.run_forked(
        'browse_augmentations.py', toolbox.ROOT / 'configs' / run_folders.ALONE, '--out', tmp_path / 'x.png'
    )
    assert finished.returncode == 0, finished.stderr
    assert (tmp_path / 'x.png').is_file()
    assert [path.name for path in tmp_path.iterdir()] == ['x.png']


def test_the_file_must_be_a_png(tmp_path):
    finished = toolbox.run_forked('browse_augmentations.py', CONFIG, '--out', tmp_path / 'x.jpg')
    assert finished.returncode == 2
    assert '--out must end in .png' in finished.stderr
