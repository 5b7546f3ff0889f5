"""A student learns with fake quantisation, and its int8 file says what it says."""

import copy
import importlib.util

import pytest
import toolbox
import torch
import toys
from mmengine.config import Config
from mmengine.model import ExponentialMovingAverage
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from r2kd_mm.export import ExportError, export_student
from r2kd_mm.quantized import PACKAGES, SMALLEST_SCALE, _check_batch_norm, _fake_quantisers
from r2kd_mm.registry import MODELS

needs_executorch = pytest.mark.skipif(
    importlib.util.find_spec('executorch') is None, reason='needs executorch: requirements/executorch.txt'
)


def build(**fields):
    with DefaultScope.overwrite_default_scope('r2kd_mm'):
        config = dict(type='FakeQuantizedClassifier', classifier=toys.classifier(), image_shape=(3, 8, 8))
        return MODELS.build({**config, **fields})


@pytest.fixture(scope='module')
def trained():
    torch.manual_seed(0)
    student = build().train()
    images, samples = toys.batch(40)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(30):
        loss = student(images, samples, mode='loss')['loss']
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    return student


@pytest.mark.slow
@needs_executorch
def test_the_int8_network_says_what_the_student_says(trained):
    student = copy.deepcopy(trained).eval()
    images = toys.batch(200, seed=1)[0]
    before = copy.deepcopy(student.state_dict())
    with torch.no_grad():
        expected, given = student(images), student.converted()(images)
    assert ((given - expected).abs().max() / expected.abs().max()).item() < 0.03
    assert (given.argmax(1) == expected.argmax(1)).float().mean() > 0.98
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())


@pytest.mark.slow
@needs_executorch
def test_evaluation_and_freezing_keep_statistics_and_ranges(trained):
    student = copy.deepcopy(trained).eval()
    images = 5 * toys.batch(40, seed=2)[0]

    def changed():
        before = copy.deepcopy(student.state_dict())
        student(images)
        return {name for name, value in student.state_dict().items() if not torch.equal(value, before[name])}

    assert not changed()
    student.train()
    assert any(name.endswith('running_mean') for name in changed())
    assert any(name.endswith('max_val') for name in changed())
    student.freeze_()
    assert not changed()


@pytest.mark.slow
@needs_executorch
def test_a_state_dict_brings_back_weights_and_ranges(trained):
    torch.manual_seed(1)
    other, images = build(), toys.batch(6)[0]
    other.load_state_dict(trained.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(other.eval()(images), copy.deepcopy(trained).eval()(images), rtol=0, atol=0)


@pytest.mark.slow
@needs_executorch
@pytest.mark.parametrize('update_buffers', [False, True])
def test_an_averaged_student_is_written_with_the_scales_that_round_it(trained, update_buffers):
    torch.manual_seed(2)
    student = copy.deepcopy(trained).train()
    last = [weight for name, weight in student.named_parameters() if name.endswith('fc.weight')][-1]
    with torch.no_grad():
        last[0] *= 1e-4  # its range is below the smallest scale
    average = ExponentialMovingAverage(student, momentum=0.3, update_buffers=update_buffers)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.01)
    for seed in range(5):
        student(*toys.batch(20, seed=seed), mode='loss')['loss'].backward()
        optimizer.step()
        average.update_parameters(student)
    assert [name for name, _ in average.module.named_buffers()] == [name for name, _ in student.named_buffers()]

    images = toys.batch(50, seed=9)[0]
    loaded = build()
    loaded.load_state_dict(dict(average.module.state_dict()))  # without the versions of the modules
    averaged, file = average.module.eval(), loaded.eval().converted()
    scales = [value for name, value in file.named_buffers() if name.startswith('_scale_')]
    rounded = [module.scale for module in _fake_quantisers(averaged.model) if module.is_per_channel]
    assert sorted(scale.tolist() for scale in scales) == sorted(scale.tolist() for scale in rounded)
    assert min(float(scale.min()) for scale in scales) == SMALLEST_SCALE
    with torch.no_grad():
        assert torch.equal(file(images), averaged(images))


@pytest.mark.slow
@needs_executorch
def test_a_batch_norm_keeps_its_momentum_and_its_eps():
    norm = dict(type='BN', eps=0.1, momentum=0.3)
    config = toys.classifier()
    config['backbone']['norm_cfg'] = norm
    torch.manual_seed(0)
    student = build(classifier=config)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('r2kd_mm'):
        plain = MODELS.build(config)
        plain.init_weights()
    images = toys.batch(20)[0]
    student.model.apply(importlib.import_module('torchao.quantization.pt2e').disable_fake_quant)
    for _ in range(3):  # training with the statistics of the batch
        torch.testing.assert_close(student.train()(images), plain.train()(images), rtol=1e-4, atol=1e-5)
    with torch.no_grad():  # evaluation with those that were collected
        torch.testing.assert_close(student.eval()(images), plain.eval()(images), rtol=1e-4, atol=1e-5)
        student.model.apply(importlib.import_module('torchao.quantization.pt2e').enable_fake_quant)
        assert torch.equal(student.converted()(images), student(images))


def r2kd(work_dir, epochs, **options):
    """R2KD with a student with fake quantisation, on two batches of digits an epoch."""
    cfg = Config.fromfile(toolbox.ROOT / 'configs/r2kd/r2kd_res14_res6_digits.py')
    classifier = cfg.model.architecture
    classifier.backbone.zero_init_residual = False
    cfg.model.architecture = dict(type='FakeQuantizedClassifier', classifier=classifier, image_shape=(1, 8, 8))
    cfg.merge_from_dict(
        {
            'work_dir': str(work_dir),
            'experiment_name': str(work_dir).replace('/', '_'),
            'train_cfg.max_epochs': epochs,
            'train_cfg.val_interval': 1,
            'train_dataloader.batch_size': 10,
            'train_dataloader.dataset.train_size': 20,
            'val_dataloader.dataset.indices': 40,
            'default_hooks.checkpoint.interval': 1,
            'default_hooks.checkpoint.max_keep_ckpts': -1,
            'model.teacher_ckpt': None,
            'model.allow_untrained_teacher': True,
            'model.teacher_engine': 'plain',
            **options,
        }
    )
    cfg.param_scheduler = None
    cfg.custom_hooks = [
        *cfg.get('custom_hooks', ()),
        dict(type='EMAHook', momentum=0.1),
        dict(type='FreezeQuantizationHook', begin=1),
    ]
    return Runner.from_cfg(cfg)


@pytest.mark.slow
@needs_executorch
def test_r2kd_teaches_it_resumes_to_the_bit_and_exports_what_was_trained(tmp_path):
    runner = r2kd(tmp_path / 'run', 2)
    runner.train()
    first, last = (
        torch.load(tmp_path / f'run/epoch_{epoch}.pth', weights_only=False)['state_dict'] for epoch in (1, 2)
    )
    means = [name for name in last if name.endswith('running_mean') and name.startswith('architecture')]
    assert means
    assert all(torch.equal(first[name], last[name]) for name in means)  # frozen after one epoch
    learned = [f'architecture.{name}' for name, _ in runner.model.architecture.named_parameters()]
    assert not any(torch.equal(first[name], last[name]) for name in learned)

    resumed = r2kd(tmp_path / 'again', 2, load_from=str(tmp_path / 'run/epoch_1.pth'), resume=True)
    resumed.train()
    again = torch.load(tmp_path / 'again/epoch_2.pth', weights_only=False)['state_dict']
    assert [name for name in last if not torch.equal(last[name], again[name])] == []

    done = export_student(tmp_path / 'run/epoch_2.pth', tmp_path / 'export', 'exported', precision='int8')
    assert done.difference == 0
    assert '| checked | in int8, on ' in (done.folder / 'README.md').read_text()
    assert set(done.measured.milliseconds) == {'int8'}
    assert done.measured.agreement > 95
    with pytest.raises(ExportError, match='learned with fake quantisation, .* got onnx in float32; give --format exp'):
        export_student(tmp_path / 'run/epoch_2.pth', tmp_path / 'onnx', 'onnx')


def test_weights_of_zero_in_a_batch_norm_are_refused():
    with DefaultScope.overwrite_default_scope('r2kd_mm'):
        config = toys.classifier()
        config['backbone']['zero_init_residual'] = True
        classifier = MODELS.build(config)
    classifier.init_weights()
    with pytest.raises(ValueError, match=r"'backbone.layer1.0.bn2' has weights of 0, .* without zero_init_residual"):
        _check_batch_norm(classifier)


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name, *of: None if name in PACKAGES else found(name, *of))
    with pytest.raises(ImportError, match=r'needs executorch, torchao, .*r2kd_mm\[executorch\]'):
        build()


def test_weights_to_start_from_belong_to_the_classifier():
    with pytest.raises(ValueError, match='takes no init_cfg.*give init_cfg to the classifier in it'):
        build(init_cfg=dict(type='Pretrained', checkpoint='a.pth'))
