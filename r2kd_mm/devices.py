"""Ask a device what it can do."""

import torch


def computes_in_bf16(device: torch.device) -> bool:
    """Return whether ``device`` has instructions for bf16, so that bf16 is faster than float32; others emulate it.

    >>> computes_in_bf16(torch.device('meta'))
    False
    """
    if device.type == 'cuda':
        return torch.cuda.get_device_capability(device) >= (8, 0)
    # PyTorch 2.6 and later can tell; AMX, too, comes only with AVX512-BF16
    supported = getattr(torch.cpu, '_is_avx512_bf16_supported', None)
    return device.type == 'cpu' and supported is not None and supported()
