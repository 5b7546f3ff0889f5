"""export_student.py exports the student of a real distillation, and predict.py predicts digits with the export."""

import json

import exports
import pytest
import toolbox
import torch

TOOL = 'model_converters/export_student.py'


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """Checkpoint of a student that a teacher of ten epochs has taught for two."""
    folder = tmp_path_factory.mktemp('run')
    options = ['default_hooks.checkpoint.interval=1', 'train_cfg.val_interval=1']
    for config, name, epochs, more in (
        ('supervised/res14_digits.py', 'teacher', 10, []),
        (exports.DISTILLED_DIGITS, 'student', 2, [f'model.teacher_ckpt={folder}/teacher/epoch_10.pth']),
    ):
        finished = toolbox.run_forked(
            'train.py',
            toolbox.ROOT / 'configs' / config,
            '--work-dir',
            folder / name,
            '--cfg-options',
            f'train_cfg.max_epochs={epochs}',
            *options,
            *more,
        )
        assert finished.returncode == 0, finished.stderr
    return folder / 'student/epoch_2.pth'


def test_a_distilled_student_goes_from_its_run_to_predictions(run, tmp_path):
    exported = toolbox.run_forked(TOOL, run, tmp_path / 'new/export', '--format', 'torch')
    assert exported.returncode == 0, exported.stderr
    assert 'largest difference to the student on 8 images: 0.0e+00 of the largest logit' in exported.stdout
    assert 'README.md, export.json, network.py, weights.pth' in exported.stdout
    card = (tmp_path / 'new/export/README.md').read_text()
    assert '| checkpoint | epoch_2.pth, epoch 2 of 2 |' in card
    assert 'top-1 accuracy: teacher' in card
    exports.write_digits(tmp_path / 'digits')
    predicted = toolbox.run_forked('predict.py', tmp_path / 'new/export', tmp_path / 'digits', '--json', '--top', '10')
    assert predicted.returncode == 0, predicted.stderr
    for record in json.loads(predicted.stdout):
        assert sum(prediction['probability'] for prediction in record['predictions']) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    toolbox.quick_first(
        [
            (('no.pth', 'export'), "'no.pth' does not exist"),
            (('student.pth', 'student.pth'), 'exists; give another folder'),
            (('other.pth', 'export'), 'is not one of a run: it has no config'),
        ]
    ),
)
def test_a_mistake_is_one_line_and_writes_nothing(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exports.write_checkpoint(tmp_path / 'student.pth')
    torch.save(dict(state_dict=dict(weight=torch.zeros(1))), tmp_path / 'other.pth')
    before = sorted(tmp_path.iterdir())
    finished = toolbox.run_forked(TOOL, *arguments, '--format', 'torch')
    assert finished.returncode == 1
    assert message in finished.stderr
    assert 'Traceback' not in finished.stderr
    assert sorted(tmp_path.iterdir()) == before
