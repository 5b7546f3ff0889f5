"""Extend MMEngine's Runner (train loop, samplers, wrappers, file backend), and report the errors of tools clearly."""

from typing import TYPE_CHECKING

from r2kd_mm.lazy import import_on_demand

if TYPE_CHECKING:
    from r2kd_mm.engine.cli import ErrorGuard, RunStopped, clear_errors, init_launcher
    from r2kd_mm.engine.distributed import PortableDistributedDataParallel, unwrapped_model
    from r2kd_mm.engine.fileio import AtomicLocalBackend
    from r2kd_mm.engine.optim import AutocastOptimWrapper
    from r2kd_mm.engine.pairing import PairedSampler
    from r2kd_mm.engine.resume import find_checkpoint, set_resume
    from r2kd_mm.engine.seeding import SampleIndex, SeededDataset, SeededSampler
    from r2kd_mm.engine.train_loop import ResumableTrainLoop
    from r2kd_mm.engine.unlabelled import UnlabelledShareSampler

__all__ = [
    'AtomicLocalBackend',
    'AutocastOptimWrapper',
    'ErrorGuard',
    'PairedSampler',
    'PortableDistributedDataParallel',
    'ResumableTrainLoop',
    'RunStopped',
    'SampleIndex',
    'SeededDataset',
    'SeededSampler',
    'UnlabelledShareSampler',
    'clear_errors',
    'find_checkpoint',
    'init_launcher',
    'set_resume',
    'unwrapped_model',
]

__getattr__ = import_on_demand(__name__)
