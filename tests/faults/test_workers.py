"""If a data worker dies, the run ends with an error, and can be resumed from its last checkpoint."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import toolbox
import torch

EPOCHS = 10
CONFIG = toolbox.ROOT / 'configs/supervised/res6_digits.py'
OPTIONS = (
    '--cfg-options',
    'train_dataloader.num_workers=2',
    'train_dataloader.persistent_workers=True',
    f'train_cfg.max_epochs={EPOCHS}',
    f'train_cfg.val_interval={EPOCHS}',
    'default_hooks.checkpoint.interval=1',
    'default_hooks.checkpoint.max_keep_ckpts=-1',
)


def children(pid: int) -> list[int]:
    """The processes that ``pid`` has started."""
    lists = [Path(task, 'children').read_text() for task in Path(f'/proc/{pid}/task').iterdir()]
    return [int(child) for text in lists for child in text.split()]


def kill_a_worker(work_dir: Path, epoch: int) -> tuple[int, str, float]:
    """Train, kill a data worker after ``epoch``; the exit status, stderr, and the seconds that the run took to end."""
    log = work_dir.with_suffix('.stderr')
    with log.open('w') as stderr:
        run = subprocess.Popen(
            toolbox.command('train.py', CONFIG, '--work-dir', work_dir, *OPTIONS),
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            env=toolbox.environment(),
        )
    deadline = time.monotonic() + toolbox.TIMEOUT
    while not (work_dir / f'epoch_{epoch}.pth').exists():
        assert run.poll() is None, log.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(children(run.pid)[-1], signal.SIGKILL)
    killed = time.monotonic()
    return run.wait(toolbox.TIMEOUT), log.read_text(), time.monotonic() - killed


@pytest.mark.slow
def test_the_death_of_a_worker_ends_the_run_which_goes_on_by_resume(tmp_path, count):
    returncode, stderr, seconds = kill_a_worker(tmp_path / 'killed', epoch=2)
    assert returncode == 1
    assert 'DataLoader worker (pid' in stderr
    checkpoints = list((tmp_path / 'killed').glob('*.pth'))
    for checkpoint in checkpoints:
        torch.load(checkpoint, weights_only=False)  # written by this test

    done = toolbox.run_forked('train.py', CONFIG, '--work-dir', tmp_path / 'killed', '--resume', *OPTIONS)
    assert done.returncode == 0, done.stderr
    done = toolbox.run_forked('train.py', CONFIG, '--work-dir', tmp_path / 'whole', *OPTIONS)
    assert done.returncode == 0, done.stderr
    killed, whole = (
        torch.load(tmp_path / name / f'epoch_{EPOCHS}.pth', weights_only=False)['state_dict']
        for name in ('killed', 'whole')
    )
    assert all(torch.equal(value, whole[name]) for name, value in killed.items())
    count(
        f'workers: 1 of 1 dead worker ended the run, after {seconds:.1f} s; {len(checkpoints)} of {len(checkpoints)} '
        'checkpoints whole; the resumed run ends bitwise equal'
    )
