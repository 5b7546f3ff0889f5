"""A run reports which weights it loads to start, resume or test; a weight file that does not fit is refused."""

import copy
import logging

import pytest
import torch
import toys
from mmengine.hooks import EMAHook
from mmengine.model import PretrainedInit
from mmengine.registry import DefaultScope
from mmengine.runner import load_checkpoint

from r2kd_mm.registry import MODELS
from r2kd_mm.weights import WrongWeights, forget_initial_weights_

PREFIXED = dict(type='Pretrained', prefix='architecture.')


@pytest.fixture
def said(monkeypatch):
    """Every message of the log, in one list."""
    messages = []
    monkeypatch.setattr(logging.Logger, 'handle', lambda _self, record: messages.append(record.getMessage()))
    return messages


def build(config, seed=0):
    torch.manual_seed(seed)
    with DefaultScope.overwrite_default_scope('r2kd_mm'):
        return MODELS.build(config)


def distiller(**student):
    return dict(
        type='LogitDistiller',
        architecture=toys.classifier(**student),
        teacher=toys.classifier(),
        allow_untrained_teacher=True,
        losses=dict(loss_kd=dict(type='KLDivergenceLoss')),
    )


@pytest.fixture
def file(tmp_path):
    """Write the weights of a model, named and wrapped as wanted."""

    def write(config, wrap=lambda weights: {'state_dict': weights}, rename=lambda name: name):
        weights = build(config, seed=1).state_dict()
        torch.save(wrap({rename(name): weight for name, weight in weights.items()}), tmp_path / 'weights.pth')
        return str(tmp_path / 'weights.pth'), weights

    return write


def assert_equal(weights, expected):
    assert weights.keys() == expected.keys()
    assert [name for name, weight in weights.items() if not torch.equal(weight, expected[name])] == []


# PyTorch fills in the counters of batch norm itself
COUNT = len([name for name in build(toys.classifier()).state_dict() if 'num_batches_tracked' not in name])


@pytest.mark.parametrize(
    ('model', 'given', 'renamed', 'advice'),
    [
        (toys.classifier(), distiller(), '', r"The names fit with prefix='architecture\.'"),
        (distiller(), toys.classifier(), '', "The names fit the part 'architecture' of the model"),
        (toys.classifier(), toys.classifier(), 'student.net.', r"The names fit with prefix='student\.net\.'"),
        (toys.classifier(), toys.classifier(width=8), '', r'shape \(4, 3, 3, 3\), the file has shape \(8, 3, 3, 3\)'),
    ],
    ids=['the student of a distillation', 'a student', 'another name', 'another width'],
)
def test_a_start_from_weights_that_the_backbone_gets_nothing_of_is_refused(
    model, given, renamed, advice, file, tmp_path
):
    path, _ = file(given, rename=lambda name: renamed + name)
    message = rf"^checkpoint '{path}' does not fit this \w+: none of the \d+ tensors of its backbone .*{advice}"
    started = build(dict(model, init_cfg=dict(type=PretrainedInit, checkpoint=path)))
    with pytest.raises(WrongWeights, match=message):
        started.init_weights()
    with pytest.raises(WrongWeights, match=message):
        toys.runner(model, tmp_path, load_from=path).load_checkpoint(path)


def test_the_advice_works(file, said):
    path, weights = file(distiller())
    model = build(dict(toys.classifier(), init_cfg=dict(PREFIXED, checkpoint=path)))
    model.init_weights()
    assert_equal({f'architecture.{name}': weight for name, weight in model.state_dict().items()}, weights)
    assert f'Loaded {COUNT} of {COUNT} tensors into ImageClassifier.' in said


def test_a_prefix_that_no_name_has_is_refused_by_the_names_that_there_are(file):
    path, _ = file(toys.classifier())
    model = build(dict(toys.classifier(), init_cfg=dict(PREFIXED, checkpoint=path)))
    with pytest.raises(WrongWeights, match=rf"'{path}' holds no weights .* prefix='architecture\.'.*backbone, head"):
        model.init_weights()


@pytest.mark.parametrize('place', ['load_from', 'init_cfg'])
def test_the_log_says_what_was_loaded_and_what_was_not(place, file, said, tmp_path):
    path, _ = file(toys.classifier(num_classes=7))
    model = toys.classifier()
    if place == 'load_from':
        runner = toys.runner(model, tmp_path, load_from=path)
        runner.load_or_resume()
    else:
        build(dict(model, init_cfg=dict(type='Pretrained', checkpoint=path))).init_weights()
    lines = [line for line in said if line.startswith('Loaded ')]
    assert lines == [
        f'Loaded {COUNT - 2} of {COUNT} tensors into ImageClassifier; of another shape in the file: '
        'head.layers.1.fc.weight (7, 32) instead of (5, 32), head.layers.1.fc.bias (7,) instead of (5,).'
    ]


def test_names_that_one_side_alone_has_are_in_the_log(file, said):
    path, _ = file(toys.classifier(), rename=lambda name: name.replace('head.layers.1.fc', 'head.layers.1.classifier'))
    load_checkpoint(build(toys.classifier()), path)
    assert f'Loaded {COUNT - 2} of {COUNT} tensors' in said[-1]
    assert 'not in the file: head.layers.1.fc.weight, head.layers.1.fc.bias;' in said[-1]
    assert (
        'in the file and not in the model: head.layers.1.classifier.weight, head.layers.1.classifier.bias.' in said[-1]
    )


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """Return the checkpoint of a run."""
    folder = tmp_path_factory.mktemp('run')
    toys.runner(toys.classifier(), folder).train()
    return torch.load(folder / 'epoch_1.pth', weights_only=False)


@pytest.mark.parametrize(
    ('use', 'fault'),
    [('test', 'prefix'), ('test', 'missing'), ('val', 'shape'), ('resume', 'prefix'), ('resume', 'shape')],
)
def test_a_test_and_a_resumed_run_want_every_tensor(use, fault, checkpoint, tmp_path):
    path = tmp_path / 'given.pth'
    checkpoint = copy.deepcopy(checkpoint)
    weights = checkpoint['state_dict']
    if fault == 'prefix':
        checkpoint['state_dict'] = {f'architecture.{name}': weight for name, weight in weights.items()}
    elif fault == 'missing':
        del weights['head.layers.1.fc.bias']
    else:
        weights['head.layers.1.fc.bias'] = torch.zeros(9)
    torch.save(checkpoint, path)
    test = dict(test_dataloader=runner_data(), test_cfg=dict(), test_evaluator=dict(type='Accuracy'))
    runner = toys.runner(
        toys.classifier(), tmp_path / 'second', epochs=2, load_from=str(path), resume=use == 'resume', **test
    )
    count = COUNT if fault == 'prefix' else 1
    with pytest.raises(
        WrongWeights, match=rf"'{path}' does not fit the model of the config: {count} of {COUNT} weights"
    ):
        getattr(runner, dict(resume='train').get(use, use))()


def runner_data():
    return dict(dataset=toys.Images(), batch_size=10, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False))


def test_a_whole_checkpoint_is_tested_and_resumed(tmp_path, said):
    toys.runner(distiller(), tmp_path / 'first').train()
    path = str(tmp_path / 'first' / 'epoch_1.pth')
    test = dict(test_dataloader=runner_data(), test_cfg=dict(), test_evaluator=dict(type='Accuracy'))
    runner = toys.runner(distiller(), tmp_path / 'second', load_from=path, **test)
    runner.test()
    assert_equal(runner.model.state_dict(), torch.load(path, weights_only=False)['state_dict'])
    resumed = toys.runner(distiller(), tmp_path / 'third', epochs=2, load_from=path, resume=True)
    resumed.train()
    assert resumed.epoch == 2
    assert said.count(f'Loaded {COUNT} of {COUNT} tensors into LogitDistiller.') == 2


@pytest.mark.parametrize(
    ('wrap', 'taken', 'others'),
    [
        (lambda raw, average: {'state_dict': raw, 'state_dict_ema': average}, 'state_dict', 'state_dict_ema'),
        (lambda raw, average: {'model': raw, 'model_ema': average}, 'model', 'model_ema'),
    ],
    ids=['timm', 'DeiT'],
)
def test_the_log_says_which_of_several_sets_is_taken(wrap, taken, others, file, said):
    path, weights = file(
        toys.classifier(), wrap=lambda raw: wrap(raw, {name: torch.zeros_like(raw[name]) for name in raw})
    )
    model = build(toys.classifier())
    load_checkpoint(model, path)
    assert_equal(model.state_dict(), weights)
    assert any(f'Taken: {taken}. Not taken: {others}; ' in line for line in said)


def test_weights_are_loaded_in_every_form_that_a_file_has(file):
    for wrap in (
        copy.copy,
        lambda weights: {'model': weights},
        lambda weights: {'state_dict': {f'module.{name}': weight for name, weight in weights.items()}},
        lambda weights: {'model': {'n_averaged': torch.tensor(3), **{f'module.{n}': w for n, w in weights.items()}}},
    ):
        path, weights = file(toys.classifier(), wrap=wrap)
        model = build(toys.classifier())
        load_checkpoint(model, path)
        assert_equal(model.state_dict(), weights)


@pytest.mark.parametrize('wrap', [copy.copy, lambda weights: {'model': weights}], ids=['bare', 'model'])
def test_a_moving_average_starts_from_weights_in_every_form_as_well(wrap, file, tmp_path):
    path, weights = file(toys.classifier(), wrap=wrap)
    runner = toys.runner(toys.classifier(), tmp_path, load_from=path, hooks=[EMAHook()])
    runner.call_hook('before_run')
    runner.load_or_resume()
    for model in (runner.model, next(hook for hook in runner.hooks if isinstance(hook, EMAHook)).ema_model.module):
        assert_equal(model.state_dict(), weights)


def test_a_file_without_weights_is_named(tmp_path):
    torch.save({'epoch': 3}, tmp_path / 'weights.pth')
    runner = toys.runner(toys.classifier(), tmp_path, load_from=str(tmp_path / 'weights.pth'))
    message = r"^checkpoint '.*weights\.pth': this checkpoint holds no weights"
    with pytest.raises(ValueError, match=message):
        runner.load_or_resume()
    for prefix in (None, 'architecture.'):
        init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'weights.pth'), prefix=prefix)
        with pytest.raises(ValueError, match=message):
            build(dict(toys.classifier(), init_cfg=init_cfg)).init_weights()


def test_a_config_forgets_the_weights_that_its_run_began_from():
    init_cfg = dict(type='Pretrained', checkpoint='x.pth')
    kaiming = dict(type='Kaiming', layer='Conv2d')
    model = dict(
        init_cfg=kaiming,
        architecture=dict(
            type='ItePruneAlgorithm',
            architecture=dict(type='ImageClassifier', init_cfg=init_cfg, backbone=dict(pretrained=True)),
        ),
        teacher=dict(pretrained=True),
    )
    forget_initial_weights_(model)
    assert model == dict(
        init_cfg=kaiming,
        architecture=dict(type='ItePruneAlgorithm', architecture=dict(type='ImageClassifier', backbone={})),
        teacher=dict(pretrained=True),
    )
