"""What a checkpoint holds, and which it is."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

# What DistributedDataParallel and the checkpoint of a distiller, ours or one of mmrazor's, put before a name.
PARALLEL_PREFIX = 'module.'
STUDENT_PREFIX = 'architecture.'


def select_weights(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights in a loaded checkpoint, without the prefixes of its wrappers; of a distillation, the student's.

    Args:
        checkpoint: That of a Runner, ``{'model': weights}``, or the weights by name.

    Raises:
        ValueError: There are no weights in it.
    """
    weights = next((checkpoint[key] for key in ('state_dict', 'model') if key in checkpoint), checkpoint)
    if not isinstance(weights, Mapping) or not weights or not all(isinstance(w, Tensor) for w in weights.values()):
        raise ValueError(
            "this checkpoint holds no weights: expected {'model': weights}, {'state_dict': weights} or the weights by "
            f'name, got a dict with the keys {sorted(map(str, checkpoint))[:5]}'
        )
    if all(key.startswith(PARALLEL_PREFIX) for key in weights):
        weights = {key.removeprefix(PARALLEL_PREFIX): weight for key, weight in weights.items()}
    student = {
        key.removeprefix(STUDENT_PREFIX): weight for key, weight in weights.items() if key.startswith(STUDENT_PREFIX)
    }
    return student or dict(weights)  # beside its student, a distiller has losses, and one of mmrazor its teacher


def digest_of_file(path: str) -> str:
    """SHA-256 of a local file; of the name, where it is a URL."""
    if not Path(path).is_file():
        return path
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()
