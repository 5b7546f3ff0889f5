"""Runs in worker processes: they may have data workers, and an interrupt or a kill leaves no worker behind."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from multiprocessing import util
from pathlib import Path

import pytest

from r2kd_mm.runs import LocalEngine, Method, State, complete, look_at, plan_runs
from r2kd_mm.runs.grid import train_all

ROOT = Path(__file__).resolve().parents[2]
NETWORK = str(ROOT / 'configs/supervised/res14_digits.py')
SHORT = {'train_cfg.max_epochs': 2, 'train_cfg.val_interval': 1, 'default_hooks.checkpoint.interval': 1}


class Listener:
    """A listener that hears and does nothing."""

    def advanced(self, run, share):
        pass

    def finished(self, run):
        pass

    def failed(self, run, reason):
        pass

    def restarted(self, run, reason):
        pass

    def tick(self):
        pass


@pytest.mark.slow
def test_a_run_may_have_data_workers(tmp_path):
    options = {f'{loader}_dataloader.num_workers': 1 for loader in ('train', 'val', 'test')}
    runs = plan_runs([Method('network', NETWORK, {**SHORT, 'train_cfg.max_epochs': 1, **options})], [0], tmp_path)
    assert complete(runs, LocalEngine(1)) == {}, runs[0].output_file.read_text()[-3000:]
    assert set(look_at(runs).values()) == {State.FINISHED}


@pytest.fixture
def interruptible():
    """Python's handler of Ctrl-C, which a shell takes from what it starts in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures('interruptible')
@pytest.mark.slow
def test_an_interrupt_while_a_worker_starts_waits_for_it(monkeypatch, capfd):
    start, workers = util.spawnv_passfds, []

    def start_and_interrupt(path, arguments, descriptors):
        pid = start(path, arguments, descriptors)
        if '--multiprocessing-fork' in arguments:  # the worker, which has not been told yet what it is to do
            workers.append(pid)
            os.kill(os.getpid(), signal.SIGINT)
        return pid

    monkeypatch.setattr(util, 'spawnv_passfds', start_and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        train_all(plan_runs([Method('network', NETWORK, SHORT)], [0], Path('unused')), LocalEngine(1), Listener())
    (worker,) = [process for process in multiprocessing.active_children() if process.pid in workers]
    worker.join(600)
    assert worker.exitcode == 0
    assert 'Traceback' not in capfd.readouterr().err


@pytest.mark.slow
def test_an_interrupt_leaves_no_worker_behind(tmp_path):
    class Interrupter(Listener):
        def advanced(self, run, share):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_all(plan_runs([Method('network', NETWORK, SHORT)], [0], tmp_path), LocalEngine(1), Interrupter())
    assert not multiprocessing.active_children()


KILLED_COMPARISON = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from runs.test_workers import NETWORK, SHORT, Listener
from r2kd_mm.runs import LocalEngine, Method, plan_runs
from r2kd_mm.runs.grid import train_all

class Killed(Listener):
    def advanced(self, run, share):
        if share:
            os.kill(os.getpid(), signal.SIGKILL)

if __name__ == '__main__':
    many_steps = dict(SHORT, **{{'train_dataloader.batch_size': 2}})
    train_all(plan_runs([Method('network', NETWORK, many_steps)], [0], Path({folder!r})), LocalEngine(1), Killed())
"""


@pytest.mark.slow
def test_a_worker_stops_with_a_checkpoint_when_the_comparison_is_killed(tmp_path):
    script = tmp_path / 'compare.py'
    script.write_text(KILLED_COMPARISON.format(tests=str(ROOT / 'tests'), folder=str(tmp_path)))
    assert subprocess.run([sys.executable, script], timeout=300).returncode == -signal.SIGKILL
    log = tmp_path / 'network/seed_0.log'
    deadline = time.monotonic() + 60
    while 'Stopped by SIGTERM' not in log.read_text() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert 'Stopped by SIGTERM after iteration' in log.read_text()
    assert 'Traceback' not in log.read_text()
