"""Find the newest readable checkpoint in a work dir, and make the config resume from it.

If a run would overwrite the checkpoints of an earlier run, refuse to start without ``--overwrite``.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from mmengine.config import Config

from r2kd_mm.checkpoint import load_checkpoint_file
from r2kd_mm.distributed import process_rank
from r2kd_mm.engine.arguments import AUTO
from r2kd_mm.engine.config_fields import config_fields

POINTER = 'last_checkpoint'  # the file in which MMEngine notes the path of the newest checkpoint
PREEMPTED = 'preempted_iter_'  # prefix of a checkpoint saved on SIGTERM; the iteration follows
FAMILIES = ('epoch_', 'iter_', PREEMPTED)  # best_* and the like lack the optimizer
RESTARTS_VARIABLE = 'TORCHELASTIC_RESTART_COUNT'  # restarts by torchrun --max-restarts


def set_resume(cfg: Config, resume: str | None, overwrite: bool = False) -> None:
    """Make ``cfg`` resume from a readable checkpoint; MMEngine's own search may choose a damaged file.

    Args:
        cfg: Config, changed in place: ``resume`` and ``load_from``. ``resume=True`` without ``load_from`` means
            :data:`AUTO`.
        resume: Path of a checkpoint. :data:`AUTO` takes the newest checkpoint in ``cfg.work_dir``; without one,
            the run starts from scratch. ``None`` keeps the settings of the config. After a restart by torchrun, the
            newest checkpoint in ``cfg.work_dir`` is always used.
        overwrite: Start from scratch even if the config or ``cfg.work_dir`` has a checkpoint.

    Raises:
        ValueError: The given checkpoint, or every checkpoint in the work dir, is damaged. Or the work dir holds
            checkpoints of an earlier run, and this run neither resumes nor overwrites it.
        FileNotFoundError: The given checkpoint does not exist.

    Example:
        >>> cfg = Config(dict(work_dir='work_dirs/KD/seed_0'))
        >>> set_resume(cfg, 'auto')
        >>> cfg.resume, Path(cfg.load_from).name
        (True, 'epoch_1.pth')
    """
    if resume is None and cfg.get('resume') and not overwrite:
        resume = cfg.get('load_from') or AUTO
    restarted = int(os.environ.get(RESTARTS_VARIABLE) or 0) > 0
    found = find_checkpoint(cfg.work_dir) if resume == AUTO or restarted else None
    if found is not None:
        cfg.resume, cfg.load_from = True, found
        return
    if not (overwrite or resume == AUTO or restarted):
        _check_nothing_is_lost(Path(cfg.work_dir), resume)
    if resume is None or resume == AUTO:
        cfg.resume = False  # load_from stays: the weights that a new run starts from
    else:
        _verify(resume, cfg.work_dir)
        cfg.resume, cfg.load_from = True, resume


def stretch_schedule(cfg: Config) -> None:
    """Stretch the schedules that ended with the run of the checkpoint if ``cfg`` has another length.

    A schedule ends with the run if its ``T_max``, ``total_steps`` or ``end`` is the last epoch of the checkpoint's run.
    Warm-up, milestones and fields that the user has changed stay. A second call changes nothing.

    Args:
        cfg: Config, changed in place: ``param_scheduler``. Its ``load_from`` is the checkpoint.
    """
    if not cfg.resume or '://' in cfg.load_from:
        return
    before = config_fields((load_checkpoint_file(cfg.load_from).get('meta') or {}).get('cfg') or '')
    old, new = before.get('train_cfg.max_epochs'), (cfg.get('train_cfg') or {}).get('max_epochs')
    if not isinstance(old, int) or not isinstance(new, int):
        return
    schedulers = cfg.get('param_scheduler') or []
    for place, scheduler in enumerate([schedulers] if isinstance(schedulers, dict) else schedulers):
        name = 'param_scheduler' if isinstance(schedulers, dict) else f'param_scheduler.{place}'
        begin = scheduler.get('begin', 0)
        for field, start in (('end', 0), ('T_max', begin), ('total_steps', begin)):
            stated, recorded = scheduler.get(field), before.get(f'{name}.{field}')
            was_stretched = old == new and stated is not None and stated + start < new
            if recorded is not None and recorded + start == old and (stated == recorded or was_stretched):
                scheduler[field] = new - start


def find_checkpoint(work_dir: str | os.PathLike) -> str | None:
    """Return the newest complete checkpoint in ``work_dir`` that a run can resume from; ``None`` without one.

    This is the file to which ``last_checkpoint`` points. If it is damaged, an earlier file is taken: the one with the
    most iterations among smaller numbers. Each damaged file is reported on stderr with the reason. A file with a higher
    number than the pointer's is ignored: it is from an earlier run, or its writer was killed.

    Raises:
        ValueError: There are checkpoints, and none is whole.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     find_checkpoint(folder) is None
        True
    """
    newest, damaged = _search(Path(work_dir))
    if newest is None and damaged:
        raise ValueError(
            f'none of the checkpoints in {str(work_dir)!r} is whole ({", ".join(path.name for path in damaged)}); copy '
            'one from elsewhere and name it by --resume PATH, or start again with another --work-dir'
        )
    return newest


def _search(work_dir: Path) -> tuple[str | None, list[Path]]:
    """Find the newest complete checkpoint, and the damaged ones before it."""
    damaged: list[Path] = []
    pointed = _pointed_to(work_dir)
    if pointed is not None and _iterations(pointed, damaged) is not None:
        return str(pointed), damaged
    newest: tuple[int, str] | None = None
    for folder in {work_dir, work_dir if pointed is None else pointed.parent}:
        for family in FAMILIES:
            for path in _family(folder, family, pointed):
                iterations = _iterations(path, damaged)
                if iterations is not None:  # the newest whole one of its family
                    newest = max(newest or (-1, ''), (iterations, str(path)))
                    break
    if newest is None:
        return None, damaged
    warn(f'resuming from {newest[1]}, after {newest[0]} iterations')
    return newest[1], damaged


def _pointed_to(work_dir: Path) -> Path | None:
    """Return the file to which ``last_checkpoint`` points, also if ``work_dir`` was moved."""
    pointer = work_dir / POINTER
    if not pointer.is_file():
        return None
    try:
        noted = Path(pointer.read_bytes().decode().strip())
        places = [place for place in (noted, work_dir / noted.name) if place.is_file()]
    except (UnicodeDecodeError, ValueError, OSError):  # bytes that are not a path
        noted, places = Path(), []
    if not places:
        name = noted.name if noted.name.isprintable() else ''
        warn(f'{pointer} points to no checkpoint that is there ({name[:80] or "damaged"})')
        return None
    return places[0]


def _family(folder: Path, family: str, pointed: Path | None) -> Iterator[Path]:
    """List the checkpoints of one naming scheme, newest first, that are older than the one pointed to."""
    numbered = {}
    for path in folder.glob(f'{family}*.pth'):
        match = re.fullmatch(rf'{family}(\d+)\.pth', path.name)
        if match and path.is_file():
            numbered[int(match.group(1))] = path
    limit = next((number for number, path in numbered.items() if path == pointed), None)
    for number in sorted(numbered, reverse=True):
        if limit is None or number < limit:
            yield numbered[number]


def _iterations(path: Path, damaged: list[Path]) -> int | None:
    """Return the iterations of a checkpoint; report a damaged or incomplete file, and return ``None``."""
    try:
        checkpoint = load_checkpoint_file(path)
        _check_has_state(path, checkpoint)
        return int(checkpoint['meta']['iter'])
    except (ValueError, KeyError, TypeError, OSError) as error:
        damaged.append(path)
        warn(f'passed over: {error}')
        return None


def _check_has_state(path: str | Path, checkpoint: dict) -> None:
    missing = {'meta', 'message_hub', 'optimizer', 'state_dict'} - set(checkpoint)
    if missing:
        raise ValueError(
            f'checkpoint {str(path)!r} lacks {", ".join(sorted(missing))}, so no run can resume from it'
            + (' (save_optimizer=False?)' if missing == {'optimizer'} else '')
        )


def _check_nothing_is_lost(work_dir: Path, resume: str | None) -> None:
    """Refuse to overwrite the checkpoints of an earlier run, unless this run resumes from them."""
    checkpoints = [path for family in (*FAMILIES, 'best_') for path in work_dir.glob(f'{family}*.pth')]
    held = _pointed_to(work_dir) or max(checkpoints, key=os.path.getmtime, default=None)
    if held is None or (resume is not None and Path(resume).resolve().parent == held.resolve().parent):
        return
    configs = sorted(work_dir.glob('*.py'), key=os.path.getmtime)  # the Runner leaves one when it starts
    origin = [path.name for path in configs[-1:]] + [f'{datetime.fromtimestamp(held.stat().st_mtime):%Y-%m-%d %H:%M}']
    raise ValueError(
        f'work_dir {str(work_dir)!r} holds {held.name} of an earlier run ({", ".join(origin)}), over whose checkpoints '
        'this one would write; continue that run by --resume, give another --work-dir, or start again in this one by '
        '--overwrite'
    )


def _verify(path: str, work_dir: str) -> None:
    """Read a checkpoint that the user named, and name a better one if it is damaged."""
    if '://' in path:  # read when it has been downloaded
        return
    try:
        _check_has_state(path, load_checkpoint_file(path))
    except ValueError as error:
        whole, _ = _search(Path(work_dir))
        advice = f'the newest whole one in the work dir is {whole}' if whole else 'there is no other in the work dir'
        raise ValueError(f'{error}; {advice}') from error


def warn(message: str) -> None:
    """Print ``message`` to stderr once for all processes; this works without a Runner and its log."""
    if process_rank() == 0:
        print(f'warning: {message}', file=sys.stderr, flush=True)
