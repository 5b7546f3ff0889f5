"""Command-line options change the config of a run; an option that no run reads is refused."""

import argparse
import os

import pytest
import torch
from mmengine.config import Config

from r2kd_mm.engine.arguments import add_run_arguments
from r2kd_mm.engine.run_config import load_run_config


@pytest.fixture
def load(tmp_path):
    """Load a config of these fields with these arguments."""

    def load_config(arguments: tuple[str, ...] = (), **fields) -> Config:
        path = tmp_path / 'my_run.py'
        Config(dict(model=dict(type='X')) | fields).dump(path)
        parser = argparse.ArgumentParser()
        add_run_arguments(parser)
        parser.add_argument('--no-persistent-workers', action='store_true')
        return load_run_config(parser.parse_args([str(path), *arguments]))

    return load_config


def test_work_dir_comes_from_the_command_line_then_the_config_then_its_name(load, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load(('--work-dir', 'given'), work_dir='stated').work_dir == 'given'
    assert load(work_dir='stated').work_dir == 'stated'
    assert load().work_dir == 'work_dirs/my_run'


def test_options_change_nested_fields_and_list_items(load, tmp_path):
    cfg = load(
        (
            '--work-dir',
            str(tmp_path),
            '--cfg-options',
            'model.head.size=3',
            'custom_hooks.1.begin=2',
            'randomness.seed=4',
        ),
        custom_hooks=[dict(type='A'), dict(type='B')],
    )
    assert cfg.model == dict(type='X', head=dict(size=3))
    assert cfg.custom_hooks == [dict(type='A'), dict(type='B', begin=2)]
    assert cfg.randomness.seed == 4


@pytest.mark.parametrize(
    ('workers', 'arguments', 'persistent'), [(2, (), True), (0, (), False), (2, ('--no-persistent-workers',), False)]
)
def test_workers_persist_where_there_are_any(load, tmp_path, workers, arguments, persistent):
    dataloader = dict(num_workers=workers, persistent_workers=True)
    cfg = load(('--work-dir', str(tmp_path), *arguments), train_dataloader=dataloader)
    assert cfg.train_dataloader.persistent_workers is persistent


@pytest.mark.parametrize('gpu', [True, False])
def test_memory_is_pinned_for_a_gpu_unless_forbidden(load, tmp_path, monkeypatch, gpu):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: gpu)
    fields = dict(work_dir=str(tmp_path), train_dataloader=dict(pin_memory=True), val_dataloader=dict(pin_memory=False))
    cfg = load(**fields)
    assert (cfg.train_dataloader.pin_memory, cfg.val_dataloader.pin_memory) == (gpu, False)
    assert load(('--no-pin-memory',), **fields).train_dataloader.pin_memory is False


def test_deterministic_products_of_a_gpu_have_their_workspace(load, monkeypatch):
    monkeypatch.setenv('CUBLAS_WORKSPACE_CONFIG', '')
    monkeypatch.delenv('CUBLAS_WORKSPACE_CONFIG')  # and put back what was there
    load(randomness=dict(seed=0))
    assert 'CUBLAS_WORKSPACE_CONFIG' not in os.environ
    load(randomness=dict(deterministic=True))
    assert os.environ['CUBLAS_WORKSPACE_CONFIG'] == ':4096:8'
    monkeypatch.setenv('CUBLAS_WORKSPACE_CONFIG', ':16:8')
    load(randomness=dict(deterministic=True))
    assert os.environ['CUBLAS_WORKSPACE_CONFIG'] == ':16:8'


def test_a_collate_function_of_the_config_stays(load, tmp_path):
    cfg = load(
        work_dir=str(tmp_path),
        train_dataloader=dict(collate_fn=dict(type='pseudo_collate')),
        val_dataloader=dict(batch_size=2),
    )
    assert cfg.train_dataloader.collate_fn.type == 'pseudo_collate'
    assert cfg.val_dataloader.collate_fn.type == 'default_collate'


def test_an_option_that_no_run_reads_is_refused(load, tmp_path):
    with pytest.raises(ValueError, match="no run reads a field 'optim_wraper'; did you mean 'optim_wrapper'"):
        load(('--cfg-options', 'optim_wraper.optimizer.lr=1'), work_dir=str(tmp_path))
    with pytest.raises(ValueError, match="'pipeline' is only a name inside the config"):
        load(('--cfg-options', 'pipeline.0.scale=1'), work_dir=str(tmp_path), pipeline=[dict(scale=2)])


SGD = dict(optimizer=dict(type='torch.optim.SGD', lr=0.1))
KNOWN = dict(
    model=dict(
        type='R2KD',
        pruner=dict(type='MagnitudePruner'),
        architecture=dict(head=dict(type='LinearClsHead', num_classes=3, in_channels=4)),
    ),
    train_cfg=dict(type='r2kd_mm.engine.ResumableTrainLoop', max_epochs=1),
    optim_wrapper=SGD,
    train_dataloader=dict(batch_size=2),
    default_hooks=dict(visualization=dict(type='VisualizationHook')),
    custom_hooks=[dict(type='EMAHook')],
)


@pytest.mark.parametrize(
    ('option', 'words'),
    [
        (
            'model.teacher_weigth=2',
            "R2KD does not take 'teacher_weigth'; .*augmentation.*did you mean 'teacher_weight'",
        ),
        (
            'model.tsk_loss_weight=2',
            "R2KD does not take 'tsk_loss_weight'; .*did you mean 'task_loss_weight'",
        ),  # of its base
        ('model.pruner.amout=1', r"MagnitudePruner does not take 'amout'; its parameters are \(amount=0.1, .*'amount'"),
        ('model.architecture.head.num_class=3', "LinearClsHead does not take 'num_class'; .*topk.*'num_classes'"),
        ('model.haed.size=3', "R2KD does not take 'haed'"),
        ('train_cfg.max_epoch=2', "ResumableTrainLoop does not take 'max_epoch'; .*did you mean 'max_epochs'"),
        ('train_cfg.max_epochs=two', "ResumableTrainLoop takes a number as max_epochs, got 'two'"),
        ('optim_wrapper.optimizer.lrr=1', r"SGD does not take 'lrr'; .*momentum=0.*did you mean 'lr'"),
        ('train_dataloader.batchsize=4', "DataLoader does not take 'batchsize'; .*did you mean 'batch_size'"),
        ('randomness.sed=4', "does not take 'sed'; .*did you mean 'seed'"),
        ('default_hooks.chekpoint.interval=2', "default_hooks has no 'chekpoint'; .*timer.*did you mean 'checkpoint'"),
        ('default_hooks.visualisation=None', "no 'visualisation'; known hooks: .*did you mean 'visualization'"),
    ],
)
def test_a_name_that_its_place_does_not_take_is_named_with_the_known_ones(load, tmp_path, option, words):
    with pytest.raises(ValueError, match=f'^--cfg-options {option.split("=")[0]}: .*{words}'):
        load(('--cfg-options', option), work_dir=str(tmp_path), **KNOWN)


@pytest.mark.parametrize(
    'options',
    [
        ('optim_wrapper.optimizer.nesterov=True', 'optim_wrapper.paramwise_cfg.norm_decay_mult=0'),
        ('optim_wrapper.optimizer.type=torch.optim.Adam', 'optim_wrapper.optimizer.amsgrad=True'),
        ('default_hooks.timer=None', 'default_hooks.ema.type=EMAHook', 'default_hooks.ema.momentum=0.1'),
        ('custom_hooks.0.any_argument_of_the_average=1', 'custom_hooks.0.priority=LOW'),
        ('model.task_loss_weight=2', 'train_cfg.val_begin=2', 'train_dataloader.num_workers=0'),
    ],
)
def test_a_new_name_that_its_place_takes_passes(load, tmp_path, options):
    load(('--cfg-options', *options), work_dir=str(tmp_path), **KNOWN)


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        (
            dict(env_cfg=dict(cudnn_benchmrk=True)),
            "env_cfg of .* reads 'cudnn_benchmrk'; did you mean 'cudnn_benchmark'",
        ),
        (
            dict(env_cfg=dict(mp_cfg=dict(start='fork'))),
            "env_cfg.mp_cfg .* 'start'; known keys: mp_start_method, opencv",
        ),
        (dict(auto_scale_lr=dict(base_batchsize=64)), "auto_scale_lr .*; did you mean 'base_batch_size'"),
        (dict(default_hooks=dict(loger=dict(type='LoggerHook'))), "'loger' would be a hook next to 'logger'"),
    ],
)
def test_a_key_that_mmengine_would_pass_over_is_refused(load, tmp_path, fields, message):
    with pytest.raises(ValueError, match=message):
        load(work_dir=str(tmp_path), **fields)


def test_hooks_of_other_names_are_default_hooks_too(load, tmp_path):
    hooks = dict(visualization=dict(type='VisualizationHook'), ema=dict(type='EMAHook'), checkpoint=None)
    assert load(work_dir=str(tmp_path), default_hooks=hooks).default_hooks.keys() == hooks.keys()


def test_one_process_is_the_default(load, tmp_path):
    assert load(work_dir=str(tmp_path)).launcher == 'none'
