"""One run of a comparison: a method trained with one seed, in a folder of its own."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import FunctionType
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.utils import mkdir_or_exist
from mmengine.visualization import LocalVisBackend
from mmpretrain.evaluation import Accuracy

from r2kd_mm.checkpoint import digest_of_file, split_weights_name
from r2kd_mm.engine import AtomicLocalBackend, set_resume
from r2kd_mm.engine.classes import check_same_classes, classes_of
from r2kd_mm.engine.resume import AUTO, POINTER
from r2kd_mm.engine.run_config import load_run_config
from r2kd_mm.engine.wrapped_data import short_types

SCALARS = '*/vis_data/scalars.json'  # in the folder of a run
METRIC = 'accuracy/top1'  # of mmpretrain's Accuracy, in percent

_FINGERPRINT_FILE = 'fingerprint.txt'  # of the run that wrote the folder, finished or not
_RESULT_FILE = 'result.json'  # there when the run is finished
_ELAPSED = 'comparison_seconds'  # in the message hub, which checkpoints hold: wall time and that of the processors
_UNRELATED_FIELDS = ('launcher', 'resume', 'work_dir', 'experiment_name', 'log_level')


@dataclass(frozen=True)
class Method:
    """A row of the comparison.

    Args:
        name: What the tables and plots call it; unique in a comparison.
        config: Path of the config.
        options: Dotted keys and their values, as ``--cfg-options``; a type as itself or by its name.
    """

    name: str
    config: str
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def folder_name(self) -> str:
        """The name without what a shell or a file system might mind."""
        return re.sub(r'[^\w.+-]+', '_', self.name)


@dataclass(frozen=True)
class Run:
    """A method with a seed, and the folder for its logs, checkpoints and result."""

    method: Method
    seed: int
    folder: Path

    @property
    def set_aside(self) -> Path:
        """Where the run waits whose folder this one has taken, until this one is finished."""
        return self.folder.with_name(f'{self.folder.name}.set_aside')

    @property
    def output_file(self) -> Path:
        """Where a worker sends what the run prints, beside the folder, which may be emptied."""
        return self.folder.with_suffix('.log')

    def __str__(self) -> str:
        """How a person calls the run."""
        return f'{self.method.name}, seed {self.seed}'


@dataclass(frozen=True)
class Result:
    """What a finished run measured.

    Args:
        epochs: When the validation set was looked at, ascending.
        accuracy: Top-1 accuracy on it then, in percent.
        teachers: Name to accuracy of the frozen teachers, in percent; empty without a ``TeacherCheckHook``.
        seconds: Wall time of training; of a resumed run, of all that led to its result, and not what a kill undid.
        cpu_seconds: Likewise, time of the processors; ``None`` in results of earlier versions.
        test: Accuracy on the test set in percent, of the weights after the ``'last'`` epoch and of those of the epoch
            that was ``'best'`` on the validation set; empty where the config has no test set but the validation set.
    """

    epochs: list[int]
    accuracy: list[float]
    teachers: dict[str, float]
    seconds: float
    cpu_seconds: float | None = None
    test: dict[str, float] = field(default_factory=dict)

    @property
    def last(self) -> float:
        """Accuracy after the last epoch, on the test set where there is one."""
        return self.test.get('last', self.accuracy[-1])

    @property
    def best(self) -> float | None:
        """Accuracy of the best epoch.

        On a test set, that of the epoch that validation chose, ``None`` where its weights were not kept (``save_best``
        of the checkpoint hook); without one, the highest of all, which flatters because it is chosen on the images it
        is measured on.
        """
        return self.test.get('best') if self.test else max(self.accuracy)


class State(Enum):
    """What the folder of a run holds."""

    NEW = 'nothing'
    INTERRUPTED = 'a part of this run'
    CHANGED = 'a run of another config or teacher'
    SET_ASIDE = 'a run of another config or teacher, for which this run was set aside'
    FINISHED = 'this run, finished'


def plan_runs(methods: Sequence[Method], seeds: Sequence[int], folder: Path) -> list[Run]:
    """Every method with every seed, seed by seed, so that an early look compares all methods.

    Raises:
        ValueError: A seed or a name comes twice, or a seed is negative.
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
    """The config of a run, as ``tools/train.py`` would read it, with the seed and the folder of the run."""
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
    """The value with classes and functions named, since the Runner writes down what it was configured with."""
    if isinstance(value, Mapping):
        return {key: _by_name(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_by_name, value))
    return f'{value.__module__}.{value.__qualname__}' if isinstance(value, (type, FunctionType)) else value


def fingerprint(cfg: Config) -> str:
    """Short hash of all that decides a result: the config, its seed, and the content of the checkpoints it reads."""
    content = {name: value for name, value in cfg.to_dict().items() if name not in _UNRELATED_FIELDS}
    if content.get('load_from') is None:  # as before it counted, so that finished runs stay so
        content.pop('load_from', None)
    _name_by_content(content)
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _name_by_content(fields: dict[str, Any]) -> None:
    """Put the digest of its file in the place of the path of every checkpoint that teachers or students begin from."""
    for name, value in fields.items():
        if isinstance(value, dict):
            _name_by_content(value)
        elif isinstance(value, str) and name in ('teacher_ckpt', 'checkpoint', 'load_from'):
            # of a teacher that is missing, the digest says so; a student may begin from weights at a URL
            is_file = Path(split_weights_name(value)[0]).is_file()
            fields[name] = digest_of_file(value) if name == 'teacher_ckpt' or is_file else value


def look_at(runs: Iterable[Run]) -> dict[Run, State]:
    """What there is of each run; reads every config, so that a slip in one shows before anything is trained.

    Raises:
        ValueError: The runs would be measured on different images.
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
    """Refuse methods whose accuracies are of different images, so that no difference means anything."""
    measured = {method: _measured_images(cfg) for method, cfg in configs.items()}
    first = next(iter(measured), None)
    for method, images in measured.items():
        if images != measured[first]:
            raise ValueError(
                f'{method.name!r} is measured on other images than {first.name!r}: {images} and {measured[first]}; '
                'compare configs that have one data set in test_dataloader, or all none of their own and one in '
                'val_dataloader'
            )


def _measured_images(cfg: Config) -> dict[str, Any]:
    """The data set that is reported, its type by name: one config has the class, another its path."""
    if cfg.get('val_dataloader') is None:
        raise ValueError('a config that is to be compared needs a val_dataloader')
    loader = cfg.test_dataloader if _has_test_set(cfg) else cfg.val_dataloader
    return images_of(loader.dataset)


def images_of(dataset: ConfigDict) -> dict[str, Any]:
    """The config of a data set, and of those within it, without what happens to their images, and where they lie."""
    return short_types(_without_preparation(dataset.to_dict()))


def _without_preparation(value: Any) -> Any:
    if isinstance(value, dict):
        ignored = ('pipeline', 'data_root', 'lazy_init')
        return {name: _without_preparation(item) for name, item in value.items() if name not in ignored}
    return [_without_preparation(item) for item in value] if isinstance(value, (list, tuple)) else value


def state_of(run: Run, cfg: Config) -> State:
    """What there is in the folder of ``run``, whose config is ``cfg``."""
    found, waiting = _read_fingerprint(run.folder), _read_fingerprint(run.set_aside)
    if found is waiting is None:
        return State.NEW  # without reading the teacher's checkpoint for a fingerprint
    wanted = fingerprint(cfg)
    if found == wanted:
        return State.FINISHED if (run.folder / _RESULT_FILE).is_file() else State.INTERRUPTED
    if waiting == wanted:
        return State.SET_ASIDE
    return State.NEW if found is None else State.CHANGED


def _read_fingerprint(folder: Path) -> str | None:
    path = folder / _FINGERPRINT_FILE
    return path.read_text() if path.is_file() else None


def train(run: Run, report_progress: Callable[[float], None]) -> Result:
    """Train ``run`` through MMEngine's Runner, from where it stopped, and write down the result.

    A run that is in the folder already, of another config or of another teacher, is set aside and deleted when this one
    is finished. It is put back when it is asked for before, or when this one fails without a checkpoint.

    Args:
        run: What to train; nothing where it was set aside when it was finished.
        report_progress: Called after each epoch with the share of the training that is done, in ``(0, 1]``.

    Raises:
        BlockingIOError: Another process trains it.
    """
    with _locked(run):
        return _train_in_folder(run, report_progress)


@contextlib.contextmanager
def _locked(run: Run) -> Iterator[None]:
    """Keep other processes from the folder, in which two would write over each other's checkpoints."""
    path = run.folder.with_suffix('.lock')
    mkdir_or_exist(path.parent)
    with path.open('w') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(
                f'{run} is being trained in {str(run.folder)!r} by another process; wait for it, or give another folder'
            ) from None
        except OSError:  # a file system without locks
            pass
        yield


def _train_in_folder(run: Run, report_progress: Callable[[float], None]) -> Result:
    cfg = load_config(run)
    state = state_of(run, cfg)
    if state is State.SET_ASIDE:
        _put_back(run)
        state = state_of(run, cfg)
        if state is State.FINISHED:
            return load_result(run)
    files = AtomicLocalBackend()
    if state is not State.INTERRUPTED:
        _set_aside(run)
        files.put_text(fingerprint(cfg), run.folder / _FINGERPRINT_FILE)
    try:
        result = _train(run, cfg, report_progress)
    except Exception:
        if run.set_aside.is_dir() and not (run.folder / POINTER).is_file():
            _put_back(run)
        raise
    shutil.rmtree(run.set_aside, ignore_errors=True)
    files.put_text(json.dumps(vars(result), indent=2), run.folder / _RESULT_FILE)
    return result


def _set_aside(run: Run) -> None:
    """Empty the folder; what was set aside first stays, since nothing that came after it was finished."""
    if _read_fingerprint(run.folder) is not None and not run.set_aside.exists():
        run.folder.rename(run.set_aside)
    shutil.rmtree(run.folder, ignore_errors=True)
    mkdir_or_exist(run.folder)


def _put_back(run: Run) -> None:
    shutil.rmtree(run.folder, ignore_errors=True)
    run.set_aside.rename(run.folder)


def _train(run: Run, cfg: Config, report_progress: Callable[[float], None]) -> Result:
    set_resume(cfg, AUTO)
    stopwatch = _StopwatchHook()
    runner = Runner.from_cfg(cfg)
    runner.register_hook(stopwatch)
    runner.register_hook(_ProgressHook(report_progress))
    _check_measured(runner)
    if _has_test_set(cfg):
        # built now, so that missing test data are not an error after the training
        check_same_classes(
            classes_of(runner.train_dataloader.dataset),
            classes_of(runner.test_dataloader.dataset),
            owners='train_dataloader and test_dataloader',
        )
    runner.train()
    if runner.epoch not in _read_scalars(run.folder)[0]:  # killed between the last checkpoint and its evaluation
        runner.val()
    seconds, cpu_seconds = (round(value, 1) for value in stopwatch.elapsed())

    accuracy, teachers = _read_scalars(run.folder)
    return Result(list(accuracy), list(accuracy.values()), teachers, seconds, cpu_seconds, _test(runner))


def _check_measured(runner: Runner) -> None:
    """Refuse a run whose accuracy would not be known when it is trained."""
    loops = [runner.val_loop, *([runner.test_loop] if _has_test_set(runner.cfg) else [])]
    for name, loop in zip(('val_evaluator', 'test_evaluator'), loops):
        metrics = [metric for metric in loop.evaluator.metrics if isinstance(metric, Accuracy)]
        if not any(f'{metric.prefix}/top{k}' == METRIC for metric in metrics for k in metric.topk):
            raise ValueError(
                f"{name} measures no {METRIC!r}: a config that is to be compared needs mmpretrain's Accuracy there, "
                'with 1 in its topk'
            )
    if not all(getattr(hook, 'evaluate_on_ema', True) for hook in runner.hooks):
        raise ValueError(
            'a config that is to be compared cannot have an EMAHook with evaluate_on_ema=False: the accuracy would be '
            'that of the raw weights, and a checkpoint ships the averaged ones; leave the hook out, or the argument'
        )
    if not any(isinstance(backend, LocalVisBackend) for backend in runner.visualizer._vis_backends.values()):
        raise ValueError(
            'a config that is to be compared needs a LocalVisBackend in the vis_backends of its visualizer'
        )


def load_result(run: Run) -> Result:
    """The result of a finished run."""
    return Result(**json.loads((run.folder / _RESULT_FILE).read_text()))


def last_checkpoint(run: Run) -> str:
    """Path of the checkpoint after the last epoch of a finished run, wherever its folder was moved to."""
    return str(run.folder / Path((run.folder / POINTER).read_text()).name)


class _StopwatchHook(Hook):
    """Time since it was made, to which checkpoints add that of the run that they are resumed from."""

    def __init__(self) -> None:
        self._started, self._cpu_started = time.monotonic(), time.process_time()

    def elapsed(self) -> tuple[float, float]:
        """Wall time and time of the processors, in seconds."""
        return time.monotonic() - self._started, time.process_time() - self._cpu_started

    def before_train(self, runner: Runner) -> None:
        if runner.iter:  # resumed
            seconds, cpu_seconds = runner.message_hub.runtime_info.get(_ELAPSED, (0.0, 0.0))
            self._started -= seconds
            self._cpu_started -= cpu_seconds

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        runner.message_hub.update_info(_ELAPSED, self.elapsed())  # a checkpoint may follow any iteration


class _ProgressHook(Hook):
    def __init__(self, report: Callable[[float], None]) -> None:
        self.report = report

    def after_train_epoch(self, runner: Runner) -> None:
        self.report((runner.epoch + 1) / runner.max_epochs)


def _test(runner: Runner) -> dict[str, float]:
    """Accuracy on the test set after the last epoch, and of the weights that did best on the validation set."""
    if not _has_test_set(runner.cfg):
        return {}
    found = dict(last=runner.test()[METRIC])
    best = runner.message_hub.runtime_info.get('best_ckpt')
    if best is not None:
        runner.load_checkpoint(best)
        found['best'] = runner.test()[METRIC]
    return found


def _has_test_set(cfg: Config) -> bool:
    """Whether there are images to test on that are not those of the validation."""
    return cfg.get('test_dataloader') is not None and cfg.test_dataloader.dataset != cfg.val_dataloader.dataset


def logged_rows(log: Path) -> Iterator[dict[str, Any] | None]:
    """The lines that MMEngine's LocalVisBackend logged from one start of a run on, in order.

    A line that a killed run or a full disk cut off comes as ``None``.
    """
    for line in log.read_text(errors='replace').splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            row = None
        yield row if isinstance(row, dict) else None


def _read_scalars(folder: Path) -> tuple[dict[int, float], dict[str, float]]:
    """Accuracy by epoch, and of the teachers, from the scalars that MMEngine's LocalVisBackend wrote.

    Each start of the Runner writes a folder of its own, named by the time; after a resume the later value counts.
    """
    accuracy, teachers = {}, {}
    rows = (row for log in sorted(folder.glob(SCALARS)) for row in logged_rows(log))
    for scalars in filter(None, rows):
        if METRIC in scalars:
            accuracy[scalars['step']] = scalars[METRIC]
        teachers.update(
            {
                name.removesuffix('/accuracy'): value
                for name, value in scalars.items()
                if name.endswith('teacher/accuracy')
            }
        )
    if not accuracy:
        raise ValueError(f'the run left no {METRIC!r} in {str(folder)!r}: its logs are gone; train it anew')
    return dict(sorted(accuracy.items())), teachers


def _repeated(values: Iterable) -> list:
    values = list(values)
    return [value for index, value in enumerate(values) if value in values[:index]]
