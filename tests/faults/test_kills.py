"""A run that is killed at any moment and resumed ends bit-identical to an uninterrupted run.

The report counts the runs that did so (``5 of 5 ...``) and says where they were killed.
"""

from __future__ import annotations

import itertools
import json
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import toolbox
import torch
from mmengine.config import Config

from r2kd_mm.checkpoint import load_checkpoint_file

CONFIG = toolbox.ROOT / 'configs/r2kd/r2kd_res14_res6_digits.py'
EPOCHS, LENGTH = 3, 5  # LENGTH iterations each
KILLS = 5  # for each variant
LONGEST_DELAY = 0.2  # seconds: some iterations
POLL = 0.001  # seconds between two looks at a run
VARIANTS = {
    'by epoch, no data worker': dict(save=dict(by_epoch=True, interval=1), workers=0, last=f'epoch_{EPOCHS}.pth'),
    'by iteration, two data workers': dict(
        save=dict(by_epoch=False, interval=3), workers=2, last=f'iter_{EPOCHS * LENGTH}.pth'
    ),
}


def write_config(path: Path, save: dict, workers: int) -> None:
    """R2KD on the digits as it is run, but small, and with everything in it that draws or keeps a state."""
    cfg = Config.fromfile(CONFIG)
    cfg.model.update(teacher_ckpt=None, allow_untrained_teacher=True)
    cfg.model.architecture.backbone.drop_path_rate = 0.3
    cfg.model.architecture.head.update(type='StackedLinearClsHead', mid_channels=[8], dropout_rate=0.3)
    for loader, options in (
        (cfg.train_dataloader, dict(batch_size=20, num_workers=workers)),
        (cfg.val_dataloader, dict(batch_size=50)),
    ):
        loader.update(options)
        loader.dataset.train_size = 20 * LENGTH
    cfg.val_dataloader.dataset.indices = 100
    transforms = [dict(type='RandomCrop', crop_size=8, padding=1), dict(type='RandomFlip', prob=0.5)]
    cfg.train_dataloader.dataset.pipeline = [*transforms, *cfg.train_dataloader.dataset.pipeline]
    cfg.train_cfg.update(max_epochs=EPOCHS, val_interval=1)
    cfg.default_hooks.logger.interval = 1
    cfg.default_hooks.checkpoint.update(save)
    cfg.dump(path)


class Run:
    """``tools/train.py --resume`` in a process of its own, whose output goes to ``folder``."""

    def __init__(self, config: Path, work_dir: Path, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.output, self.work_dir = folder / 'stdout', work_dir
        self.output.unlink(missing_ok=True)
        self.process = toolbox.Forked(folder, 'train.py', config, '--work-dir', work_dir, '--resume').process
        self.started = time.monotonic()

    def text(self) -> str:
        return self.output.read_text(errors='replace') if self.output.exists() else ''

    def end(self) -> float:
        """Wait; return the seconds that the run took."""
        self.process.join(toolbox.TIMEOUT)
        seconds = time.monotonic() - self.started
        assert self.process.exitcode == 0, self.output.with_name('stderr').read_text()[-3000:]
        return seconds

    def kill(self, moment: Callable[[Run], bool]) -> bool:
        """Kill the process at ``moment``; return whether it still ran."""
        while self.process.is_alive() and not moment(self):
            time.sleep(POLL)
        self.process.kill()
        self.process.join()
        return self.process.exitcode == -signal.SIGKILL


@dataclass(frozen=True)
class Whole:
    """A run that nothing interrupts."""

    config: Path
    work_dir: Path
    seconds: float


@pytest.fixture(scope='module', params=VARIANTS)
def variant(request) -> str:
    return request.param


@pytest.fixture(scope='module')
def whole(variant, tmp_path_factory) -> Whole:
    folder = tmp_path_factory.mktemp('whole')
    options = VARIANTS[variant]
    write_config(folder / 'run.py', options['save'], options['workers'])
    seconds = Run(folder / 'run.py', folder / 'work', folder / 'warm up').end()  # imports what forks share from then on
    return Whole(folder / 'run.py', folder / 'work', seconds)


def moment(rng: random.Random, number: int, seconds: float) -> Callable[[Run], bool]:
    """A random moment: of five, two while it trains, one at any time, one while it saves, one while it validates."""
    if number % 5 < 2:
        return after_iteration(rng.randrange(EPOCHS * LENGTH), delay=rng.random() * LONGEST_DELAY)
    if number % 5 == 2:
        return after_seconds(rng.random() * seconds)
    if number % 5 == 3:
        return while_saving(rng.randrange(1, EPOCHS * 2))
    return while_validating(rng.randrange(1, EPOCHS + 1))


def after_iteration(iteration: int, delay: float) -> Callable[[Run], bool]:
    """When ``delay`` seconds have passed since ``iteration``, counted from 0, was logged."""
    line = f'Epoch(train) [{iteration // LENGTH + 1}][{iteration % LENGTH + 1}/{LENGTH}]'
    seen: list[float] = []

    def is_now(run: Run) -> bool:
        if not seen and line in run.text():
            seen.append(time.monotonic())
        return bool(seen) and time.monotonic() - seen[0] >= delay

    return is_now


def after_seconds(seconds: float) -> Callable[[Run], bool]:
    return lambda run: time.monotonic() - run.started > seconds


def while_saving(count: int) -> Callable[[Run], bool]:
    """When the ``count``-th half-written file is seen."""
    seen = set()

    def is_now(run: Run) -> bool:
        seen.update(path.name for path in run.work_dir.glob('.*.tmp'))
        return len(seen) >= count and any(run.work_dir.glob('.*.tmp'))

    return is_now


def while_validating(epoch: int) -> Callable[[Run], bool]:
    return lambda run: f'Epoch(val) [{epoch}][1/2]' in run.text()


def where(run: Run) -> str:
    """Tell from its folder what a killed run was doing."""
    if any(run.work_dir.glob('.*.tmp')):
        return 'while it saved'
    lines = [line for line in run.text().splitlines() if 'Epoch(' in line or 'Saving' in line]
    if not lines:
        return 'before its first iteration'
    return 'in a validation' if 'Epoch(val)' in lines[-1] and 'top1' not in lines[-1] else 'in training'


def result(work_dir: Path, last: str) -> dict:
    """Everything that has to be the same: the last checkpoint, the best one, and what was logged."""
    checkpoint = load_checkpoint_file(work_dir / last)
    best = sorted(work_dir.glob('best_*.pth'))
    return dict(
        **{key: checkpoint[key] for key in ('state_dict', 'optimizer', 'param_schedulers')},
        best={path.name: load_checkpoint_file(path)['state_dict'] for path in best},
        checkpoints=sorted(path.name for path in work_dir.glob('*.pth')),
        logged=logged(work_dir),
    )


def logged(work_dir: Path) -> dict:
    """The last line of each step, without times."""
    lines = {}
    for path in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in path.read_text().splitlines():
            try:
                values = json.loads(line)
            except json.JSONDecodeError:  # the kill came in the middle of it
                continue
            kind = next((key for key in values if key.startswith(('accuracy', 'teacher', 'pruned'))), 'train')
            lines[kind, values['step']] = {key: value for key, value in values.items() if 'time' not in key}
    return lines


def differences(one: object, other: object, name: str = '') -> list[str]:
    """Names of what is not bitwise the same."""
    if isinstance(one, dict) and isinstance(other, dict):
        found = [f'{name}.{key} in one only' for key in one.keys() ^ other.keys()]
        return found + sum((differences(one[key], other[key], f'{name}.{key}') for key in one.keys() & other), [])
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        return sum((differences(*pair, f'{name}.{place}') for place, pair in enumerate(zip(one, other))), [])
    equal = torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other
    return [] if equal else [name]


@pytest.mark.slow
def test_a_killed_run_ends_as_the_uninterrupted_one(variant, whole, tmp_path, count):
    last = VARIANTS[variant]['last']
    seconds = Run(whole.config, tmp_path / 'again', tmp_path / 'output').end()
    expected = result(whole.work_dir, last)
    assert differences(result(tmp_path / 'again', last), expected) == []  # two runs end the same in the first place
    steps = [('train', step) for step in range(1, EPOCHS * LENGTH + 1)]
    steps += [('accuracy/top1', epoch) for epoch in range(1, EPOCHS + 1)]
    assert set(steps) <= expected['logged'].keys()

    rng, places, failures, killed_again = random.Random(0), Counter(), {}, 0
    for number in range(KILLS):
        for attempt in itertools.count():  # more than one where the run was faster than the moment
            work_dir = tmp_path / f'run {number}, attempt {attempt}'
            run = Run(whole.config, work_dir, tmp_path / 'output')
            if run.kill(moment(rng, number, seconds)):
                break
        places[where(run)] += 1
        if number % 5 == 0:
            killed_again += Run(whole.config, work_dir, tmp_path / 'output').kill(
                after_seconds(rng.random() * seconds / 2)
            )
        Run(whole.config, work_dir, tmp_path / 'output').end()
        different = differences(result(work_dir, last), expected)
        if different:
            failures[number] = different[:3]

    count(
        f'{KILLS - len(failures)} of {KILLS} killed runs ({variant}) ended bitwise equal to the uninterrupted one; '
        f'killed {", ".join(f"{times} {place}" for place, times in sorted(places.items()))}; {killed_again} twice'
    )
    assert failures == {}
    assert min(places['while it saved'], places['in a validation']) > 0
