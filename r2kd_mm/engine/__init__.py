"""What plugs into MMEngine's Runner: model wrapper, optimizer wrapper, file backend, and the errors of the tools."""

from r2kd_mm.engine.cli import ErrorGuard, clear_errors, init_launcher
from r2kd_mm.engine.distributed import PortableDistributedDataParallel
from r2kd_mm.engine.fileio import AtomicLocalBackend
from r2kd_mm.engine.optim import AutocastOptimWrapper

__all__ = [
    'AtomicLocalBackend',
    'AutocastOptimWrapper',
    'ErrorGuard',
    'PortableDistributedDataParallel',
    'clear_errors',
    'init_launcher',
]
