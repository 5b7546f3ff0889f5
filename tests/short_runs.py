"""Make runs of a comparison that train for two epochs on the digits."""

from __future__ import annotations

import itertools
from pathlib import Path

from toolbox import ROOT

from r2kd_mm.runs import Method, Run, State, look_at, plan_runs

NETWORK = str(ROOT / 'configs/supervised/res14_digits.py')  # learns something in two epochs
SHORT = {
    'train_cfg.max_epochs': 2,
    'train_cfg.val_interval': 1,
    'default_hooks.checkpoint.interval': 1,
    'log_level': 'ERROR',
}

_counter = itertools.count()


def short_run(folder: Path, seed: int = 0, **options) -> Run:
    name = f'network {next(_counter)}'  # MMEngine keeps one visualizer for each name and second
    return plan_runs([Method(name, NETWORK, {**SHORT, **options})], [seed], folder)[0]


def state(run: Run) -> State:
    return look_at([run])[run]
