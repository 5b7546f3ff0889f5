"""Normalisation and softmax in the exported network: raw pixels give the probabilities of the prepared image."""

import json
import re
import zipfile
from dataclasses import replace

import exports
import onnx
import pytest
import torch

from r2kd_mm.export import FORMATS, ExportError, Predictor, export_student, load_student
from r2kd_mm.networks import find_network

BOTH = dict(normalise=True, softmax=True)


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    torch.manual_seed(3)
    return exports.write_checkpoint(tmp_path_factory.mktemp('run') / 'student.pth')


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
    return exports.write_digits(tmp_path_factory.mktemp('digits') / 'images')


def raw(student):
    """The pixels of the images, 0 to 255."""
    (mean,), (std,) = student.preprocessing.mean, student.preprocessing.std
    return (student.images * std + mean).round()


@exports.FORMAT
def test_raw_pixels_give_the_probabilities_of_the_prepared_image(checkpoint, digits, name, tmp_path):
    if name == 'mmpretrain':
        with pytest.raises(ExportError, match='outside of the network, as its config says; leave out --with-norm'):
            export_student(checkpoint, tmp_path / 'export', name, **BOTH)
        return
    folder = export_student(checkpoint, tmp_path / 'export', name, **BOTH).folder
    student = load_student(checkpoint)
    expected = student.logits().softmax(1)
    with torch.no_grad():
        given = FORMATS[name].load(folder)(raw(student))
    torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(given.sum(1), torch.ones(len(given)))
    predict = Predictor(folder)
    for path in digits:
        with torch.no_grad():
            row = student.network(student.preprocessing(path)[None])[0].softmax(0)
        assert predict(path, top=1)[0].probability == pytest.approx(row.max().item(), rel=1e-4)
    said = json.loads((folder / 'export.json').read_text())
    assert said['inside'] == dict(normalisation=dict(mean=[77.9], std=[95.9]), softmax=True)
    assert (said['input']['values'], said['output']['name']) == ('pixels from 0 to 255', 'probabilities')
    assert (said['preprocessing']['mean'], said['preprocessing']['std']) == ([0.0], [1.0])


def test_each_goes_alone(checkpoint, tmp_path):
    student = load_student(checkpoint)
    for inside, images, expected in (
        (dict(normalise=True), raw(student), student.logits()),
        (dict(softmax=True), student.images, student.logits().softmax(1)),
    ):
        folder = export_student(checkpoint, tmp_path / next(iter(inside)), 'torchscript', **inside).folder
        torch.testing.assert_close(FORMATS['torchscript'].load(folder)(images), expected, rtol=1e-4, atol=1e-5)
        said = json.loads((folder / 'export.json').read_text())
        assert said['inside']['softmax'] == ('softmax' in inside)
        assert (said['inside']['normalisation'] is None) == ('softmax' in inside)


@pytest.mark.slow
@pytest.mark.parametrize('precision', ['int8', 'fp16'])
def test_a_lower_precision_keeps_both_ends_in_float32(checkpoint, precision, tmp_path):
    pytest.importorskip('onnxruntime')
    options = dict(precision=precision, max_drop=3)
    plain = export_student(checkpoint, tmp_path / 'plain', 'onnx', **options)
    both = export_student(checkpoint, tmp_path / 'both', 'onnx', **options, **BOTH)
    student = load_student(checkpoint)
    expected = FORMATS['onnx'].load(plain.folder)(student.images).softmax(1)
    given = FORMATS['onnx'].load(both.folder)(raw(student))
    assert (given - expected).abs().max() < 0.02
    torch.testing.assert_close(given.sum(1), torch.ones(len(given)))
    assert both.measured.accuracy[precision].top1 == pytest.approx(plain.measured.accuracy[precision].top1, abs=0.5)


@pytest.mark.slow
def test_the_description_in_the_file_has_what_was_measured(checkpoint, tmp_path):
    pytest.importorskip('onnxruntime')
    done = export_student(checkpoint, tmp_path / 'export', 'onnx', precision='fp16')
    said = json.loads((done.folder / 'export.json').read_text())
    (held,) = (prop.value for prop in onnx.load(done.folder / 'model.onnx').metadata_props if prop.key == 'export.json')
    assert json.loads(held) == said
    assert said['measured']['bytes']['fp16'] == (done.folder / 'model.onnx').stat().st_size
    assert f'{said["measured"]["bytes"]["fp16"]:,} bytes' in (done.folder / 'README.md').read_text()


@exports.FORMAT
def test_no_path_of_this_machine_is_in_an_export(checkpoint, name, tmp_path):
    folder = export_student(checkpoint, tmp_path / 'export', name).folder
    parts = {path.name: path.read_bytes() for path in folder.iterdir()}
    for path in folder.iterdir():
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                parts |= {entry: archive.read(entry) for entry in archive.namelist()}
    sources = [str(place).encode() for place in (tmp_path, *map(exports_parent, (torch, exports)))]
    found = {part: re.findall(rb'[\w/.-]*site-packages[\w/.-]*', content) for part, content in parts.items()}
    assert {
        part for part, content in parts.items() if found[part] or any(place in content for place in sources)
    } == set()


def exports_parent(module):
    return module.__file__.rpartition('/')[0]


def test_the_kind_of_resize_is_stated(checkpoint):
    prepared = load_student(checkpoint).preprocessing
    assert replace(prepared, transforms=()).interpolation is None
    sized = replace(prepared, transforms=(dict(type='ResizeEdge', scale=9), dict(type='CenterCrop', crop_size=8)))
    assert sized.interpolation == 'bilinear'
    resized = (*sized.transforms, dict(type='Resize', scale=(8, 8), interpolation='bicubic'))
    assert replace(prepared, transforms=resized).interpolation == 'bicubic'


class TestAsATeacher:
    """An export of ours that has normalisation inside still says what it wants to see; one with softmax is refused."""

    @pytest.fixture(scope='class')
    def colour(self, tmp_path_factory):
        folder = tmp_path_factory.mktemp('photos')
        exports.write_photos(folder / 'images', 8, 32, 32)
        return exports.write_checkpoint(folder / 'student.pth', 'r2kd/r2kd_res56_res20_cifar100.py'), folder / 'images'

    def test_normalisation_inside_is_not_repeated(self, colour, tmp_path):
        checkpoint, images = colour
        folder = export_student(checkpoint, tmp_path / 'export', 'torchscript', images=images, normalise=True).folder
        inputs = find_network(str(folder), 100).inputs
        assert (inputs.mean, inputs.std, inputs.size) == ((0.0,) * 3, (1.0,) * 3, 32)

    def test_softmax_inside_is_refused(self, colour, tmp_path):
        checkpoint, images = colour
        folder = export_student(checkpoint, tmp_path / 'export', 'torchscript', images=images, softmax=True).folder
        with pytest.raises(ValueError, match='gives logits, and this one has softmax inside; export the network again'):
            find_network(str(folder), 100)
