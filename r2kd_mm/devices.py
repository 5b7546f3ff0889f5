"""Report whether a device computes in bf16, and copy tensors between CPU and device without waiting for the device."""

from __future__ import annotations

from typing import Any

import torch

HOST_LIKE = ('cpu', 'mps', 'meta')  # their memory is the host's, or they have none


def computes_in_bf16(device: torch.device) -> bool:
    """Return whether ``device`` has bf16 instructions; other devices emulate bf16, without a speed-up over float32.

    >>> computes_in_bf16(torch.device('meta'))
    False
    """
    if device.type == 'cuda':
        return torch.cuda.get_device_capability(device) >= (8, 0)
    # PyTorch 2.6 and later can tell; AMX, too, comes only with AVX512-BF16
    supported = getattr(torch.cpu, '_is_avx512_bf16_supported', None)
    return device.type == 'cpu' and supported is not None and supported()


def moved(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Move a tensor of the host to ``device`` without waiting for the device: through pinned memory.

    >>> moved(torch.ones(2), torch.device('cpu'))
    tensor([1., 1.])
    """
    if tensor.device.type != 'cpu' or device.type in HOST_LIKE:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


class Arriving:
    """A copy of a tensor on the host that arrives while nobody waits for it.

    Args:
        tensor: On any device.

    Example:
        >>> flag = Arriving(torch.tensor(True))
        >>> flag.is_there, bool(flag.read())
        (True, True)
    """

    def __init__(self, tensor: torch.Tensor) -> None:
        is_here = tensor.device.type in HOST_LIKE
        self._copy = tensor.cpu() if is_here else tensor.to('cpu', non_blocking=True)  # into pinned memory
        self._event: Any = None
        if not is_here:
            self._event = getattr(torch, tensor.device.type).Event()
            self._event.record()

    @property
    def is_there(self) -> bool:
        """Return whether the copy can be read without waiting."""
        return self._event is None or self._event.query()

    def read(self) -> torch.Tensor:
        """Return the copy; wait for it if it is not there."""
        if not self.is_there:
            self._event.synchronize()
        return self._copy
