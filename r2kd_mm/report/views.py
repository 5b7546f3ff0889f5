"""What a network sees: images as they were before they were normalised, and what a teacher makes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from numpy.typing import NDArray
from torch import Tensor, nn

from r2kd_mm.augmentations import BatchAugmentation, BatchDraws, ViewContext
from r2kd_mm.engine.wrapped_data import gives_bgr

TOP = 3


@dataclass(frozen=True)
class Picture:
    """An image with a line or more of text.

    Args:
        pixels: Shape ``(H, W, 3)``, RGB, type uint8.
        text: What is written below it.
    """

    pixels: NDArray[np.uint8]
    text: str


def augmented_view(
    augmentation: Callable[[Tensor, ViewContext], Tensor],
    images: Tensor,
    teacher_logits: Callable[[Tensor], Tensor],
    data_preprocessor: nn.Module,
    seed: int = 0,
) -> Tensor:
    """The view of ``images`` that ``augmentation`` makes of them with the draws of ``seed``.

    Args:
        augmentation: Of a distiller.
        images: Normalised, shape ``(N, C, H, W)``.
        teacher_logits: Of the distiller.
        data_preprocessor: That normalised them.
        seed: Of the draws.
    """
    return augmentation(images, _view_context(teacher_logits, data_preprocessor, seed))


class View:
    """What several networks are shown: the images as they are, or a view that is made once for each batch.

    Args:
        augmentation: Makes the view; ``None`` leaves the images as they are.
        teacher_logits: As for :func:`augmented_view`.
        data_preprocessor: Likewise; it is moved to ``device``.
        device: Of the networks.
    """

    def __init__(
        self,
        augmentation: BatchAugmentation | None,
        teacher_logits: Callable[[Tensor], Tensor],
        data_preprocessor: nn.Module,
        device: str = 'cpu',
    ) -> None:
        self.augmentation = augmentation
        self.device = device
        self.context = _view_context(teacher_logits, data_preprocessor.to(device), seed=0)
        self._images: Tensor | None = None  # the last that were shown

    def __call__(self, images: Tensor) -> Tensor:
        """The view of ``images``, of the same shape, on the device of the networks."""
        if self._images is not images:
            self._images, self._view = images, images.to(self.device)
            if self.augmentation is not None:
                self._view = self.augmentation(self._view, self.context)
        return self._view

    def ask(self, network: nn.Module, images: Tensor, mode: str) -> Tensor:
        """Logits of ``network`` on the view, on the CPU."""
        return network(self(images), mode=mode).cpu()


def _view_context(teacher_logits: Callable[[Tensor], Tensor], data_preprocessor: nn.Module, seed: int) -> ViewContext:
    return ViewContext.behind(data_preprocessor, BatchDraws(torch.Generator().manual_seed(seed)), teacher_logits)


def to_pixels(images: Tensor, data_preprocessor: Any, bgr: bool) -> NDArray[np.uint8]:
    """Undo the normalisation.

    Args:
        images: Normalised, shape ``(N, C, H, W)`` with ``C`` 1 or 3.
        data_preprocessor: That normalised them.
        bgr: Whether their channels are in that order, see :func:`is_bgr`.

    Returns:
        Shape ``(N, H, W, 3)``, RGB.
    """
    if getattr(data_preprocessor, '_enable_normalize', False):
        images = images * data_preprocessor.std + data_preprocessor.mean
    images = images.flip(1) if bgr else images
    pixels = images.round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
    return np.repeat(pixels, 3, axis=3) if pixels.shape[3] == 1 else pixels


def is_bgr(config: Config, dataloader: str) -> bool:
    """Whether the normalised images of a run's data loader are BGR."""
    return gives_bgr(config[dataloader], config.get('data_preprocessor') or config.model.get('data_preprocessor') or {})


def top_classes(logits: Tensor, classes: Sequence[str]) -> list[str]:
    """For each row of ``logits``, the :data:`TOP` most probable classes with their probabilities, a line each."""
    values, indices = logits.softmax(dim=1).topk(min(TOP, logits.shape[1]), dim=1)
    return [
        '\n'.join(f'{classes[index]}: {100 * value:.0f} %' for value, index in zip(row, places))
        for row, places in zip(values.tolist(), indices.tolist())
    ]


def spread_out(labels: Tensor, count: int) -> list[int]:
    """Positions of ``count`` images, of different classes first, in the order of the labels."""
    order = labels.argsort(stable=True)
    repeats = torch.empty_like(order)  # how many images of its class come before an image
    seen: dict[int, int] = {}
    for place in order.tolist():
        label = int(labels[place])
        repeats[place] = seen.get(label, 0)
        seen[label] = seen.get(label, 0) + 1
    return sorted(range(len(labels)), key=lambda place: (int(repeats[place]), int(labels[place])))[:count]
