"""If one export of a trained student fails, the other exports are still made."""

import json
from dataclasses import replace

import exports as export_files
import pytest
import torch

from r2kd_mm.export.network import ExportError
from r2kd_mm.photos import stages as module
from r2kd_mm.photos.options import Options


class TestExports:
    def test_one_that_fails_leaves_the_others(self, tmp_path, monkeypatch):
        def export(checkpoint, folder, name, precision, normalise, softmax, licence):
            if name != 'torch':
                raise dict(onnx=RuntimeError, exported=AssertionError)[name](f'{name} cannot')

        monkeypatch.setattr(module, 'export_student', export)
        monkeypatch.setattr(module, 'last_checkpoint', lambda run: 'x.pth')
        asked = Options('photos', 'timm/a', 'timm/b', tmp_path, formats=('onnx', 'exported', 'torch'))
        exports, failures = module._export(None, asked)
        assert exports == dict(torch=tmp_path / 'export' / 'torch')
        assert failures == ['onnx: onnx cannot', 'exported: exported cannot']

    @pytest.mark.slow
    @export_files.needs('onnx')
    def test_each_format_is_written_in_the_lower_precision_too(self, tmp_path, monkeypatch):
        torch.manual_seed(3)
        checkpoint = export_files.write_checkpoint(tmp_path / 'student.pth')
        monkeypatch.setattr(module, 'last_checkpoint', lambda run: checkpoint)
        asked = Options('photos', 'timm/a', 'timm/b', tmp_path, formats=('onnx',), precision='fp16')
        made, failures = module._export(None, asked)
        assert failures == []
        assert {name: folder.name for name, folder in made.items()} == {'onnx': 'onnx', 'onnx-fp16': 'onnx-fp16'}
        stated = [json.loads((folder / 'export.json').read_text()) for folder in made.values()]
        assert [found['precision'] for found in stated] == ['float32', 'fp16']
        assert 'measured' in stated[1]

        def fails(*args, precision, **given):
            raise ExportError(f'{precision} fails')

        monkeypatch.setattr(module, 'export_student', fails)
        made, (failure,) = module._export(None, replace(asked, precision='int8'))
        assert list(made) == ['onnx']
        assert failure == 'onnx-int8: int8 fails (options of tools/model_converters/export_student.py)'

    def test_one_that_was_made_otherwise_is_named(self, tmp_path, monkeypatch):
        folder = tmp_path / 'export' / 'torch'
        folder.mkdir(parents=True)
        (folder / 'export.json').write_text('{}')  # of an earlier version
        asked = Options('photos', 'timm/a', 'timm/b', tmp_path, formats=('torch',), with_softmax=True)
        exports, (failure,) = module._export(None, asked)
        assert exports == {}
        assert failure.endswith('was made with another --with-normalization, --with-softmax or --license; move it away')
        assert module._export(None, replace(asked, with_softmax=False)) == (dict(torch=folder), [])


def test_an_output_folder_among_the_photos_is_not_made(tmp_path):
    with pytest.raises(ValueError, match='lies among the photos'):
        module.distill(tmp_path, 'timm/a', 'timm/b', tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_the_package_of_a_logger_is_asked_for_before_anything_is_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(module.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(ImportError, match='--logger mlflow needs the package mlflow, .* pip install mlflow'):
        module.distill(tmp_path, 'timm/a', 'timm/b', tmp_path / 'out', formats=(), loggers=('mlflow',))


def test_the_packages_of_the_page_are_asked_for_before_anything_is_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(module, 'PAGE_PACKAGES', ('jinja2', 'no_such_package'))
    call = (tmp_path / 'photos', 'timm/a', 'timm/b', tmp_path / 'out')
    with pytest.raises(ImportError, match='the page needs no_such_package, which is not installed'):
        module.distill(*call)
    with pytest.raises(FileNotFoundError, match='there is no folder'):
        module.distill(*call, page=False)
