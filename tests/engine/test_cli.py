"""A user's mistake prints one readable line; an error during training prints a traceback."""

import os
import sys

import pytest
import torch
import toys
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.hooks import Hook
from torch.utils.data import DataLoader, Dataset

from r2kd_mm import distributed
from r2kd_mm.distributed import RANK_VARIABLES
from r2kd_mm.engine import RunStopped, clear_errors, cli, init_launcher


class RaisesHook(Hook):
    """Raise ``error`` after the training iteration ``after`` (0: before the first)."""

    def __init__(self, error: BaseException, after: int) -> None:
        self.error, self.after = error, after

    def before_train(self, runner):
        if self.after == 0:
            raise self.error

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if self.after == runner.iter + 1:
            raise self.error


def train(work_dir, error: BaseException, after: int, **fields) -> None:
    with clear_errors() as guard:
        runner = toys.runner(toys.classifier(), work_dir, hooks=[RaisesHook(error, after)], **fields)
        guard.watch(runner)
        runner.train()


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    for name in (cli.TRACEBACK_VARIABLE, *RANK_VARIABLES):
        monkeypatch.delenv(name, raising=False)


def exit_message(capsys, function, *args) -> str:
    """Return what ``function`` prints to stderr when it exits with status 1."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        function(*args)
    assert caught.value.code == 1
    return capsys.readouterr().err


def fail(error: BaseException) -> None:
    with clear_errors():
        raise error


HINT = '\n(the traceback is shown with R2KD_TRACEBACK=1)\n'


@pytest.mark.parametrize(
    ('error', 'message'),
    [
        (ValueError('amount must be in [0, 1), got 2'), 'amount must be in [0, 1), got 2'),
        (KeyError("'X' is not in the r2kd_mm::hook registry."), "'X' is not in the r2kd_mm::hook registry."),
        (KeyError('lr', 'momentum'), "('lr', 'momentum')"),
        (FileNotFoundError(2, 'No such file or directory', 'a.py'), "[Errno 2] No such file or directory: 'a.py'"),
        (AssertionError(), 'AssertionError'),
        (RuntimeError('bad shape\nException raised from f at x.cpp:1\nframe #0'), 'bad shape'),
    ],
)
def test_a_mistake_before_training_is_one_message(capsys, error, message):
    assert exit_message(capsys, fail, error) == f'error: {message}{HINT}'


class Broken(Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        raise ValueError('image 7 is broken:\nnot a JPEG')


def test_an_error_in_a_data_worker_loses_the_stack_of_the_worker(capsys):
    def load():
        with clear_errors():
            next(iter(DataLoader(Broken(), num_workers=1, collate_fn=pseudo_collate)))

    assert exit_message(capsys, load) == f'error: image 7 is broken:\nnot a JPEG{HINT}'


def test_the_traceback_comes_back_on_request(monkeypatch):
    monkeypatch.setenv('R2KD_TRACEBACK', '1')
    with pytest.raises(ValueError, match='a slip'):
        fail(ValueError('a slip'))


def test_an_exit_passes_through():
    with pytest.raises(SystemExit) as caught, clear_errors():
        sys.exit(2)
    assert caught.value.code == 2


def test_an_error_before_the_first_iteration_is_one_message(capsys, tmp_path):
    message = exit_message(capsys, train, tmp_path, ValueError('no labels'), 0)
    assert message.endswith(f'error: no labels{HINT}')
    assert 'Traceback' not in message


def test_an_error_after_the_first_iteration_keeps_its_traceback(tmp_path):
    with pytest.raises(ValueError, match='in training'):
        train(tmp_path, ValueError('in training'), 1)


def test_an_error_that_says_it_all_is_one_message_at_any_time(capsys, tmp_path):
    message = exit_message(capsys, train, tmp_path, RunStopped('the disk is full'), 2)
    assert message.endswith(f'error: the disk is full{HINT}')


def test_an_interrupt_tells_where_and_how_to_resume(capsys, tmp_path):
    message = exit_message(capsys, train, tmp_path, KeyboardInterrupt(), 2)
    assert message.endswith(
        'interrupted after 1 training iterations, in epoch 1; '
        'no checkpoint was written yet, so the same command starts again\n'
    )


def test_an_interrupt_names_the_last_checkpoint(capsys, tmp_path):
    message = exit_message(capsys, lambda: train(tmp_path, KeyboardInterrupt(), 6, epochs=3))
    assert message.endswith(
        'interrupted after 5 training iterations, in epoch 2; '
        f'the last checkpoint is {tmp_path}/epoch_1.pth; the same command with --resume continues from there\n'
    )


def test_an_interrupt_does_not_name_the_checkpoint_of_an_earlier_run(capsys, tmp_path):
    toys.runner(toys.classifier(), tmp_path, epochs=2).train()
    assert (tmp_path / 'last_checkpoint').is_file()
    message = exit_message(capsys, train, tmp_path, KeyboardInterrupt(), 2)
    assert message.endswith('no checkpoint was written yet, so the same command starts again\n')
    message = exit_message(capsys, lambda: train(tmp_path, KeyboardInterrupt(), 6, epochs=3))
    assert f'the last checkpoint is {tmp_path}/epoch_1.pth; ' in message  # over that of the earlier run


def test_an_interrupt_of_a_resumed_run_names_its_checkpoint(capsys, tmp_path):
    toys.runner(toys.classifier(), tmp_path, epochs=3).train()
    first = f'{tmp_path}/epoch_1.pth'
    message = exit_message(
        capsys, lambda: train(tmp_path, KeyboardInterrupt(), 6, epochs=3, resume=True, load_from=first)
    )
    assert f'after 5 training iterations, in epoch 2; the last checkpoint is {first}; ' in message


def test_an_interrupt_before_there_is_a_runner(capsys):
    assert exit_message(capsys, fail, KeyboardInterrupt()) == '\ninterrupted before training; nothing was trained\n'


@pytest.mark.parametrize('variable', RANK_VARIABLES)
def test_other_ranks_leave_the_word_to_rank_0(capsys, monkeypatch, variable):
    waited = []
    monkeypatch.setattr(cli.time, 'sleep', waited.append)
    monkeypatch.setenv(variable, '1')
    assert exit_message(capsys, fail, ValueError('a slip')) == f'error (rank 1): a slip{HINT}'
    assert waited == [cli.SECONDS_FOR_RANK_0]
    assert exit_message(capsys, fail, KeyboardInterrupt()) == ''


class TestInitLauncher:
    def test_none_leaves_the_model_unwrapped(self):
        cfg = Config(dict())
        init_launcher(cfg, 'none')
        assert cfg.launcher == 'none'
        assert 'model_wrapper_cfg' not in cfg

    def test_a_launcher_chooses_the_portable_wrapper(self, monkeypatch):
        joined = []
        monkeypatch.setattr(distributed, 'init_cpu_process_group', joined.append)
        cfg = Config(dict(find_unused_parameters=True))
        init_launcher(cfg, 'pytorch')
        assert joined == [cfg.launcher] == ['pytorch']
        assert cfg.model_wrapper_cfg == dict(
            type='r2kd_mm.PortableDistributedDataParallel', find_unused_parameters=True
        )

    def test_mpi_gives_each_process_its_own_gpu(self, monkeypatch):
        monkeypatch.setattr(distributed, 'init_cpu_process_group', lambda launcher: None)  # as on a machine with CUDA
        monkeypatch.setenv('LOCAL_RANK', '0')  # of the command line
        monkeypatch.setenv('OMPI_COMM_WORLD_LOCAL_RANK', '3')
        init_launcher(Config(dict()), 'pytorch')
        assert os.environ['LOCAL_RANK'] == '0'
        init_launcher(Config(dict()), 'mpi')
        assert os.environ['LOCAL_RANK'] == '3'

    def test_a_wrapper_of_the_config_stays(self, monkeypatch):
        monkeypatch.setattr(distributed, 'init_cpu_process_group', lambda launcher: None)
        cfg = Config(dict(model_wrapper_cfg=dict(type='Other')))
        init_launcher(cfg, 'slurm')
        assert cfg.model_wrapper_cfg == dict(type='Other')

    @pytest.mark.skipif(torch.cuda.is_available(), reason='with CUDA the Runner checks the launcher')
    def test_an_unknown_launcher_is_refused(self):
        with pytest.raises(ValueError, match="launcher must be one of .* got 'torchrun'"):
            init_launcher(Config(dict()), 'torchrun')
