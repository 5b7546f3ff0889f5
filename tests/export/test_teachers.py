"""Teachers exported as ONNX files give the logits of their networks, or are refused; a student learns from them."""

import importlib
import math
from pathlib import Path

import pytest
import toolbox
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from r2kd_mm.distillers import LogitDistiller
from r2kd_mm.export import teachers
from r2kd_mm.export.network import ExportError
from r2kd_mm.export.teachers import export_teachers
from r2kd_mm.networks.files import FileNetwork
from r2kd_mm.runs.networks import build_distiller

pytest.importorskip('onnxruntime')
CONFIGS = toolbox.ROOT / 'configs'
FILES = ['config.py', 'pruned_teacher.onnx', 'teacher.onnx']


@pytest.fixture
def cfg():
    """R2KD on the digits, with a teacher from random weights."""
    torch.manual_seed(0)
    init_default_scope('r2kd_mm')
    found = Config.fromfile(CONFIGS / 'r2kd/r2kd_res14_res6_digits.py')
    found.model.update(teacher_ckpt=None, allow_untrained_teacher=True)
    found.train_dataloader.batch_size = 20
    return found


def learned_from(distiller, images):
    return distiller.step.targets(dict(clean=images))['clean']


def test_the_files_teach_what_the_networks_teach(cfg, tmp_path):
    torch.manual_seed(1)
    done = export_teachers(cfg, tmp_path / 'out', num_images=20)
    assert list(done) == ['teacher', 'pruned_teacher']
    assert all(0 < teacher.difference < 1e-5 for teacher in done.values())  # 0: a network was compared with itself
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == FILES
    assert [teacher.path for teacher in done.values()] == [tmp_path / f'out/{name}.onnx' for name in done]

    torch.manual_seed(1)  # the weights of the teacher that was written
    plain = build_distiller(cfg)
    files: LogitDistiller = build_distiller(Config.fromfile(tmp_path / 'out/config.py'))
    images = torch.randn(5, 1, 8, 8)
    torch.testing.assert_close(learned_from(files, images), learned_from(plain, images), rtol=1e-5, atol=1e-5)
    assert files.distillation_losses.keys() == plain.distillation_losses.keys()
    assert repr(files.augmentation) == repr(plain.augmentation)


def test_a_network_that_is_no_classifier_of_mmpretrain_is_written(tmp_path):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 5)).eval()
    images = torch.randn(4, 3, 8, 8)
    teachers.write_teacher(network, images, tmp_path / 'teacher.onnx')
    torch.testing.assert_close(FileNetwork(str(tmp_path / 'teacher.onnx'))(images), network(images).detach())


def test_r2kd_by_its_name_alone_keeps_its_losses_and_its_view(cfg):
    for field in ('losses', 'augmentation', 'pruner', 'teacher_weight'):
        cfg.model.pop(field)
    changed = teachers.learning_from(cfg, dict(teacher='a.onnx', pruned_teacher='b.onnx'), [0.7, 0.3]).model
    assert sorted(changed.losses) == ['loss_rank', 'loss_value']
    assert changed.augmentation.type == 'r2kd_mm.CutMix'
    assert [member.weight for member in changed.teacher.members.values()] == [0.7, 0.3]
    assert 'pruner' not in changed


@pytest.mark.slow
def test_int8_keeps_the_last_layer_in_float32(cfg, tmp_path, monkeypatch):
    monkeypatch.setattr(teachers, 'TOP1', 0.0)  # untrained teachers have no sure class
    monkeypatch.setattr(teachers, 'CORRELATION', 0.9)
    done = export_teachers(cfg, tmp_path / 'out', 'int8', num_images=20)
    assert all(1e-4 < teacher.difference < 0.5 for teacher in done.values())
    graph = importlib.import_module('onnx').load(tmp_path / 'out/teacher.onnx').graph
    quantised = {output for node in graph.node if node.op_type == 'DequantizeLinear' for output in node.output}
    convolutions = [node for node in graph.node if node.op_type == 'Conv']
    assert convolutions
    assert all(quantised.issuperset(node.input[:2]) for node in convolutions)
    (last,) = (node for node in graph.node if graph.output[0].name in node.output)
    assert last.op_type == 'Gemm'
    assert not quantised.intersection(last.input)


@pytest.mark.parametrize(
    ('precision', 'message'), [('float32', 'differs from its network by nan'), ('int8', 'logits is nan')]
)
def test_a_file_that_gives_no_numbers_is_refused(precision, message):
    done = teachers.ExportedTeacher(Path('teacher.onnx'), math.nan, 100.0, math.nan, (1.0, 1.0))
    with pytest.raises(ExportError, match=message):
        teachers._check(done, 'teacher', precision)


@pytest.mark.slow
def test_another_teacher_is_refused_and_nothing_is_left(cfg, tmp_path, monkeypatch):
    monkeypatch.setattr(teachers, 'CORRELATION', 1.1)
    with pytest.raises(ExportError, match=r'teacher in int8 is not the same teacher: .* is 0\.9\d+ \(at least 1\.1'):
        export_teachers(cfg, tmp_path / 'out', 'int8', num_images=20)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        (dict(replay=dict(folder='x')), 'model.replay needs the teacher itself'),
        (dict(features=dict(x=1)), 'model.features needs the teacher itself'),
        pytest.param(dict(pruned_teacher_mode='train'), 'pruned_teacher is in train mode', marks=pytest.mark.slow),
        (dict(weighting=dict(type='ConfidenceWeights')), 'ConfidenceWeights weights the teachers image by image'),
    ],
)
def test_what_a_file_cannot_do_is_refused(cfg, tmp_path, fields, message):
    cfg.model.update(fields)
    with pytest.raises(ExportError, match=message):
        export_teachers(cfg, tmp_path / 'out', num_images=20)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_not_overwritten(cfg, tmp_path):
    with pytest.raises(FileExistsError, match='give another folder'):
        export_teachers(cfg, tmp_path)


@pytest.mark.slow
def test_the_tool_writes_a_config_that_trains(tmp_path):
    options = ['model.teacher_ckpt=None', 'model.allow_untrained_teacher=True']
    config = CONFIGS / 'r2kd/r2kd_res14_res6_digits.py'
    command = ('model_converters/export_teachers.py', config, tmp_path / 'out', '--cfg-options', *options)
    written = toolbox.run_forked(*command)
    assert written.returncode == 0, written.stderr
    assert 'teacher: 100.00 % of the images keep their class' in written.stdout
    again = toolbox.run_forked(*command)
    assert again.returncode == 1
    assert 'exists already' in again.stderr
    options = ['train_cfg.max_epochs=1', 'val_evaluator.topk=(1,)']
    trained = toolbox.run_forked(
        'train.py', tmp_path / 'out/config.py', '--work-dir', tmp_path / 'run', '--cfg-options', *options
    )
    assert trained.returncode == 0, trained.stderr
    assert (tmp_path / 'run/epoch_1.pth').is_file()
