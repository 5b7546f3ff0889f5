"""Each export format gives the student's logits in a process that cannot import this package."""

import dataclasses
import importlib.util
import json
import subprocess
import sys
import textwrap

import exports
import pytest
import toolbox
import torch

from r2kd_mm.export import FORMATS, ExportError, export_student, load_student, require_packages

# What a user writes who has the folder and the runtime of the format, and nothing of ours.
USE = {
    'mmpretrain': """
        import torch
        try:
            import torchvision
        except RuntimeError:  # it was built for another torch
            library = torch.library.Library('torchvision', 'FRAGMENT')
            for name in ('nms', 'qnms'):
                library.define(f'{name}(Tensor input) -> Tensor')
        from mmpretrain import get_model
        model = get_model(f'{folder}/config.py', pretrained=f'{folder}/weights.pth')
        network = lambda images: model(images, mode='tensor')
    """,
    'torch': """
        sys.path.insert(0, folder)
        from network import load
        network = load(f'{folder}/weights.pth')
    """,
    'safetensors': """
        sys.path.insert(0, folder)
        from network import load
        network = load(f'{folder}/weights.safetensors')
    """,
    'torchscript': """
        import torch
        network = torch.jit.load(f'{folder}/model.pt')
    """,
    'exported': """
        import torch
        network = torch.export.load(f'{folder}/model.pt2').module()
    """,
    'executorch': """
        import torch
        from executorch.runtime import Runtime
        method = Runtime.get().load_program(f'{folder}/model.pte').load_method('forward')
        network = lambda images: method.execute((images,))[0].clone()
    """,
    'openvino': """
        import openvino, torch
        compiled = openvino.Core().compile_model(f'{folder}/model.xml', 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'})
        network = lambda images: torch.from_numpy(compiled(images.numpy())[0])
    """,
    'onnx': """
        import onnxruntime, torch
        session = onnxruntime.InferenceSession(f'{folder}/model.onnx')
        network = lambda images: torch.from_numpy(session.run(None, {'images': images.numpy()})[0])
    """,
}
SCRIPT = """
import sys

class Blocked:
    def find_spec(name, path=None, target=None):
        if name.split('.')[0] in BLOCKED:
            raise ImportError(f'{name} is not installed here')

BLOCKED, folder, images, answers = sys.argv[1].split(','), *sys.argv[2:]
sys.meta_path.insert(0, Blocked)
USE
import torch
images = torch.load(images)
with torch.no_grad():
    torch.save([network(images[:count]) for count in (1, 3, 8)], answers)
assert not set(BLOCKED) & {name.split('.')[0] for name in sys.modules}
"""

SLOW = ('exported', 'onnx', 'openvino', 'executorch')  # to write


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    torch.manual_seed(3)  # a network that does not say the same of every image
    return exports.write_checkpoint(tmp_path_factory.mktemp('run') / 'student.pth')


@exports.FORMAT
def test_an_export_works_without_this_package(checkpoint, name, tmp_path):
    done = export_student(checkpoint, tmp_path / 'export', name)
    student = load_student(checkpoint)
    expected = student.logits()
    torch.save(student.images, tmp_path / 'images.pth')
    blocked = ['r2kd_mm', 'mmrazor'] + ['mmengine', 'mmcv', 'mmpretrain'] * (name != 'mmpretrain')
    script = SCRIPT.replace('USE', textwrap.dedent(USE[name]))
    answers = tmp_path / 'answers.pth'
    arguments = [','.join(blocked), tmp_path / 'export', tmp_path / 'images.pth', answers]
    finished = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', script, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**toolbox.environment(), 'PYTHONPATH': '', 'PYTHONDONTWRITEBYTECODE': '1'},
    )
    assert finished.returncode == 0, finished.stderr
    for given, count in zip(torch.load(answers), (1, 3, 8)):
        torch.testing.assert_close(given, expected[:count], rtol=1e-5, atol=1e-5)
    assert len(set(expected.argmax(1).tolist())) > 1  # so that a constant answer would be seen
    assert set(done.files) == {path.name for path in (tmp_path / 'export').iterdir()}


def metadata(name, folder) -> str | dict:
    """The description inside the file of the network."""
    if name == 'torch':
        return torch.load(folder / 'weights.pth')['meta']
    if name == 'safetensors':
        from safetensors import safe_open

        with safe_open(folder / 'weights.safetensors', framework='pt') as file:
            return file.metadata()['export.json']
    found = {'export.json': ''}
    if name == 'torchscript':
        torch.jit.load(folder / 'model.pt', _extra_files=found)
    elif name == 'exported':
        torch.export.load(folder / 'model.pt2', extra_files=found)
    elif name == 'openvino':
        model = pytest.importorskip('openvino').Core().read_model(folder / 'model.xml')
        return model.get_rt_info(['export.json']).astype(str)
    else:
        onnxruntime = pytest.importorskip('onnxruntime')
        found = onnxruntime.InferenceSession(folder / 'model.onnx').get_modelmeta().custom_metadata_map
    return found['export.json']


@pytest.mark.filterwarnings('ignore::DeprecationWarning')
@pytest.mark.parametrize(
    'name',
    [
        pytest.param(
            name, marks=[exports.needs(name), *[pytest.mark.slow] * (name in ('exported', 'onnx', 'openvino'))]
        )
        for name in FORMATS
        if name not in ('mmpretrain', 'executorch')  # which hold none
    ],
)
def test_the_description_lies_in_the_file_too(checkpoint, name, tmp_path):
    export_student(checkpoint, tmp_path / 'export', name)
    beside = json.loads((tmp_path / 'export/export.json').read_text())
    inside = metadata(name, tmp_path / 'export')
    inside = json.loads(json.dumps(inside) if isinstance(inside, dict) else inside)
    assert inside == beside
    assert beside['classes'] == [str(digit) for digit in range(10)]
    assert beside['input']['shape'] == ['N', 1, 8, 8]
    assert beside['preprocessing']['channel_order'] == 'GRAY'


def test_a_missing_package_names_its_extra(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(ImportError, match=r"onnx needs onnxruntime, onnx, onnxscript, .* 'r2kd_mm\[export\]'"):
        export_student(checkpoint, tmp_path / 'export', 'onnx')
    with pytest.raises(ImportError, match='onnx needs onnxruntime, which'):
        require_packages('onnx')
    require_packages('torch', to_write=True)
    assert not list(tmp_path.iterdir())


def test_plain_mmpretrain_is_not_given_a_student_of_mmrazor(checkpoint, tmp_path):
    student = dataclasses.replace(load_student(checkpoint), config=None)
    with pytest.raises(ExportError, match='was pruned by mmrazor.*take another format'):
        FORMATS['mmpretrain'].write(student, {}, tmp_path)


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        ('supervised/res20_cifar100.py', 'CIFARResNet is of r2kd_mm; take the format torch'),
        ('supervised/res14w8_glyph100.py', 'it does not know NormalizeContrast; take another format'),
    ],
    ids=['network', 'transform'],
)
def test_plain_mmpretrain_is_not_given_what_is_ours(config, message, tmp_path):
    photos = tmp_path / 'photos'
    exports.write_photos(photos, height=32, width=32)
    checkpoint = exports.write_checkpoint(tmp_path / 'student.pth', config)
    with pytest.raises(ValueError, match=message):
        export_student(checkpoint, tmp_path / 'export', 'mmpretrain', images=photos)
    assert export_student(checkpoint, tmp_path / 'export', 'torch', images=photos).difference == 0
    steps = json.loads((tmp_path / 'export/export.json').read_text())['preprocessing']['transforms']
    assert (dict(type='NormalizeContrast') in steps) == ('NormalizeContrast' in message)
