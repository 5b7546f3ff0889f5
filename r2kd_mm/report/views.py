"""Augment images, turn normalised images back into RGB pictures, and write predicted classes as text."""

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
    """Image with one or more lines of text.

    Args:
        pixels: RGB pixels, shape ``(H, W, 3)``, type uint8.
        text: Text below the image.
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
    """Augment ``images`` with the random draws of ``seed``.

    Args:
        augmentation: Augmentation of a distiller.
        images: Normalised images, shape ``(N, C, H, W)``.
        teacher_logits: Method ``teacher_logits`` of the distiller.
        data_preprocessor: Data preprocessor that normalised the images.
        seed: Seed of the draws.
    """
    return augmentation(images, _view_context(teacher_logits, data_preprocessor, seed))


class View:
    """The input of several networks: the images themselves, or a view that is made once for each batch.

    Args:
        augmentation: Augmentation that makes the view; ``None`` leaves the images as they are.
        teacher_logits: See :func:`augmented_view`.
        data_preprocessor: See :func:`augmented_view`; it is moved to ``device``.
        device: Device of the networks.
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
        """Return the view of ``images``, of the same shape, on the device of the networks."""
        if self._images is not images:
            self._images, self._view = images, images.to(self.device)
            if self.augmentation is not None:
                self._view = self.augmentation(self._view, self.context)
        return self._view

    def ask(self, network: nn.Module, images: Tensor, mode: str) -> Tensor:
        """Return the logits of ``network`` for the view, on the CPU."""
        return network(self(images), mode=mode).cpu()


def _view_context(teacher_logits: Callable[[Tensor], Tensor], data_preprocessor: nn.Module, seed: int) -> ViewContext:
    return ViewContext.behind(data_preprocessor, BatchDraws(torch.Generator().manual_seed(seed)), teacher_logits)


def to_pixels(images: Tensor, data_preprocessor: Any, bgr: bool) -> NDArray[np.uint8]:
    """Undo the normalisation.

    Args:
        images: Normalised images, shape ``(N, C, H, W)`` with ``C`` 1 or 3.
        data_preprocessor: Data preprocessor that normalised them.
        bgr: Whether their channels are BGR, see :func:`is_bgr`.

    Returns:
        Shape ``(N, H, W, 3)``, RGB.
    """
    if getattr(data_preprocessor, '_enable_normalize', False):
        images = images * data_preprocessor.std + data_preprocessor.mean
    images = images.flip(1) if bgr else images
    pixels = images.round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
    return np.repeat(pixels, 3, axis=3) if pixels.shape[3] == 1 else pixels


def is_bgr(config: Config, dataloader: str) -> bool:
    """Tell whether the normalised images of the data loader of a run are BGR."""
    return gives_bgr(config[dataloader], config.get('data_preprocessor') or config.model.get('data_preprocessor') or {})


def top_classes(logits: Tensor, classes: Sequence[str]) -> list[str]:
    """List the :data:`TOP` most probable classes of each row of ``logits`` with their probabilities, a line each."""
    values, indices = logits.softmax(dim=1).topk(min(TOP, logits.shape[1]), dim=1)
    return [
        '\n'.join(f'{classes[index]}: {100 * value:.0f} %' for value, index in zip(row, places))
        for row, places in zip(values.tolist(), indices.tolist())
    ]


def spread_out(labels: Tensor, count: int) -> list[int]:
    """Choose the positions of ``count`` images, of different classes first, in the order of the labels."""
    order = labels.argsort(stable=True)
    repeats = torch.empty_like(order)  # how many images of its class come before an image
    seen: dict[int, int] = {}
    for place in order.tolist():
        label = int(labels[place])
        repeats[place] = seen.get(label, 0)
        seen[label] = seen.get(label, 0) + 1
    return sorted(range(len(labels)), key=lambda place: (int(repeats[place]), int(labels[place])))[:count]
