"""What the command line makes of a config."""

import argparse

import pytest
import torch
from mmengine.config import Config

from r2kd_mm.engine.run_config import add_run_arguments, load_run_config


@pytest.fixture
def load(tmp_path):
    """Load a config of these fields with these arguments."""

    def load_config(arguments: tuple[str, ...] = (), **fields) -> Config:
        path = tmp_path / 'my_run.py'
        Config(dict(model=dict(type='X'), **fields)).dump(path)
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


def test_one_process_is_the_default(load, tmp_path):
    assert load(work_dir=str(tmp_path)).launcher == 'none'
