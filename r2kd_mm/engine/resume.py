"""Which checkpoint a run goes on from."""

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
PREEMPTED = 'preempted_iter_'  # how the name of a checkpoint begins that SIGTERM caused, before the iteration
FAMILIES = ('epoch_', 'iter_', PREEMPTED)  # best_* and the like lack the optimizer
RESTARTS_VARIABLE = 'TORCHELASTIC_RESTART_COUNT'  # how often torchrun --max-restarts has started this process anew


def set_resume(cfg: Config, resume: str | None, overwrite: bool = False) -> None:
    """Make ``cfg`` go on from a checkpoint that is whole, in place of MMEngine's search, which looks at no content.

    Args:
        cfg: Changed in place: ``resume`` and ``load_from``. ``resume=True`` without ``load_from`` means :data:`AUTO`.
        resume: Path of a checkpoint; :data:`AUTO` for the newest one in ``cfg.work_dir``, without one of which the run
            starts anew; None leaves the choice to the config. After a restart by torchrun the newest one in
            ``cfg.work_dir`` goes first, whatever is asked for.
        overwrite: Start anew, whatever the config says, also where ``cfg.work_dir`` holds the checkpoints of an
            earlier run.

    Raises:
        ValueError: The checkpoint asked for is damaged; or those in the work dir all are; or they are of an earlier
            run, from which this one does not go on, without ``overwrite``.
        FileNotFoundError: The checkpoint asked for does not exist.
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
    """Stretch the schedules of ``cfg`` that ended with the run of the checkpoint, where ``cfg`` has another length.

    Those are the ones whose ``T_max``, ``total_steps`` or ``end`` names the last epoch in the checkpoint. A warm-up
    stays, and so do milestones, and what the user has changed. The same command does the same again.

    Args:
        cfg: Changed in place: ``param_scheduler``. Its ``load_from`` is the checkpoint.
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
    """Path of the newest checkpoint in ``work_dir`` that is whole and can be gone on from; None where there is none.

    That is the one to which ``last_checkpoint`` points, or, where that is damaged, the one before: of those with
    smaller numbers the one with the most iterations. Each damaged one is reported on stderr with the reason. A
    file with a higher number than that of the pointer is left from an earlier run, or was being written at the end of
    this one.

    Raises:
        ValueError: There are checkpoints, and none is whole.
    """
    newest, damaged = _search(Path(work_dir))
    if newest is None and damaged:
        raise ValueError(
            f'none of the checkpoints in {str(work_dir)!r} is whole ({", ".join(path.name for path in damaged)}); copy '
            'one from elsewhere and name it by --resume PATH, or start anew with another --work-dir'
        )
    return newest


def _search(work_dir: Path) -> tuple[str | None, list[Path]]:
    """The newest whole checkpoint, and the damaged ones that were met before it."""
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
    warn(f'going on from {newest[1]}, after {newest[0]} iterations')
    return newest[1], damaged


def _pointed_to(work_dir: Path) -> Path | None:
    """The file to which ``last_checkpoint`` points, also where ``work_dir`` was moved since."""
    pointer = work_dir / POINTER
    if not pointer.is_file():
        return None
    try:
        noted = Path(pointer.read_bytes().decode().strip())
        places = [place for place in (noted, work_dir / noted.name) if place.is_file()]
    except (UnicodeDecodeError, ValueError, OSError):  # bytes that are no path
        noted, places = Path(), []
    if not places:
        name = noted.name if noted.name.isprintable() else ''
        warn(f'{pointer} points to no checkpoint that is there ({name[:80] or "damaged"})')
        return None
    return places[0]


def _family(folder: Path, family: str, pointed: Path | None) -> Iterator[Path]:
    """The checkpoints of one naming scheme, newest first, as far as they are older than the one pointed to."""
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
    """How far the run of this checkpoint was; None, after a report, where it is damaged or not to be gone on from."""
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
            f'checkpoint {str(path)!r} lacks {", ".join(sorted(missing))}, so no run can go on from it'
            + (' (save_optimizer=False?)' if missing == {'optimizer'} else '')
        )


def _check_nothing_is_lost(work_dir: Path, resume: str | None) -> None:
    """Refuse to write over the checkpoints of an earlier run, save one that is gone on from in its own folder."""
    checkpoints = [path for family in (*FAMILIES, 'best_') for path in work_dir.glob(f'{family}*.pth')]
    held = _pointed_to(work_dir) or max(checkpoints, key=os.path.getmtime, default=None)
    if held is None or (resume is not None and Path(resume).resolve().parent == held.resolve().parent):
        return
    configs = sorted(work_dir.glob('*.py'), key=os.path.getmtime)  # the Runner leaves one when it starts
    origin = [path.name for path in configs[-1:]] + [f'{datetime.fromtimestamp(held.stat().st_mtime):%Y-%m-%d %H:%M}']
    raise ValueError(
        f'work_dir {str(work_dir)!r} holds {held.name} of an earlier run ({", ".join(origin)}), over whose checkpoints '
        'this one would write; go on with that run by --resume, give another --work-dir, or start anew in this one by '
        '--overwrite'
    )


def _verify(path: str, work_dir: str) -> None:
    """Read a checkpoint that the user named, and point to a better one where it is damaged."""
    if '://' in path:  # read when it has been downloaded
        return
    try:
        _check_has_state(path, load_checkpoint_file(path))
    except ValueError as error:
        whole, _ = _search(Path(work_dir))
        advice = f'the newest whole one in the work dir is {whole}' if whole else 'there is no other in the work dir'
        raise ValueError(f'{error}; {advice}') from error


def warn(message: str) -> None:
    """Say ``message`` on stderr, once for all processes; it needs no Runner and so no log."""
    if process_rank() == 0:
        print(f'warning: {message}', file=sys.stderr, flush=True)
