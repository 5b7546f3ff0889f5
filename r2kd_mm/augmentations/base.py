"""What every batch augmentation shares."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class ViewContext:
    """What an augmentation may use beside the images.

    Attributes:
        generator: CPU generator that all parameters are drawn from, so that a seed decides them on any device.
        teacher_logits: Maps images ``(N, C, H, W)`` to the teacher's logits ``(N, num_classes)``, without gradient.
        mean: Channel means that the images were normalised by, shape ``(C, 1, 1)`` in pixel units 0 to 255; ``None``
            where the images were not normalised.
        std: Channel standard deviations, likewise.
    """

    generator: torch.Generator
    teacher_logits: Callable[[Tensor], Tensor]
    mean: Tensor | None = None
    std: Tensor | None = None


class BatchAugmentation(ABC):
    """Maps a batch of normalised images to its augmented view, never in place.

    Attributes:
        keeps_labels: Whether the label of an image still holds for its view.
    """

    keeps_labels: bool

    @abstractmethod
    def __call__(self, images: Tensor, context: ViewContext) -> Tensor:
        """Return the augmented view of ``images``, shape ``(N, C, H, W)`` and dtype as given."""


def numpy_generator(generator: torch.Generator) -> np.random.Generator:
    """NumPy generator seeded by the next draw of ``generator``: torch draws no Beta variates from one."""
    return np.random.default_rng(int(torch.randint(2**63 - 1, (), generator=generator)))
