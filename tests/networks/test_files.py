"""A trained network in a file, such as ONNX, teaches with the same logits that the file gives by itself."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import toys
from mmengine.registry import DefaultScope
from torch.nn import functional

from r2kd_mm.classifiers import num_classes
from r2kd_mm.distillers import LogitDistiller
from r2kd_mm.networks import FileNetwork, Inputs, find_network
from r2kd_mm.networks.files import describe_file
from r2kd_mm.zoo import build_classifier

CLASSES = ['dog', 'cat', 'eel']
STATED = dict(
    format='torchscript',
    input=dict(shape=['N', 3, 32, 32]),
    preprocessing=dict(
        channel_order='RGB',
        mean=[120.0, 110.0, 100.0],
        std=[50.0, 60.0, 70.0],
        transforms=[dict(type='ResizeEdge', scale=36, interpolation='bicubic'), dict(type='CenterCrop', crop_size=32)],
    ),
    classes=CLASSES,
)


class Logits(torch.nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        return self.network(images, mode='tensor')


@pytest.fixture(scope='module')
def network():
    torch.manual_seed(0)
    network = build_classifier('cifar/resnet8', 3)
    network.init_weights()
    return Logits(network).eval()


@pytest.fixture(scope='module')
def files(network, tmp_path_factory):
    """The network by kind of file; one of TorchScript says what it wants to see."""
    pytest.importorskip('onnxruntime')
    pytest.importorskip('onnxscript')
    folder = tmp_path_factory.mktemp('files')
    images = torch.randn(2, 3, 32, 32)
    traced = torch.jit.trace(network, images)
    torch.jit.save(traced, folder / 'plain.pt')
    torch.jit.save(traced, folder / 'stated.pt', _extra_files={'export.json': json.dumps(STATED)})
    batch = {0: torch.export.Dim('batch')}
    torch.onnx.export(network, (images,), dynamo=True, verbose=False, dynamic_shapes=(batch,)).save(folder / 'net.onnx')
    return {name: str(folder / name) for name in ('plain.pt', 'stated.pt', 'net.onnx')}


@pytest.mark.parametrize('name', ['plain.pt', 'net.onnx'])
def test_gives_the_logits_of_the_file(files, network, name):
    found = find_network(files[name], 3)
    assert (found.is_trained, found.inputs, found.runs_code) == (True, None, name.endswith('.pt'))
    images = torch.randn(3, 3, 32, 32)
    loaded = FileNetwork(files[name]).eval()
    with torch.no_grad():
        torch.testing.assert_close(loaded(images), network(images), rtol=1e-4, atol=1e-5)


def test_reads_what_an_export_states(files, tmp_path):
    found = find_network(files['stated.pt'], 3)
    assert found.inputs == Inputs(32, (120.0, 110.0, 100.0), (50.0, 60.0, 70.0), interpolation='bicubic', fixed=True)
    assert found.classes == tuple(CLASSES)
    assert num_classes(FileNetwork(files['stated.pt'])) == 3
    assert num_classes(FileNetwork(files['plain.pt'])) is None
    (tmp_path / 'export').mkdir()  # a folder says it next to the file
    (tmp_path / 'export' / 'export.json').write_text(json.dumps(dict(STATED, format='onnx', classes=['a', 'b', 'c'])))
    (tmp_path / 'export' / 'model.onnx').write_bytes(b'')
    assert find_network(str(tmp_path / 'export'), 3).classes == ('a', 'b', 'c')


@pytest.mark.parametrize('name', ['stated.pt', 'net.onnx'])
def test_teaches_on_the_view_of_the_student(files, network, name):
    """Back to pixels, resize, normalise and ask the network, written by hand."""
    teacher = dict(
        type='AdaptedInputs', network=dict(type='FileNetwork', path=files[name]), size=32, interpolation='bicubic',
        mean=[120.0, 110.0, 100.0], std=[50.0, 60.0, 70.0], classes=['cat', 'eel', 'dog'], network_classes=CLASSES,
    )  # fmt: skip
    with DefaultScope.overwrite_default_scope('r2kd_mm'):
        model = LogitDistiller(
            architecture=toys.classifier(num_classes=3),
            teacher=teacher,
            losses=dict(loss_kd=dict(type='KLDivergenceLoss')),
            data_preprocessor=dict(type='ClsDataPreprocessor', mean=[127.5] * 3, std=[64.0] * 3, to_rgb=True),
        )
    view = torch.randn(4, 3, 24, 24)
    pixels = view * 64 + 127.5
    mean, std = (torch.tensor(STATED['preprocessing'][key]).view(1, 3, 1, 1) for key in ('mean', 'std'))
    seen = functional.interpolate((pixels - mean) / std, (32, 32), mode='bicubic', antialias=True)
    with torch.no_grad():
        expected = network(seen)[:, [1, 2, 0]]
    given = model.teacher_logits(view)
    assert (given - expected).abs().max() < 1e-5 * expected.abs().max()
    assert given.dtype == torch.float32
    losses = model(view, toys.batch(4, 3)[1], mode='loss')
    assert losses['clean.loss_kd'].requires_grad
    assert model.teacher_digests()['teacher'] != ''


def test_other_files_have_other_digests(files):
    states = [FileNetwork(path).state_dict()['digest'] for path in files.values()]
    assert len({bytes(state.tolist()) for state in states}) == 3


def test_describes_no_other_file(files, tmp_path):
    assert describe_file(tmp_path / 'nothing.pt') is None
    np.savez(tmp_path / 'array.npz', a=1)
    (tmp_path / 'array.npz').rename(tmp_path / 'array.pt')
    assert describe_file(tmp_path / 'array.pt') is None


@pytest.mark.parametrize(
    ('name', 'content', 'error', 'message'),
    [
        ('a.pt', None, FileNotFoundError, 'there is no file .*a.pt'),
        ('a.pt', b'weights', ValueError, r'is no network of TorchScript: .*given by --teacher-ckpt'),
        ('a.onnx', b'nothing', ValueError, 'is no network of ONNX'),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path, name, content, error, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=message):
        FileNetwork(find_network(str(tmp_path / name), 3).config['path'])


def test_a_description_of_another_file_is_passed_over(files, tmp_path):
    (tmp_path / 'export.json').write_text(json.dumps(dict(STATED, format='onnx')))
    for name in ('plain.pt', 'net.onnx', 'model.onnx'):
        (tmp_path / name).write_bytes(Path(files['plain.pt' if name == 'plain.pt' else 'net.onnx']).read_bytes())
    assert describe_file(tmp_path / 'plain.pt') is None
    assert describe_file(tmp_path / 'net.onnx') is None
    assert describe_file(tmp_path / 'model.onnx')['classes'] == CLASSES


@pytest.mark.parametrize('text', ['not json', '[]', '{"format": "onnx"}'])
def test_a_folder_with_another_description_is_refused(tmp_path, text):
    (tmp_path / 'export.json').write_text(text)
    with pytest.raises(ValueError, match=r"export\.json' is no description of an export"):
        find_network(str(tmp_path), 3)


class Pair(torch.nn.Module):
    def forward(self, one, other):
        return one.flatten(1) + other.flatten(1)


@pytest.mark.parametrize(
    ('inputs', 'message'),
    [(1, 'takes batches of exactly 2, .* export it for batches of any size'), (2, 'has 2 inputs and 1 outputs')],
)
def test_onnx_of_one_batch_size_or_several_inputs_is_refused(tmp_path, inputs, message):
    pytest.importorskip('onnxruntime')
    pytest.importorskip('onnxscript')
    images = torch.zeros(2, 3, 4, 4)
    network = Pair() if inputs == 2 else torch.nn.Flatten()
    torch.onnx.export(network, (images,) * inputs, dynamo=True, verbose=False).save(tmp_path / 'net.onnx')
    with pytest.raises(ValueError, match=message):
        FileNetwork(str(tmp_path / 'net.onnx'))


def test_onnx_names_the_images_that_it_takes(files):
    with pytest.raises(ValueError, match=r'net.onnx. takes images .*, 3, 32, 32\], got \[2, 3, 40, 40\]: '):
        FileNetwork(files['net.onnx'])(torch.zeros(2, 3, 40, 40))


def test_other_weights_and_formats_are_refused(files, tmp_path):
    torch.save({}, tmp_path / 'weights.pth')
    with pytest.raises(ValueError, match='holds a trained network, which starts from no other weights'):
        find_network(files['plain.pt'], 3, str(tmp_path / 'weights.pth'))
    (tmp_path / 'export.json').write_text(json.dumps(dict(STATED, format='exported')))
    with pytest.raises(
        ValueError, match='export in the format exported, and a teacher is read from torchscript or onnx'
    ):
        find_network(str(tmp_path), 3)
