"""Base class of the batch augmentations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from r2kd_mm.augmentations.draws import Draws


@dataclass(frozen=True)
class ViewContext:
    """Everything that an augmentation may use in addition to the images.

    Attributes:
        draws: Where all parameters are drawn from.
        teacher_logits: Maps images ``(N, C, H, W)`` to the teacher's logits ``(N, num_classes)``, without gradient.
        mean: Channel means that the images were normalised by, shape ``(C, 1, 1)`` in pixel units 0 to 255; ``None``
            where the images were not normalised.
        std: Channel standard deviations, same shape and units; ``None`` where ``mean`` is.
    """

    draws: Draws
    teacher_logits: Callable[[Tensor], Tensor]
    mean: Tensor | None = None
    std: Tensor | None = None

    @classmethod
    def behind(
        cls, data_preprocessor: nn.Module, draws: Draws, teacher_logits: Callable[[Tensor], Tensor]
    ) -> ViewContext:
        """For images that come out of ``data_preprocessor``, which knows how it normalised them."""
        if getattr(data_preprocessor, '_enable_normalize', False):
            mean, std = data_preprocessor.get_buffer('mean'), data_preprocessor.get_buffer('std')
            return cls(draws, teacher_logits, mean, std)
        return cls(draws, teacher_logits)


class BatchAugmentation(ABC):
    """Maps a batch of normalised images to its augmented view, never in place.

    Attributes:
        keeps_labels: Whether the label of an image still holds for its view.
        mixes_images: Whether a view is made of its image and of that image's partner (:meth:`Draws.partners`).
        depends_on_batch: Whether the view of an image depends on more of its batch than on its partner.
    """

    keeps_labels: bool
    mixes_images: bool = False
    depends_on_batch: bool = False

    @abstractmethod
    def __call__(self, images: Tensor, context: ViewContext) -> Tensor:
        """Return the augmented view of ``images``, shape ``(N, C, H, W)`` and dtype as given."""
