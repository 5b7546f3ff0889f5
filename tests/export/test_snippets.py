"""The code in a model card runs unchanged, and gives the same predictions as Predictor."""

import json
import re
import subprocess
import sys

import exports
import numpy as np
import pytest
import toolbox
import torch

from r2kd_mm.export import FORMATS, Predictor, export_student
from r2kd_mm.export.preprocessing import Preprocessing
from r2kd_mm.export.snippets import NETWORKS, snippet

MOST_LINES = 15
EDGE = dict(type='ResizeEdge', scale=36, edge='short')
CROP = dict(type='CenterCrop', crop_size=32)
BICUBIC = dict(backend='pillow', interpolation='bicubic')
SIZED = [dict(EDGE, **BICUBIC), CROP]
# Runs the code of each folder in one process that has nothing of ours, and prints what each printed.
SCRIPT = """
import contextlib, io, json, os, sys, warnings
warnings.simplefilter('ignore')

class Blocked:
    def find_spec(name, path=None, target=None):
        if name.split('.')[0] in ('r2kd_mm', 'mmrazor') or (plain and name.split('.')[0] in ('mmengine', 'mmcv')):
            raise ImportError(f'{name} is not installed here')

sys.meta_path.insert(0, Blocked)
answers = []
for folder, code in json.loads(sys.argv[1]):
    plain = 'mmpretrain' not in code
    if not plain:
        import torch
        try:
            import torchvision
        except RuntimeError:  # it was built for another torch
            library = torch.library.Library('torchvision', 'FRAGMENT')
            for name in ('nms', 'qnms'):
                library.define(f'{name}(Tensor input) -> Tensor')
    os.chdir(folder)
    sys.modules.pop('network', None)
    sys.path[0] = folder
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(code, {})
    answers.append(printed.getvalue().splitlines()[-1])
print(json.dumps(answers))
"""


def code_in(folder):
    (found,) = re.findall(r'^```python\n(.*?)^```$', (folder / 'README.md').read_text(), re.MULTILINE | re.DOTALL)
    return found


@pytest.mark.slow
def test_the_code_in_each_card_says_what_the_predictor_says(tmp_path):
    photos = exports.write_photos(tmp_path / 'photos', height=40, width=56)
    digits = exports.write_digits(tmp_path / 'digits')
    torch.manual_seed(3)
    grey = exports.write_checkpoint(tmp_path / 'grey.pth')
    pipeline = [*SIZED, dict(type='PackInputs')]
    colour = exports.write_checkpoint(
        tmp_path / 'colour.pth',
        'r2kd/r2kd_res56_res20_cifar100.py',
        **{'val_dataloader.dataset.pipeline': pipeline, 'test_dataloader.dataset.pipeline': pipeline},
    )
    folders, cases = [], []
    for name in FORMATS:
        if any(mark.args[0] for mark in [exports.needs(name).mark]):
            continue
        for images, checkpoint, inside in ((digits, grey, {}), (photos, colour, dict(normalise=True, softmax=True))):
            if name == 'mmpretrain' and inside:
                continue
            folder = tmp_path / name / ('both' if inside else 'none')
            export_student(checkpoint, folder, name, images=images[0].parent, **inside)
            code = code_in(folder)
            assert len(code.splitlines()) <= MOST_LINES
            assert 'r2kd_mm' not in code
            folders.append((folder, images[1]))
            cases.append((str(folder), code.replace('photo.jpg', str(images[1]))))
    done = subprocess.run(
        [sys.executable, '-c', SCRIPT, json.dumps(cases)],
        capture_output=True,
        text=True,
        env={**toolbox.environment(), 'PYTHONPATH': ''},
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout.splitlines()[-1])
    assert len(answers) == len(cases) > 4
    for (folder, image), answer in zip(folders, answers):
        name, probability = answer.rsplit(' ', 1)
        expected = Predictor(folder)(image, top=1)[0]
        if folder.parent.name == 'mmpretrain':  # which shows its progress in the same line
            name = name[-len(expected.name) :]
        assert name == expected.name, folder
        assert float(probability) == pytest.approx(expected.probability, rel=1e-3), folder


@pytest.mark.parametrize('order', ['RGB', 'BGR', 'GRAY'])
@pytest.mark.parametrize(
    ('transforms', 'shape'),
    [
        ([], (40, 56)),
        (SIZED, (32, 32)),
        ([EDGE, CROP], (32, 32)),
        ([dict(EDGE, interpolation='bicubic', backend='cv2'), CROP], (32, 32)),
        ([dict(type='Resize', scale=(24, 20), **BICUBIC)], (20, 24)),
        ([dict(type='Resize', scale=(24, 20), interpolation='nearest')], (20, 24)),
    ],
)
def test_the_pixels_are_those_of_the_predictor(transforms, shape, order, tmp_path):
    (path,) = exports.write_photos(tmp_path / 'photos', count=1, height=40, width=56)
    values = ((120.0,), (50.0,)) if order == 'GRAY' else ((120.0, 110.0, 100.0), (50.0, 60.0, 70.0))
    prepared = Preprocessing((len(values[0]), *shape), order, *values, tuple(transforms))
    stated = dict(format='onnx', preprocessing=prepared.describe(), output=dict(name='logits'))
    code = snippet(json.loads(json.dumps(stated)))
    lines = code.replace('photo.jpg', str(path)).splitlines()
    assert len(lines) <= MOST_LINES
    until = next(index for index, line in enumerate(lines) if line.startswith('images =')) + 1
    found = {}
    exec('\n'.join(line for line in lines[:until] if 'onnxruntime' not in line), found)
    expected = prepared(path)[None].numpy()
    assert found['images'].dtype == np.float32
    tolerance = 1.01 / min(values[1]) if order == 'GRAY' else 1e-5  # two libraries round grey values differently
    np.testing.assert_allclose(found['images'], expected, rtol=0, atol=tolerance)


def test_a_transform_that_takes_more_is_left_to_the_predictor():
    prepared = dict(channel_order='RGB', mean=[0.0] * 3, std=[1.0] * 3, transforms=[dict(type='Pad', size=(8, 8))])
    stated = dict(format='onnx', preprocessing=prepared, output=dict(name='logits'))
    assert 'from r2kd_mm.export import Predictor' in snippet(stated)


def test_every_format_has_code():
    assert {*NETWORKS, 'mmpretrain'} == FORMATS.keys()
