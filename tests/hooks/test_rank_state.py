"""After a resume, every process has its own batch-norm statistics again, not those of rank 0."""

from pathlib import Path

import pytest
import torch
import toys
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner.checkpoint import CheckpointLoader
from ranks import run_on_ranks

from r2kd_mm.hooks.rank_state import RANK_BUFFERS

MIDDLE = 3  # iteration of a checkpoint in the middle of an epoch of 4


class Buffers(Hook):
    """The statistics that training starts and ends with."""

    def before_train_epoch(self, runner):
        if not hasattr(self, 'first'):
            self.first = statistics(runner)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.last = statistics(runner)


def statistics(runner):
    networks = [runner.model, *(hook.ema_model for hook in runner.hooks if hasattr(hook, 'ema_model'))]
    return [buffer.clone() for network in networks for buffer in network.buffers()]


def train(work_dir, ranks, checkpoint=None, average=False, resume=True, by_epoch=False):
    """Train on this rank; return its statistics at the start and at the end, and its weights."""
    buffers = Buffers()
    average_hook = [dict(type='EMAHook', update_buffers=True)] if average else []
    if ranks > 1:
        wrapper = dict(type='r2kd_mm.PortableDistributedDataParallel')
        launched = dict(launcher='pytorch', cfg=dict(model_wrapper_cfg=wrapper))
    else:
        launched = {}
    runner = toys.runner(
        toys.classifier(),
        work_dir,
        batch_size=10 // ranks,
        hooks=[dict(type='RankStateHook'), *average_hook, dict(type='SyncBuffersHook'), buffers],
        train_cfg=dict(type='ResumableTrainLoop', max_epochs=2),
        default_hooks=dict(
            logger=dict(type='LoggerHook'), checkpoint=dict(type='CheckpointHook', by_epoch=by_epoch, interval=1)
        ),
        load_from=checkpoint,
        resume=resume and checkpoint is not None,
        **launched,
    )
    runner.train()
    return buffers.first, buffers.last, list(runner.model.state_dict().values())


def saved(work_dir, iteration):
    return str(Path(work_dir, f'iter_{iteration}.pth'))


def whole_and_resumed(work_dir, average):
    _, *whole = train(f'{work_dir}/whole', 2, average=average)
    first, *resumed = train(f'{work_dir}/resumed', 2, saved(f'{work_dir}/whole', MIDDLE), average)
    equal = all(torch.equal(*pair) for before, after in zip(whole, resumed) for pair in zip(before, after))
    return first, equal


@pytest.mark.parametrize(
    'average',
    [pytest.param(False, id='model'), pytest.param(True, id='moving average', marks=pytest.mark.slow)],
)
def test_two_processes_resume_with_their_own_statistics_and_end_the_same(tmp_path, average):
    (first, equal), (first_of_other, equal_of_other) = run_on_ranks(2, whole_and_resumed, str(tmp_path), average)
    assert equal
    assert equal_of_other
    assert any(not torch.equal(*pair) for pair in zip(first, first_of_other))

    checkpoint = CheckpointLoader.load_checkpoint(saved(tmp_path / 'whole', MIDDLE))
    names = [sorted(buffers) for buffers in checkpoint[RANK_BUFFERS]]
    assert names[0] == names[1]
    assert all(name.endswith(('running_mean', 'running_var')) for name in names[0])
    assert any(name.startswith('averages.') for name in names[0]) is average


def train_two(work_dir, by_epoch=False):
    """Leave the checkpoints of two processes."""
    train(work_dir, 2, by_epoch=by_epoch)
    return get_rank()


@pytest.mark.slow
def test_with_another_number_of_processes_all_start_from_the_first(tmp_path):
    run_on_ranks(2, train_two, str(tmp_path / 'two'))
    checkpoint = CheckpointLoader.load_checkpoint(saved(tmp_path / 'two', MIDDLE))
    first, *_ = train(tmp_path / 'one', 1, saved(tmp_path / 'two', MIDDLE))
    of_first = [value for name, value in checkpoint['state_dict'].items() if 'running' in name or 'num_batches' in name]
    started_with = [buffer for buffer in first if buffer.shape != (3, 1, 1)]  # without mean and std of the images
    assert len(of_first) == len(started_with)
    assert all(torch.equal(*pair) for pair in zip(of_first, started_with))
    text = next((tmp_path / 'one').glob('*/*.log')).read_text()
    assert 'batch-norm statistics of 2 processes, and this run has 1: each starts from those of the first' in text


@pytest.mark.slow
def test_nothing_is_stored_where_all_agree(tmp_path):
    run_on_ranks(2, train_two, str(tmp_path / 'two'), True)
    train(tmp_path / 'one', 1)
    for path in (tmp_path / 'two' / 'epoch_1.pth', saved(tmp_path / 'one', MIDDLE)):
        assert RANK_BUFFERS not in CheckpointLoader.load_checkpoint(str(path))


def fine_tuned(work_dir):
    train(f'{work_dir}/first', 2)
    first, *_ = train(f'{work_dir}/second', 2, saved(f'{work_dir}/first', MIDDLE), resume=False)
    return first


@pytest.mark.slow
def test_a_new_run_from_these_weights_starts_alike_on_all_ranks(tmp_path):
    first, first_of_other = run_on_ranks(2, fine_tuned, str(tmp_path))
    assert all(torch.equal(*pair) for pair in zip(first, first_of_other))
