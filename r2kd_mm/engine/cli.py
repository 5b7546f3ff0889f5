"""Set up a command-line tool: initialise distributed training, and print user errors without a traceback.

torch and OpenMMLab are imported inside the functions that need them, because some tools need neither.
"""

from __future__ import annotations

import atexit
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmengine.config import Config
    from mmengine.runner import Runner

TRACEBACK_VARIABLE = 'R2KD_TRACEBACK'
# Time for the launcher to end this process if rank 0 has failed with the same error.
SECONDS_FOR_RANK_0 = 10.0


def init_launcher(cfg: Config, launcher: str) -> None:
    """Set up the run of ``cfg`` under ``launcher``, with or without a GPU; call this before ``Runner.from_cfg(cfg)``.

    Without CUDA, this function initialises the gloo backend, because the Runner cannot. If the config names no model
    wrapper, the wrapper becomes :class:`~r2kd_mm.engine.PortableDistributedDataParallel`.

    Args:
        cfg: Config, changed in place: ``launcher`` and ``model_wrapper_cfg``.
        launcher: ``'none'``, ``'pytorch'``, ``'slurm'`` or ``'mpi'``.

    Raises:
        ValueError: The launcher is unknown, or its environment variables are missing.

    Example:
        >>> from mmengine.config import Config
        >>> cfg = Config()
        >>> init_launcher(cfg, 'none')  # this process alone
        >>> cfg.launcher
        'none'
    """
    if launcher == 'mpi' and 'OMPI_COMM_WORLD_LOCAL_RANK' in os.environ:
        os.environ['LOCAL_RANK'] = os.environ['OMPI_COMM_WORLD_LOCAL_RANK']  # MMEngine sets the others alone
    from r2kd_mm.distributed import init_cpu_process_group

    init_cpu_process_group(launcher)
    cfg.launcher = launcher
    if launcher != 'none' and cfg.get('model_wrapper_cfg') is None:
        cfg.model_wrapper_cfg = dict(
            type='r2kd_mm.PortableDistributedDataParallel',
            find_unused_parameters=cfg.get('find_unused_parameters', False),
        )


class RunStopped(RuntimeError):
    """A healthy run stopped by its environment; :func:`clear_errors` prints the message without a traceback.

    Example:
        >>> raise RunStopped('the disk is full')
        Traceback (most recent call last):
        ...
        r2kd_mm.engine.cli.RunStopped: the disk is full
    """


class ErrorGuard:
    """Record of the progress of a training, by which :func:`clear_errors` recognises the user's mistakes.

    Example:
        >>> with clear_errors() as guard:
        ...     print(guard.training_began, guard.last_checkpoint())
        False None
    """

    def __init__(self) -> None:
        self.runner: Runner | None = None
        self.training_began = False
        self._earlier: tuple[str, int] | None = None  # the last checkpoint of an earlier run in the work dir

    def watch(self, runner: Runner) -> None:
        """Follow ``runner``; tracebacks are kept once its first training iteration has ended."""
        from mmengine.hooks import Hook

        guard = self

        class FirstIterationHook(Hook):
            def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None) -> None:
                guard.training_began = True

        self.runner = runner
        self._earlier = _read_pointer(runner)
        runner.register_hook(FirstIterationHook(), priority='VERY_HIGH')

    def last_checkpoint(self) -> str | None:
        """Return the newest checkpoint of this run, or else the checkpoint that it resumes from."""
        if self.runner is None:
            return None
        newest = _read_pointer(self.runner)
        if newest is not None and newest != self._earlier:
            return newest[0]
        return self.runner._load_from if self.runner._resume else None


@contextmanager
def clear_errors() -> Iterator[ErrorGuard]:
    """End the program with one readable message if the error is probably the user's mistake.

    - An exception before the end of the first training iteration: ``error: <message>`` on stderr, exit status 1.
      The environment variable ``R2KD_TRACEBACK=1`` shows the traceback.
    - A later exception keeps its traceback, with two exceptions: a :class:`RunStopped`, and the death of a data worker,
      which PyTorch raises at any place of the program.
    - Ctrl-C at any time: where training stopped and how to resume it, exit status 1.

    In a distributed run only rank 0 prints; another rank prints only if rank 0 has not failed too.

    Yields:
        The guard; give it the Runner by :meth:`ErrorGuard.watch` before training.

    Example:
        >>> with clear_errors():  # prints "error: there is no teacher.pth"
        ...     raise FileNotFoundError('there is no teacher.pth')
        Traceback (most recent call last):
        ...
        SystemExit: 1
    """
    guard = ErrorGuard()
    try:
        yield guard
        _end_one_of_several(0)
    except SystemExit as leaving:
        _end_one_of_several(leaving.code)
        raise
    except KeyboardInterrupt:
        from r2kd_mm.distributed import process_rank

        if process_rank() == 0:
            print(f'\ninterrupted {_describe_progress(guard)}', file=sys.stderr)
        sys.exit(1)
    except Exception as error:
        error = _explain_dead_worker(error, guard)
        if (guard.training_began and not isinstance(error, RunStopped)) or os.environ.get(TRACEBACK_VARIABLE) == '1':
            raise
        from r2kd_mm.distributed import process_rank

        rank = process_rank()
        if rank > 0:
            time.sleep(SECONDS_FOR_RANK_0)
        speaker = f' (rank {rank})' if rank > 0 else ''
        print(
            f'error{speaker}: {readable_message(error)}\n(the traceback is shown with {TRACEBACK_VARIABLE}=1)',
            file=sys.stderr,
            flush=True,
        )
        sys.exit(1)


def readable_message(error: Exception) -> str:
    """Return the message of ``error`` without its type, the quotes of ``KeyError`` and other stacks."""
    # str() of a KeyError is the repr of its message
    message = str(error.args[0] if isinstance(error, KeyError) and len(error.args) == 1 else error)
    if 'Original Traceback (most recent call last):' in message:  # raised in a worker of a DataLoader
        message = re.split(r'\n {2,}.*\n(?! )', message)[-1]  # what follows the last indented line of the stack
        message = re.sub(r'^[\w.]+: ', '', message)
    message = message.split('\nException raised from ')[0]  # a C++ stack
    return message.strip() or type(error).__name__


def _end_one_of_several(status: str | int | None) -> None:
    """End a process of a distributed run as Python does, but without the teardown of the interpreter.

    Threads of the process group survive ``destroy_process_group`` while a model refers to it. If a thread releases a
    Python object during the teardown, it aborts the program ("terminate called without an active exception"). All work
    is done then, but the launcher reports a failure. Seen with gloo on a busy machine.
    """
    torch = sys.modules.get('torch')  # a tool may end without it
    if torch is None or not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return
    if torch.distributed.get_world_size() == 1:
        return
    torch.distributed.destroy_process_group()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else int(status is not None))


def _explain_dead_worker(error: Exception, guard: ErrorGuard) -> Exception:
    """Turn PyTorch's message that a data worker died into a :class:`RunStopped`; return other errors as they are."""
    words = (str(said).strip() for said in (error.__cause__, error))  # the cause names the signal
    death = next((said for said in words if said.startswith('DataLoader worker (pid')), None)
    if death is None:
        return error
    return RunStopped(
        f'a data worker died: {death.rstrip(".")}. When a machine runs out of memory it kills a process: take fewer '
        f'workers (train_dataloader.num_workers), or a smaller batch. It happened {_describe_progress(guard)}'
    )


def _read_pointer(runner: Runner) -> tuple[str, int] | None:
    """Return the newest checkpoint that the work dir notes, and the time of the note."""
    from r2kd_mm.engine.resume import POINTER

    pointer = Path(runner.work_dir) / POINTER
    if not pointer.is_file():
        return None
    return pointer.read_text(errors='replace').strip(), pointer.stat().st_mtime_ns


def _describe_progress(guard: ErrorGuard) -> str:
    """Describe the progress of the training, and how to resume it."""
    runner, checkpoint = guard.runner, guard.last_checkpoint()
    if runner is None:
        return 'before training; nothing was trained'
    if checkpoint is not None:
        advice = f'the last checkpoint is {checkpoint}; the same command with --resume continues from there'
    else:
        advice = 'no checkpoint was written yet, so the same command starts again'
    return f'after {runner.iter} training iterations, in epoch {runner.epoch + 1}; {advice}'
