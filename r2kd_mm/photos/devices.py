"""Check that the GPUs or CPU cores given by ``--devices`` exist, and hide the GPUs from a run on the CPU."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch
from mmengine.device import get_device

from r2kd_mm.photos.options import CPU, GPU

HIDDEN = 'CUDA_VISIBLE_DEVICES'


def check_devices(devices: str | int | None) -> None:
    """Raise if this machine does not have the requested devices.

    Args:
        devices: Value of ``devices`` in :class:`~r2kd_mm.photos.options.Options`.

    Raises:
        ValueError: There is no GPU, or there are fewer GPUs (without a GPU: CPU cores) than requested.
    """
    if devices == GPU and get_device() == CPU:
        raise ValueError(f'--devices {GPU}: torch finds no GPU on this machine; give --devices {CPU}, or leave it out')
    if isinstance(devices, int):
        gpus = torch.cuda.device_count()
        here, kind = (gpus, 'GPUs') if gpus else (os.cpu_count() or 1, 'processor cores, and no GPU')
        if devices > here:
            raise ValueError(f'--devices {devices}: this machine has {here} {kind}; give at most {here}')


@contextlib.contextmanager
def kept_on(devices: str | int | None) -> Iterator[None]:
    """Hide the GPUs from the processes that are started meanwhile, where the CPU is asked for."""
    before = os.environ.get(HIDDEN)
    if devices == CPU:
        os.environ[HIDDEN] = ''
    try:
        yield
    finally:
        if devices == CPU:
            os.environ.pop(HIDDEN)
            if before is not None:
                os.environ[HIDDEN] = before
