"""Find the state of a run's folder: empty, with an interrupted or finished run, or with a run of another config."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from r2kd_mm.checkpoint import digest_of_file, split_weights_name
from r2kd_mm.engine.wrapped_data import short_name, short_types
from r2kd_mm.runs.plan import Method, Run, load_config
from r2kd_mm.runs.result import has_result

DIGEST_FILE = 'fingerprint.txt'  # of the run that wrote the folder, finished or not
WATCHING = ('ChanceCheckHook',)  # hooks that only warn
LOCAL = 'LocalVisBackend'  # the logger that results are read from
_UNRELATED_FIELDS = ('launcher', 'resume', 'work_dir', 'experiment_name', 'log_level')


class State(Enum):
    """State of a run's folder.

    Example:
        >>> State.INTERRUPTED.value
        'a part of this run'
    """

    NEW = 'nothing'
    INTERRUPTED = 'a part of this run'
    CHANGED = 'a run of another config or teacher'
    SET_ASIDE = 'a run of another config or teacher, for which this run was set aside'
    FINISHED = 'this run, finished'


def settings_digest(cfg: Config) -> str:
    """Hash everything that decides a result: the config, its seed, and the content of the checkpoints that it reads."""
    content = {name: value for name, value in cfg.to_dict().items() if name not in _UNRELATED_FIELDS}
    if content.get('load_from') is None:  # as before it counted, so that finished runs stay so
        content.pop('load_from', None)
    _leave_out_watchers(content)
    _name_by_content(content)
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _leave_out_watchers(content: dict[str, Any]) -> None:
    """Take out what only watches a run: other loggers than that of the results, and hooks that only warn."""
    hooks = content.get('default_hooks') or {}
    if any(_kind(hook) in WATCHING for hook in hooks.values()):
        content['default_hooks'] = {name: hook for name, hook in hooks.items() if _kind(hook) not in WATCHING}
    backends = (content.get('visualizer') or {}).get('vis_backends')
    if backends:
        local = [backend for backend in backends if _kind(backend) == LOCAL]
        content['visualizer'] = dict(content['visualizer'], vis_backends=local)


def _kind(part: Any) -> str:
    return short_name(part['type']) if isinstance(part, Mapping) else ''


def _name_by_content(fields: dict[str, Any]) -> None:
    """Replace the path of every checkpoint that a teacher or student begins from by the digest of its file."""
    for name, value in fields.items():
        if isinstance(value, dict):
            _name_by_content(value)
        elif isinstance(value, str) and name in ('teacher_ckpt', 'checkpoint', 'load_from'):
            # of a teacher that is missing, the digest says so; a student may begin from weights at a URL
            is_file = Path(split_weights_name(value)[0]).is_file()
            fields[name] = digest_of_file(value) if name == 'teacher_ckpt' or is_file else value


def look_at(runs: Iterable[Run]) -> dict[Run, State]:
    """Look into the folder of each run. Every config is read, so that a typo shows before anything is trained.

    Raises:
        ValueError: The runs would be measured on different images.

    Example:
        >>> from r2kd_mm.runs import plan_runs
        >>> runs = plan_runs([Method('KD', 'kd.py')], seeds=[0, 1], folder=Path('work_dirs'))
        >>> [state.name for state in look_at(runs).values()]
        ['FINISHED', 'NEW']
    """
    configs: dict[Method, Config] = {}
    states = {}
    for run in runs:
        if run.method not in configs:
            configs[run.method] = load_config(run)
        cfg = configs[run.method]
        cfg.randomness.seed = run.seed
        states[run] = state_of(run, cfg)
    _check_same_images(configs)
    return states


def _check_same_images(configs: Mapping[Method, Config]) -> None:
    """Refuse methods that are measured on different images: their difference would mean nothing."""
    measured = [(method, _measured_images(cfg)) for method, cfg in configs.items()]
    for method, images in measured[1:]:
        first, expected = measured[0]
        if images != expected:
            raise ValueError(
                f'{method.name!r} is measured on other images than {first.name!r}: {images} and {expected}; '
                'compare configs that have one data set in test_dataloader, or all none of their own and one in '
                'val_dataloader'
            )


def _measured_images(cfg: Config) -> dict[str, Any]:
    """Return the reported data set, its type by name: one config has the class, another its path."""
    if cfg.get('val_dataloader') is None:
        raise ValueError('a config that is to be compared needs a val_dataloader')
    loader = cfg.test_dataloader if has_test_set(cfg) else cfg.val_dataloader
    return images_of(loader.dataset)


def images_of(dataset: ConfigDict) -> dict[str, Any]:
    """Return the config of a data set and of those within it, without their pipelines and folders."""
    return short_types(_without_preparation(dataset.to_dict()))


def _without_preparation(value: Any) -> Any:
    if isinstance(value, dict):
        ignored = ('pipeline', 'data_root', 'lazy_init')
        return {name: _without_preparation(item) for name, item in value.items() if name not in ignored}
    return [_without_preparation(item) for item in value] if isinstance(value, (list, tuple)) else value


def state_of(run: Run, cfg: Config) -> State:
    """Look into the folder of ``run``, whose config is ``cfg``."""
    found, waiting = read_digest(run.folder), read_digest(run.set_aside)
    if found is waiting is None:
        return State.NEW  # without reading the teacher's checkpoint for a digest
    wanted = settings_digest(cfg)
    if found == wanted:
        return State.FINISHED if has_result(run) else State.INTERRUPTED
    if waiting == wanted:
        return State.SET_ASIDE
    return State.NEW if found is None else State.CHANGED


def read_digest(folder: Path) -> str | None:
    path = folder / DIGEST_FILE
    return path.read_text() if path.is_file() else None


def has_test_set(cfg: Config) -> bool:
    """Tell whether the config tests on images other than those of the validation."""
    return cfg.get('test_dataloader') is not None and cfg.test_dataloader.dataset != cfg.val_dataloader.dataset
