"""Plan a comparison of methods: list one run for each method and seed, each with its folder."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FunctionType
from typing import Any

from mmengine.config import Config

from r2kd_mm.engine.run_config import load_run_config
from r2kd_mm.moved import old_names

__getattr__ = old_names(__name__)


@dataclass(frozen=True)
class Method:
    """Method of a comparison: a config, possibly with changed fields, which is one row of the table.

    Args:
        name: Name in tables and plots; unique in a comparison.
        config: Path of the config file.
        options: New values by dotted key, as ``--cfg-options``; a ``type`` is a class or its name.

    Example:
        >>> Method('KD, T = 4', 'configs/kd.py', options={'model.losses.loss_kd.temperature': 4.0}).folder_name
        'KD_T_4'
    """

    name: str
    config: str
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def folder_name(self) -> str:
        """The name without characters that are special to a shell or a file system."""
        return re.sub(r'[^\w.+-]+', '_', self.name)


@dataclass(frozen=True)
class Run:
    """A method with a seed, and the folder for its logs, checkpoints and result.

    Args:
        method: Method that is trained.
        seed: Seed of the run.
        folder: Folder of the run.
        processes: Number of processes that train it together; the batch size of the config is that of one.

    Example:
        >>> run = Run(Method('KD', 'kd.py'), seed=1, folder=Path('runs/KD/seed_1'))
        >>> str(run), str(run.set_aside)
        ('KD, seed 1', 'runs/KD/seed_1.set_aside')
    """

    method: Method
    seed: int
    folder: Path
    processes: int = 1

    @property
    def set_aside(self) -> Path:
        """The folder that keeps an earlier run of other settings until this run is finished."""
        return self.folder.with_name(f'{self.folder.name}.set_aside')

    @property
    def output_file(self) -> Path:
        """The file of what the run prints; it is next to the folder, which may be emptied."""
        return self.folder.with_suffix('.log')

    @property
    def lock_file(self) -> Path:
        """The file that names the process which trains the run, next to the folder."""
        return self.folder.with_suffix('.lock')

    def __str__(self) -> str:
        """Name the run for a person."""
        return f'{self.method.name}, seed {self.seed}'


def plan_runs(methods: Sequence[Method], seeds: Sequence[int], folder: Path) -> list[Run]:
    """Plan to train every method with every seed.

    All methods are trained with the first seed, then with the next, so that an early look compares all methods.

    Raises:
        ValueError: A seed or a name comes twice, or a seed is negative.

    Example:
        >>> [str(run) for run in plan_runs([Method('KD', 'kd.py'), Method('R2KD', 'r2kd.py')], [0, 1], Path('runs'))]
        ['KD, seed 0', 'R2KD, seed 0', 'KD, seed 1', 'R2KD, seed 1']
    """
    if not methods or not seeds:
        raise ValueError('a comparison needs at least one config and one seed')
    if repeated := _repeated(seeds):
        raise ValueError(f'--seeds {repeated[0]} is given twice; a run repeated with one seed is no second measurement')
    if negative := [seed for seed in seeds if seed < 0]:
        raise ValueError(f'a seed must be >= 0, got {negative[0]}')
    if repeated := _repeated(method.folder_name for method in methods):
        configs = [method.config for method in methods if method.folder_name == repeated[0]]
        raise ValueError(
            f'{len(configs)} configs have the name {repeated[0]!r}: {", ".join(configs)}; '
            'rename one, since tables and folders go by the name'
        )
    return [Run(method, seed, folder / method.folder_name / f'seed_{seed}') for seed in seeds for method in methods]


def load_config(run: Run) -> Config:
    """Read the config of a run as ``tools/train.py`` would, and set the seed and the folder of the run.

    Example:
        >>> cfg = load_config(Run(Method('KD', 'kd.py', {'train_cfg.max_epochs': 5}), seed=3, folder=Path('five')))
        >>> cfg.train_cfg.max_epochs, cfg.randomness.seed, cfg.work_dir
        (5, 3, 'five')
    """
    cfg = load_run_config(
        argparse.Namespace(
            config=run.method.config,
            cfg_options=_by_name(run.method.options),
            work_dir=str(run.folder),
            launcher='none',
            local_rank=0,
            no_pin_memory=False,
        )
    )
    cfg.merge_from_dict(dict(randomness=dict(seed=run.seed), experiment_name=str(run)))
    return cfg


def _by_name(value: Any) -> Any:
    """Replace classes and functions by their names, since the Runner writes its config to a file."""
    if isinstance(value, Mapping):
        return {key: _by_name(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_by_name, value))
    return f'{value.__module__}.{value.__qualname__}' if isinstance(value, (type, FunctionType)) else value


def _repeated(values: Iterable) -> list:
    values = list(values)
    return [value for index, value in enumerate(values) if value in values[:index]]
