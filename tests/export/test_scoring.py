"""tools/test.py gives an export the metrics of its checkpoint, and refuses data that the export was not made for."""

import json

import exports
import pytest
import toolbox
import torch
from run_folders import ALONE

from r2kd_mm.export import export_student, formats

CONFIG = toolbox.ROOT / 'configs' / ALONE


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    torch.manual_seed(3)
    return exports.write_checkpoint(tmp_path_factory.mktemp('run') / 'student.pth', ALONE)


@pytest.fixture(scope='module')
def export(checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp('exports') / 'torchscript'
    return export_student(checkpoint, folder, 'torchscript', normalise=True, softmax=True).folder


def scored(path, folder, *options):
    out = folder / 'metrics.json'
    done = toolbox.run_forked(
        'test.py', CONFIG, path, '--work-dir', folder / 'work', '--out', out, '--out-item', 'metrics', *options
    )
    return done, json.loads(out.read_text()) if out.is_file() else None


def test_an_export_has_the_metrics_of_its_checkpoint_and_their_interval(checkpoint, export, tmp_path):
    (tmp_path / 'of_export').mkdir()
    (tmp_path / 'of_checkpoint').mkdir()
    done, metrics = scored(export, tmp_path / 'of_export')
    assert done.returncode == 0, done.stderr
    expected = scored(checkpoint, tmp_path / 'of_checkpoint')[1]
    assert metrics == pytest.approx(expected)
    low, high = _wilson(metrics['accuracy/top1'] / 100, 1497)
    share = metrics['accuracy/top1']
    said = f'accuracy/top1: {share:.2f} % of 1497 images, 95 % interval {low:.2f} to {high:.2f} (Wilson)'
    assert said in done.stdout


def _wilson(share, count):
    """In percent, by the formula."""
    z = 1.959963985
    centre, spread = share + z**2 / (2 * count), z * (share * (1 - share) / count + z**2 / (4 * count**2)) ** 0.5
    return tuple(100 * (centre + sign * spread) / (1 + z**2 / count) for sign in (-1, 1))


@pytest.mark.slow
@pytest.mark.parametrize('name', ['mmpretrain', 'torch', 'onnx'])
def test_of_other_formats_too(checkpoint, name, tmp_path):
    folder = export_student(checkpoint, tmp_path / 'export', name).folder
    done, metrics = scored(folder, tmp_path)
    assert done.returncode == 0, done.stderr
    assert metrics == pytest.approx(scored(checkpoint, tmp_path)[1])


def change(export, folder, **fields):
    """A copy of the description next to the same network."""
    stated = json.loads((export / 'export.json').read_text())
    (folder / 'export').mkdir()
    (folder / 'export' / 'model.pt').write_bytes((export / 'model.pt').read_bytes())
    (folder / 'export' / 'export.json').write_text(json.dumps({**stated, **fields}))
    return folder / 'export'


@pytest.mark.slow
@pytest.mark.parametrize(
    ('fields', 'options', 'message'),
    [
        (
            dict(input=dict(shape=['N', 1, 9, 9])),
            (),
            'give images of shape (1, 8, 8) (channels, height, width), and the export takes (1, 9, 9)',
        ),
        (dict(classes=[*'0123456798']), (), 'the test data and the export do not have the same classes'),
        ({}, ('--amp',), '--amp is for a checkpoint; an export computes in the precision that it was written in'),
    ],
)
def test_what_does_not_fit_is_refused(export, fields, options, message, tmp_path):
    done, metrics = scored(change(export, tmp_path, **fields), tmp_path, *options)
    assert (done.returncode, metrics) == (1, None)
    assert message in done.stderr


def test_a_missing_package_is_named(export, tmp_path, monkeypatch):
    from r2kd_mm.export.scoring import ExportedClassifier

    monkeypatch.setattr(formats.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(ImportError, match='the format onnx needs onnxruntime, which is not installed'):
        ExportedClassifier(str(change(export, tmp_path, format='onnx')))
