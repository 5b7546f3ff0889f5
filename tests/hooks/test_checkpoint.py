"""Checkpoints are always complete and consistent, and one is saved when a cluster stops the job."""

import os
import shutil
import signal
import subprocess
from collections import deque
from pathlib import Path

import numpy as np
import pytest
import ranks
import torch
import toys
from mmengine.config import ConfigDict
from mmengine.hooks import Hook

from r2kd_mm.checkpoint import load_checkpoint_file
from r2kd_mm.engine import RunStopped, fileio
from r2kd_mm.hooks import SafeCheckpointHook

EVERY_EPOCH = dict(interval=1, max_keep_ckpts=1, save_best='accuracy/top1', rule='greater')
ITERATIONS = 4  # an epoch of 40 images in batches of 10


RESUMABLE = dict(type='ResumableTrainLoop', max_epochs=3)


class Killed(BaseException):
    """Stands in for SIGKILL: nothing handles it."""


def build(work_dir, hooks=(), checkpoint=EVERY_EPOCH, **fields):
    return toys.runner(
        toys.classifier(),
        work_dir,
        hooks=hooks,
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=1), checkpoint=dict(type='SafeCheckpointHook', **checkpoint)
        ),
        **fields,
    )


def accumulation(counts: int) -> dict:
    return dict(optimizer=dict(type='SGD', lr=0.05), accumulative_counts=counts)


def checkpoints(work_dir) -> set[str]:
    return {path.name for path in Path(work_dir).glob('*.pth')}


def pointed_to(work_dir) -> str:
    return Path((Path(work_dir) / 'last_checkpoint').read_text()).name


def whole_state(work_dir, name) -> dict:
    return load_checkpoint_file(Path(work_dir) / name)


class ValidationScores(Hook):
    """Replace the accuracy of the n-th validation, so that the best one is known."""

    priority = 'VERY_HIGH'

    def __init__(self, scores):
        self.scores = scores

    def after_val_epoch(self, runner, metrics=None):
        metrics['accuracy/top1'] = self.scores[runner.epoch - 1]


class Fails(Hook):
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        raise RuntimeError('the run fails here')


class Sends(Hook):
    """Send SIGTERM to this process at a moment of the run."""

    def __init__(self, moment: str, iteration: int) -> None:
        self.moment, self.iteration = moment, iteration

    def _send(self, moment: str, iteration: int) -> None:
        if (moment, iteration) == (self.moment, self.iteration):
            os.kill(os.getpid(), signal.SIGTERM)

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self._send('train', runner.iter + 1)

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        self._send('val', runner.iter)


class TestOrder:
    def test_the_old_one_goes_after_the_new_one_and_the_pointer_are_there(self, tmp_path, monkeypatch):
        events = []
        put, remove = fileio.AtomicLocalBackend.put, fileio.AtomicLocalBackend.remove
        monkeypatch.setattr(
            fileio.AtomicLocalBackend, 'put', lambda self, obj, path: (put(self, obj, path), events.append(path))
        )
        monkeypatch.setattr(
            fileio.AtomicLocalBackend, 'remove', lambda self, path: (remove(self, path), events.append(f'-{path}'))
        )
        build(tmp_path, [ValidationScores([1, 2])], epochs=2).train()
        assert [event.replace(f'{tmp_path}/', '') if isinstance(event, str) else event.name for event in events] == [
            *('epoch_1.pth', 'last_checkpoint'),
            *('best_accuracy_top1_epoch_1.pth', 'epoch_1.pth', 'last_checkpoint'),
            *('epoch_2.pth', 'last_checkpoint', '-epoch_1.pth'),
            *('best_accuracy_top1_epoch_2.pth', 'epoch_2.pth', 'last_checkpoint', '-best_accuracy_top1_epoch_1.pth'),
        ]

    def test_a_worse_epoch_leaves_the_best_one(self, tmp_path):
        build(tmp_path, [ValidationScores([2, 1, 3, 1])], epochs=4).train()
        assert checkpoints(tmp_path) == {'epoch_4.pth', 'best_accuracy_top1_epoch_3.pth'}

    def test_several_metrics_have_a_best_one_each(self, tmp_path):
        class Second(ValidationScores):
            def after_val_epoch(self, runner, metrics=None):
                metrics['other'] = self.scores[runner.epoch - 1]

        several = dict(EVERY_EPOCH, save_best=['accuracy/top1', 'other'])
        build(tmp_path, [ValidationScores([1, 3, 2]), Second([1, 2, 3])], several, epochs=3).train()
        assert checkpoints(tmp_path) == {'epoch_3.pth', 'best_accuracy_top1_epoch_2.pth', 'best_other_epoch_3.pth'}

    # every write and every deletion of two epochs, and the moments before and after it
    @pytest.mark.parametrize(
        'step', [pytest.param(step, marks=() if step == 5 else pytest.mark.slow) for step in range(1, 14)]
    )
    @pytest.mark.parametrize('after', [False, True], ids=['before', 'after'])
    def test_a_kill_between_any_two_steps_leaves_nothing_over_and_nothing_out(self, tmp_path, monkeypatch, step, after):
        scores = [1, 2, 3]
        count = 0
        backend = fileio.AtomicLocalBackend

        def dying(method):
            def step_or_die(self, *args):
                nonlocal count
                count += 1
                if count == step and not after:
                    raise Killed
                method(self, *args)
                if count == step:
                    raise Killed

            return step_or_die

        with monkeypatch.context() as patched:
            patched.setattr(backend, 'put', dying(backend.put))
            patched.setattr(backend, 'remove', dying(backend.remove))
            with pytest.raises(Killed):
                build(tmp_path, [ValidationScores(scores)], train_cfg=RESUMABLE).train()
        pointer = tmp_path / 'last_checkpoint'
        resumed = build(tmp_path, [ValidationScores(scores)], train_cfg=RESUMABLE, resume=pointer.exists())
        if pointer.exists():
            state = whole_state(tmp_path, pointed_to(tmp_path))
            best = state['message_hub']['runtime_info'].get('best_ckpt')
            assert best is None or Path(best).exists()
        resumed.train()
        assert checkpoints(tmp_path) == {'epoch_3.pth', 'best_accuracy_top1_epoch_3.pth'}

    def test_leftovers_of_a_killed_write_are_cleared(self, tmp_path):
        leftover, other = tmp_path / '.epoch_1.pth.123.tmp', tmp_path / 'notes.tmp'
        leftover.touch()
        other.touch()
        build(tmp_path).train()
        assert not leftover.exists()
        assert other.exists()

    def test_a_checkpoint_cannot_have_other_files_deleted(self, tmp_path):
        victim = tmp_path / 'thesis.pth'
        victim.touch()
        work_dir = tmp_path / 'work'
        build(work_dir).train()
        state = torch.load(work_dir / 'epoch_1.pth', weights_only=False)
        for key in ('best_ckpt', 'last_ckpt'):
            state['message_hub']['runtime_info'][key] = str(victim)
        state['message_hub']['runtime_info']['superseded_ckpts'] = [str(victim), '../thesis.pth']
        torch.save(state, work_dir / 'epoch_1.pth')
        build(work_dir, [ValidationScores([1, 101])], epochs=2, resume=True).train()
        assert victim.exists()


class TestReadable:
    def test_a_run_resumes_whatever_scheduler_and_data_put_into_a_checkpoint(self, tmp_path):
        def run(name, **fields):
            data = toys.Images()
            data.metainfo = ConfigDict(
                classes=np.array(data.metainfo['classes']), root=tmp_path, last=deque([1], maxlen=2)
            )
            schedule = dict(type='OneCycleLR', eta_max=0.1, total_steps=2 * ITERATIONS, by_epoch=False)
            loop = dict(RESUMABLE, max_epochs=2)
            fields = dict(fields, train_data=data, param_scheduler=schedule, train_cfg=loop)
            build(tmp_path / name, checkpoint=dict(interval=1), **fields).train()
            return whole_state(tmp_path / name, 'epoch_2.pth')

        whole = run('whole')
        shutil.copytree(tmp_path / 'whole', tmp_path / 'resumed')
        resumed = run('resumed', resume=True, load_from=str(tmp_path / 'resumed' / 'epoch_1.pth'))
        assert resumed['param_schedulers'] == whole['param_schedulers']
        assert all(torch.equal(weight, whole['state_dict'][name]) for name, weight in resumed['state_dict'].items())
        log = max((tmp_path / 'resumed').glob('*/*.log')).read_text()
        assert 'resumed epoch: 1' in log
        assert 'dataset metainfo from the resumed checkpoint is different' not in log

    def test_the_first_checkpoint_is_read_back(self, tmp_path, monkeypatch):
        put = fileio.AtomicLocalBackend.put
        monkeypatch.setattr(fileio.AtomicLocalBackend, 'put', lambda self, obj, path: put(self, obj[:-100], path))
        with pytest.raises(RunStopped, match=r'epoch_1.pth. cannot be written .*: it was read back, and .* cut off'):
            build(tmp_path, epochs=2).train()
        assert checkpoints(tmp_path) == set()

    def test_a_state_that_no_reader_accepts_stops_the_run_by_its_name(self, tmp_path):
        class Saves(Hook):
            def before_save_checkpoint(self, runner, checkpoint):
                checkpoint['mine'] = dict(rng=torch.Generator())

        with pytest.raises(RunStopped, match=r'mine\.rng of the checkpoint is a torch'):
            build(tmp_path, [Saves()]).train()


class TestArguments:
    def test_the_default_backend_is_the_atomic_one(self):
        assert SafeCheckpointHook(interval=1).backend_args == dict(backend='atomic')

    def test_an_unknown_one_is_refused(self):
        with pytest.raises(TypeError, match=r"takes the arguments of CheckpointHook, got \['max_keep'\]"):
            SafeCheckpointHook(max_keep=1)

    def test_the_interval_of_the_agreement_is_positive(self):
        with pytest.raises(ValueError, match='preemption_check_interval must be at least 1, got 0'):
            SafeCheckpointHook(preemption_check_interval=0)

    @pytest.mark.parametrize('checkpoint', [dict(interval=1), dict(save_best='auto')])
    def test_a_loop_whose_epochs_end_between_two_updates_is_refused(self, tmp_path, checkpoint):
        with pytest.raises(ValueError, match='an epoch of 4 iterations ends between two updates of'):
            build(tmp_path, checkpoint=checkpoint, optim_wrapper=accumulation(3)).train()
        build(tmp_path, checkpoint=checkpoint, optim_wrapper=accumulation(3), train_cfg=RESUMABLE).train()

    def test_a_checkpoint_by_iteration_waits_for_the_update(self, tmp_path):
        by_iteration = dict(by_epoch=False, interval=3)
        build(tmp_path, checkpoint=by_iteration, optim_wrapper=accumulation(2), epochs=3).train()
        assert checkpoints(tmp_path) == {f'iter_{iteration}.pth' for iteration in (4, 6, 10, 12)}

    def test_a_checkpoint_by_iteration_says_how_far_it_is(self, tmp_path):
        build(tmp_path, checkpoint=dict(by_epoch=False, interval=3), epochs=2).train()
        assert checkpoints(tmp_path) == {'iter_3.pth', 'iter_6.pth', 'iter_8.pth'}
        meta = whole_state(tmp_path, 'iter_6.pth')['meta']
        assert (meta['epoch'], meta['iter']) == (1, 6)


@pytest.fixture
def small_disk(tmp_path):
    """A folder with a few megabytes to itself."""
    folder = tmp_path / 'disk'
    folder.mkdir()
    mounted = subprocess.run(
        ['mount', '-t', 'tmpfs', '-o', 'size=3m', 'tmpfs', str(folder)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f'a full disk needs a small one to be mounted: {mounted.stderr.strip()}')
    yield folder
    subprocess.run(['umount', '--lazy', str(folder)], check=True)


class Fills(Hook):
    """Leave this many bytes free once the first epoch is saved."""

    def __init__(self, folder: Path, free: int) -> None:
        self.folder, self.free = folder, free

    def before_train_epoch(self, runner):
        if runner.epoch == 1:
            size = shutil.disk_usage(self.folder).free - self.free
            (self.folder / 'ballast').write_bytes(bytes(size))


class TestFullDisk:
    def test_the_run_stops_with_one_error_and_resumes_when_there_is_room(self, small_disk):
        work_dir = small_disk / 'work'
        with pytest.raises(RunStopped) as caught:
            build(work_dir, [Fills(small_disk, 100_000)], epochs=3).train()
        message = str(caught.value)
        assert f"checkpoint '{work_dir}/epoch_2.pth' cannot be written after iteration 8: No space left" in message
        assert 'bytes were to be written' in message
        assert f'{work_dir}/epoch_1.pth is still good: the same command with --resume continues from there' in message
        assert {name for name in checkpoints(work_dir) if name.startswith('epoch')} == {'epoch_1.pth'}
        assert not list(work_dir.glob('.*'))
        assert whole_state(work_dir, pointed_to(work_dir))['meta']['epoch'] == 1
        (small_disk / 'ballast').unlink()
        build(work_dir, epochs=3, resume=True).train()
        assert pointed_to(work_dir) == 'epoch_3.pth'

    @pytest.mark.parametrize('earlier', [False, True])
    def test_the_error_names_the_first_checkpoint_that_does_not_fit(self, small_disk, earlier):
        if earlier:
            build(small_disk / 'work').train()
        held = checkpoints(small_disk / 'work')
        (small_disk / 'ballast').write_bytes(bytes(shutil.disk_usage(small_disk).free - 100_000))
        with pytest.raises(RunStopped, match='none was written before, so the same command starts again'):
            build(small_disk / 'work').train()
        assert checkpoints(small_disk / 'work') == held

    @pytest.mark.slow
    def test_it_stops_every_rank(self, small_disk):
        errors = ranks.run_on_ranks(2, fill_disk_on_a_rank, str(small_disk))
        assert errors[0] == errors[1]
        assert 'epoch_2.pth' in errors[0]


def fill_disk_on_a_rank(folder: str) -> str:
    hooks = [Fills(Path(folder), 100_000)] if int(os.environ['LOCAL_RANK']) == 0 else []
    try:
        build(Path(folder) / 'work', hooks, dict(interval=1), epochs=3).train()
    except RunStopped as error:
        return str(error)
    return 'it was not stopped'


class TestPreemption:
    def test_a_signal_in_an_epoch_saves_the_running_iteration(self, tmp_path):
        runner = build(tmp_path, [Sends('train', 6)], epochs=3)
        with pytest.raises(SystemExit) as caught:
            runner.train()
        assert caught.value.code == 143
        assert pointed_to(tmp_path) == 'preempted_iter_6.pth'
        state = whole_state(tmp_path, 'preempted_iter_6.pth')
        assert (state['meta']['epoch'], state['meta']['iter']) == (1, 6)
        for name, weight in runner.model.state_dict().items():
            assert torch.equal(weight, state['state_dict'][name])
        assert 'Stopped by SIGTERM after iteration 6' in next(tmp_path.glob('*/*.log')).read_text()

    def test_it_can_be_resumed_though_the_others_cannot(self, tmp_path):
        without = dict(interval=1, save_optimizer=False)
        with pytest.raises(SystemExit):
            build(tmp_path, [Sends('train', 6)], without, epochs=3).train()
        assert 'No run can resume from the checkpoints of this one' in next(tmp_path.glob('*/*.log')).read_text()
        assert 'optimizer' not in whole_state(tmp_path, 'epoch_1.pth')
        assert 'optimizer' in whole_state(tmp_path, 'preempted_iter_6.pth')

    def test_the_next_regular_checkpoint_replaces_it(self, tmp_path):
        with pytest.raises(SystemExit):
            build(tmp_path, [Sends('train', 2)], epochs=2).train()
        assert checkpoints(tmp_path) == {'preempted_iter_2.pth'}
        build(tmp_path, epochs=2, resume=True).train()
        assert {name for name in checkpoints(tmp_path) if 'best' not in name} == {'epoch_2.pth'}

    def test_a_signal_in_a_validation_needs_no_second_checkpoint(self, tmp_path):
        with pytest.raises(SystemExit):
            build(tmp_path, [Sends('val', ITERATIONS)], epochs=2).train()
        assert checkpoints(tmp_path) == {'epoch_1.pth'}

    def test_a_signal_in_a_validation_without_a_checkpoint_saves_the_epoch(self, tmp_path):
        with pytest.raises(SystemExit):
            build(tmp_path, [Sends('val', ITERATIONS)], dict(interval=2), epochs=2).train()
        meta = whole_state(tmp_path, 'preempted_iter_4.pth')['meta']
        assert (meta['epoch'], meta['iter']) == (1, 4)

    def test_gradients_in_accumulation_are_waited_for(self, tmp_path):
        with pytest.raises(SystemExit):
            build(tmp_path, [Sends('train', 1)], optim_wrapper=accumulation(4)).train()
        assert checkpoints(tmp_path) == {'preempted_iter_4.pth'}

    def test_the_handler_of_before_is_put_back(self, tmp_path):
        def handler(*_):
            raise AssertionError('not ours to call')

        before = signal.signal(signal.SIGTERM, handler)
        try:
            build(tmp_path).train()
            assert signal.getsignal(signal.SIGTERM) is handler
            with pytest.raises(SystemExit):
                build(tmp_path, [Sends('train', 1)]).train()
            assert signal.getsignal(signal.SIGTERM) is handler
            with pytest.raises(RuntimeError, match='the run fails here'):
                build(tmp_path / 'fails', [Fails()], train_cfg=RESUMABLE).train()
            assert signal.getsignal(signal.SIGTERM) is handler
        finally:
            signal.signal(signal.SIGTERM, before)

    def test_the_data_workers_outlive_a_signal_to_the_whole_job(self, tmp_path):
        class TellsWorkers(Hook):
            def before_train_iter(self, runner, batch_idx, data_batch=None):
                if runner.iter == 1:
                    children = Path(f'/proc/{os.getpid()}/task/{os.getpid()}/children').read_text().split()
                    ours = [pid for pid in children if 'pt_data_worker' in Path(f'/proc/{pid}/comm').read_text()]
                    # a sender that is not the parent of the workers, as a cluster is
                    subprocess.run(['kill', '-TERM', *(ours or children), str(os.getpid())], check=True)

        loader = dict(
            dataset=toys.Images(), batch_size=10, num_workers=2, sampler=dict(type='DefaultSampler', shuffle=True)
        )
        with pytest.raises(SystemExit) as caught:
            build(tmp_path, [TellsWorkers()], epochs=2, train_dataloader=loader).train()
        assert caught.value.code == 143
        assert pointed_to(tmp_path) == 'preempted_iter_2.pth'

    def test_ranks_agree_on_the_iteration(self, tmp_path):
        stopped = ranks.run_on_ranks(2, preempt_a_rank, str(tmp_path))
        assert stopped == [(143, 3), (143, 3)]
        assert pointed_to(tmp_path) == 'preempted_iter_3.pth'

    def test_ranks_that_resume_from_different_iterations_are_stopped(self, tmp_path):
        messages = ranks.run_on_ranks(2, resume_one_rank, str(tmp_path))
        assert all('the ranks resume from different iterations: [4, 0]' in message for message in messages)


def preempt_a_rank(folder: str) -> tuple:
    hooks = [Sends('train', 1)] if int(os.environ['LOCAL_RANK']) == 1 else []
    runner = build(folder, hooks, dict(interval=1, preemption_check_interval=3), epochs=3)
    try:
        runner.train()
    except SystemExit as stop:
        return stop.code, runner.iter + 1
    return None, runner.iter


def resume_one_rank(folder: str) -> str:
    runner = build(folder, checkpoint=dict(interval=1), epochs=2)
    runner.train_loop._iter = 4 if runner.rank == 0 else 0
    try:
        runner.train()
    except ValueError as error:
        return str(error)
    return 'it was not stopped'
