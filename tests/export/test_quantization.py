"""An export below float32 is written and measured, and refused if its accuracy drops too much."""

import importlib.util
import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import exports
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from r2kd_mm.export import ExportError, Predictor, export_student, load_student
from r2kd_mm.export.images import calibration_images, validation_images
from r2kd_mm.export.measurement import measure, other_kind, refusal
from r2kd_mm.export.pt2e import converted, observed
from r2kd_mm.export.quantization import onnx_int8, onnx_worst_layers
from r2kd_mm.registry import DATASETS


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    torch.manual_seed(3)  # a network that does not say the same of every image
    return exports.write_checkpoint(tmp_path_factory.mktemp('run') / 'student.pth')


@pytest.fixture(scope='module')
def int8(checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp('int8') / 'export'
    return export_student(checkpoint, folder, 'onnx', precision='int8', max_drop=3)


def digits(split):
    """All images of a split, normalised as in the configs of the digits, and their classes."""
    with DefaultScope.overwrite_default_scope('r2kd_mm'):
        dataset = DATASETS.build(dict(type='Digits', split=split))
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    pixels = np.stack([info['img'] for info in infos]).reshape(-1, 1, 8, 8).astype(np.float32)
    return (pixels - np.float32(77.9)) / np.float32(95.9), np.array([info['gt_label'] for info in infos])


def test_the_layers_are_calibrated_on_training_images_prepared_as_in_validation(checkpoint):
    images, _ = digits('train')
    seen = calibration_images(load_student(checkpoint))
    chosen = np.unique(np.linspace(0, len(images) - 1, 256).astype(int))
    torch.testing.assert_close(seen, torch.from_numpy(images[chosen]), rtol=0, atol=1e-5)


def test_the_accuracy_is_that_of_validation_images(checkpoint):
    student = load_student(checkpoint)
    images, labels = digits('test')
    given = list(validation_images(student, 10**6))
    torch.testing.assert_close(torch.cat([part for part, _ in given]), torch.from_numpy(images), rtol=0, atol=1e-5)
    assert torch.cat([part for _, part in given]).tolist() == labels.tolist()


@pytest.mark.slow
def test_int8_is_written_and_scores_outside_this_package_what_the_card_says(checkpoint, int8):
    model = onnx.load(int8.folder / 'model.onnx')
    weights = [tensor for tensor in model.graph.initializer if len(tensor.dims) == 4]
    assert len(weights) == 5  # the convolutions
    assert {tensor.data_type for tensor in weights} == {onnx.TensorProto.INT8}
    images, labels = digits('test')
    session = onnxruntime.InferenceSession(int8.folder / 'model.onnx')
    (logits,) = session.run(None, {'images': images})
    top1 = 100 * (logits.argmax(1) == labels).mean()
    with torch.no_grad():
        float32 = load_student(checkpoint).network(torch.from_numpy(images)).argmax(1).numpy()
    agreement = 100 * (logits.argmax(1) == float32).mean()

    said = json.loads((int8.folder / 'export.json').read_text())
    assert said['precision'] == 'int8'
    assert said['measured']['num_images'] == len(labels)
    assert said['measured']['accuracy']['int8']['top1'] == pytest.approx(top1)
    assert said['measured']['accuracy']['float32']['top1'] == pytest.approx(100 * (float32 == labels).mean())
    assert said['measured']['agreement'] == pytest.approx(agreement, abs=0.2)  # rounding of both sides
    assert 90 < agreement < 100
    card = (int8.folder / 'README.md').read_text()
    assert '| precision | int8; left in float32: Reshape |' in card
    assert f'| accuracy on 1497 validation images | {top1:.2f} % (' in card
    assert said['measured']['bytes']['int8'] == (int8.folder / 'model.onnx').stat().st_size
    assert Predictor(int8.folder).network(torch.from_numpy(images[:2])).numpy() == pytest.approx(logits[:2], abs=1e-5)


@pytest.mark.slow
def test_what_costs_more_than_allowed_is_refused_with_its_layers(checkpoint, tmp_path):
    refused = r'int8 costs .* --max-drop allows -1; .* most: backbone.layer1.* \(\d+ dB\).* by --calibration-images'
    with pytest.raises(ExportError, match=refused):
        export_student(checkpoint, tmp_path / 'export', 'onnx', precision='int8', max_drop=-1)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_fp16_keeps_images_and_logits_in_float32(checkpoint, tmp_path):
    path = elsewhere(checkpoint, tmp_path / 'a.pth', 'train_dataloader')  # fp16 needs no training data
    done = export_student(path, tmp_path / 'export', 'onnx', precision='fp16')
    model = onnx.load(tmp_path / 'export/model.onnx')
    kinds = {tensor.data_type for tensor in model.graph.initializer if len(tensor.dims) == 4}
    assert kinds == {onnx.TensorProto.FLOAT16}
    ends = [*model.graph.input, *model.graph.output]
    assert {end.type.tensor_type.elem_type for end in ends} == {onnx.TensorProto.FLOAT}
    assert done.measured.agreement > 99


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec('openvino') is None, reason='needs openvino: requirements/openvino.txt')
@pytest.mark.parametrize('precision', ['int8', 'fp16'])
def test_openvino_takes_both(checkpoint, precision, tmp_path):
    done = export_student(checkpoint, tmp_path / 'export', 'openvino', precision=precision, max_drop=3)
    assert done.measured.agreement > 90
    assert done.files == ('README.md', 'export.json', 'model.bin', 'model.xml')


NEEDS_EXECUTORCH = pytest.mark.skipif(
    importlib.util.find_spec('executorch') is None, reason='needs executorch: requirements/executorch.txt'
)


@pytest.mark.slow
@NEEDS_EXECUTORCH
@pytest.mark.parametrize(('name', 'file'), [('exported', 'model.pt2'), ('executorch', 'model.pte')])
def test_a_graph_in_int8_scores_outside_this_package_what_the_card_says(checkpoint, name, file, tmp_path):
    done = export_student(checkpoint, tmp_path / 'export', name, precision='int8', max_drop=3)
    images, labels = digits('test')
    if name == 'exported':
        importlib.import_module('torch.ao.quantization.fx._decomposed')
        logits = torch.export.load(tmp_path / 'export/model.pt2').module()(torch.from_numpy(images))
    else:
        runtime = importlib.import_module('executorch.runtime').Runtime.get()
        method = runtime.load_program(tmp_path / 'export/model.pte').load_method('forward')
        logits = torch.cat([method.execute((part,))[0].clone() for part in torch.from_numpy(images).split(32)])
    top1 = 100 * (logits.argmax(1).numpy() == labels).mean()
    assert done.measured.accuracy['int8'].top1 == pytest.approx(top1)
    assert 90 < done.measured.agreement < 100
    assert done.files == ('README.md', 'export.json', file)
    assert done.measured.bytes['int8'] == (tmp_path / 'export' / file).stat().st_size
    assert done.measured.in_float32 == ()
    assert Predictor(tmp_path / 'export').network(torch.from_numpy(images[:40])).shape == (40, 10)


@pytest.mark.slow
@NEEDS_EXECUTORCH
def test_a_graph_that_costs_too_much_is_refused_with_its_layers(checkpoint, tmp_path):
    with pytest.raises(ExportError, match=r'int8 costs .* The layers that lose most: .*backbone\.\S+ \(\d+ dB\)'):
        export_student(checkpoint, tmp_path / 'export', 'exported', precision='int8', max_drop=-100)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@NEEDS_EXECUTORCH
def test_weights_in_float32_do_not_stay_in_an_int8_graph():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 4))
    images = torch.randn(40, 1, 8, 8)
    graph = converted(observed(network.eval(), images))
    matrices = [value for value in graph.state_dict().values() if value.ndim == 2]
    assert [value.dtype for value in matrices] == [torch.int8, torch.int8]
    torch.testing.assert_close(graph(images), network(images), rtol=0, atol=0.03)


def test_a_package_that_is_missing_is_named_with_its_extra(monkeypatch, checkpoint, tmp_path):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, 'find_spec', lambda name, *more: None if name in ('executorch', 'torchao') else found(name)
    )
    for name, precision in (('executorch', 'float32'), ('exported', 'int8')):
        with pytest.raises(ImportError, match=rf'{name} needs executorch, torchao.*r2kd_mm\[executorch\]'):
            export_student(checkpoint, tmp_path / 'export', name, precision=precision)


# a student whose images are normalised before, and whose network ends in logits
PLAIN = SimpleNamespace(network=SimpleNamespace(normalise=None, softmax=False))


class Scaled(torch.nn.Module):
    """A layer, and operations that are of none."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Sequential(torch.nn.Linear(12, 6), torch.nn.GELU(approximate='tanh'))

    def forward(self, images):
        return self.layer(images.flatten(1)) * 2 + 1


@pytest.mark.slow
def test_a_layer_is_named_once_and_an_operation_of_none_by_its_tensor(tmp_path):
    images = torch.randn(8, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    for name in ('float32', 'int8'):
        (tmp_path / name).mkdir()
        dynamic = ({0: torch.export.Dim('batch')},)
        names = dict(input_names=['images'], output_names=['logits'])
        program = torch.onnx.export(
            Scaled().eval(), (images,), dynamo=True, verbose=False, dynamic_shapes=dynamic, **names
        )
        program.save(tmp_path / name / 'model.onnx')
    shutil.copy(tmp_path / 'float32/model.onnx', tmp_path / 'int8/model.onnx')
    onnx_int8(PLAIN, {}, tmp_path / 'int8', images)
    worst = onnx_worst_layers(tmp_path / 'float32', tmp_path / 'int8', images)
    assert all(worst)
    assert any(name.startswith('layer') for name in worst)


@pytest.mark.slow
def test_layer_norm_is_quantised_without_a_warning(tmp_path, caplog):
    images = torch.randn(40, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    parts = (torch.nn.Flatten(), torch.nn.Linear(12, 8), torch.nn.LayerNorm(8), torch.nn.Linear(8, 4))
    network = torch.nn.Sequential(*parts).eval()
    dynamic = ({0: torch.export.Dim('batch')},)
    names = dict(input_names=['images'], output_names=['logits'])
    torch.onnx.export(network, (images,), dynamo=True, verbose=False, dynamic_shapes=dynamic, **names).save(
        tmp_path / 'model.onnx'
    )
    caplog.clear()
    onnx_int8(PLAIN, {}, tmp_path, images)
    assert 'out-of-range' not in caplog.text
    session = onnxruntime.InferenceSession(tmp_path / 'model.onnx')
    (logits,) = session.run(None, {'images': images.numpy()})
    assert np.abs(logits - network(images).detach().numpy()).max() < 0.05


def elsewhere(checkpoint, path, *loaders):
    """The checkpoint of a run whose data are not here."""
    state = torch.load(checkpoint, weights_only=False)
    cfg = Config.fromstring(state['meta']['cfg'], '.py')
    for name in loaders:
        data = dict(type='ImageFolder', data_root='/nowhere', split='train')
        cfg[name].dataset = dict(data, pipeline=cfg.val_dataloader.dataset.pipeline)
    state['meta']['cfg'] = cfg.pretty_text
    torch.save(state, path)
    return path


def test_data_that_are_not_here_are_named_with_what_helps(checkpoint, tmp_path):
    path = elsewhere(checkpoint, tmp_path / 'a.pth', 'train_dataloader')
    with pytest.raises(FileNotFoundError, match='the training data .* not here .*/nowhere/train.*--calibration-images'):
        calibration_images(load_student(path))
    path = elsewhere(checkpoint, tmp_path / 'b.pth', 'val_dataloader', 'train_dataloader')
    exports.write_digits(tmp_path / 'digits')
    student = load_student(path, images=tmp_path / 'digits')
    with pytest.raises(FileNotFoundError, match='the accuracy is measured on the validation data .* --config'):
        list(validation_images(student, 4))
    with pytest.raises(FileNotFoundError, match='checked on real images, and the validation data .* by --images'):
        load_student(path)


def test_images_to_calibrate_on_are_refused_where_nothing_is_calibrated(checkpoint, tmp_path):
    with pytest.raises(ValueError, match='--calibration-images is for --precision int8, got --precision fp16'):
        export_student(checkpoint, tmp_path / 'export', 'onnx', precision='fp16', calibration=tmp_path)


def test_a_measurement_counts_what_both_networks_get_right():
    images, labels = torch.arange(8.0).view(8, 1, 1, 1), torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    above = {
        'float32': lambda batch: torch.cat([4 - batch.flatten(1), batch.flatten(1) - 3.5], 1),
        'int8': lambda batch: torch.cat([5.5 - batch.flatten(1), batch.flatten(1) - 5.5], 1),
    }
    batches = list(zip(images.split(3), labels.split(3)))
    found = measure('int8', above, batches, dict(float32=100, int8=30))
    assert found.num_images == 8
    assert {name: accuracy.top1 for name, accuracy in found.accuracy.items()} == {'float32': 100, 'int8': 75}
    assert found.drop('int8') == 25
    assert found.agreement == 75
    assert set(found.milliseconds['int8']) == {1, 32}
    assert 'allows 1; nothing was written. Give images like' in refusal(found, 'int8', 1, [])
    assert 'by --calibration-images' not in refusal(
        replace(found, accuracy={**found.accuracy, 'fp16': found.accuracy['int8']}), 'fp16', 1, []
    )


@pytest.mark.parametrize(('change', 'noted'), [(lambda x: x, False), (lambda x: x + 2, True), (lambda x: x / 3, True)])
def test_images_of_another_kind_are_noted(change, noted):
    here = torch.randn(64, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    note = other_kind(change(here.flip(0)), here)
    assert (note is not None) == noted
    if noted:
        assert note.startswith('the images for calibration are of another kind than those of validation: channel 0 has')


def test_a_precision_that_the_format_has_not_names_those_that_it_has(checkpoint, tmp_path):
    with pytest.raises(ValueError, match='format torch must be one of float32, got .int8.'):
        export_student(checkpoint, tmp_path / 'export', 'torch', precision='int8')
    with pytest.raises(ValueError, match='format onnx must be one of float32, fp16, int8, got .int4.'):
        export_student(checkpoint, tmp_path / 'export', 'onnx', precision='int4')
