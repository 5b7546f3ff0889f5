"""Run a function in several processes that form one gloo process group."""

from __future__ import annotations

import importlib.util
import inspect
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import toolbox
import torch

TIMEOUT = 600  # seconds, after which the processes hang


def run_on_ranks(world_size: int, function: Callable[..., Any], *args: Any) -> list[Any]:
    """Return the result of ``function(*args)`` on each rank; a module-level function that returns plain values."""
    context = toolbox.forkserver()
    place = inspect.getsourcefile(function), function.__name__  # pytest's names of test modules cannot be imported
    with tempfile.TemporaryDirectory() as folder:
        processes = [
            context.Process(target=_run_as_rank, args=(rank, world_size, folder, *place, args))
            for rank in range(world_size)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(TIMEOUT)
        for process in processes:
            if process.is_alive():
                process.kill()
        assert [process.exitcode for process in processes] == [0] * world_size
        return [torch.load(Path(folder, f'{rank}.pt')) for rank in range(world_size)]


def _run_as_rank(rank: int, world_size: int, folder: str, source: str, name: str, args: tuple) -> None:
    spec = importlib.util.spec_from_file_location('ranked', source)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    os.environ['LOCAL_RANK'] = str(rank)
    torch.set_num_threads(1)
    torch.distributed.init_process_group('gloo', init_method=f'file://{folder}/meet', rank=rank, world_size=world_size)
    result = getattr(module, name)(*args)
    torch.save(result, Path(folder, f'{rank}.pt'))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
