"""Read weights from safetensors files, which ``torch.load`` cannot read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

SAFETENSORS = '.safetensors'


def read_safetensors(path: Path, map_location: Any = 'cpu') -> dict[str, Tensor]:
    """Read the tensors of a safetensors file; the format cannot hold code.

    Args:
        path: Path of the file.
        map_location: Device to load the tensors to; ``None`` for the CPU.

    Raises:
        ImportError: The package safetensors is not installed.
        ValueError: The file is damaged.
    """
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise ImportError(
            f'{str(path)!r} needs the package safetensors: pip install safetensors, or save the weights by torch.save'
        ) from error
    try:
        return load_file(path, device=str(map_location or 'cpu'))
    except SafetensorError as error:
        raise ValueError(f'checkpoint {str(path)!r} is damaged ({error}); copy or download it again') from error
