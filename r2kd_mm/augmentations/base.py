"""Define the base class of the batch augmentations, and the inputs that they get besides the images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from r2kd_mm.augmentations.draws import Draws


@dataclass(frozen=True)
class ViewContext:
    """Inputs of a batch augmentation besides the images: random numbers, the teacher, and the normalisation.

    Attributes:
        draws: Source of all random parameters.
        teacher_logits: Function from images ``(N, C, H, W)`` to the teacher's logits ``(N, num_classes)``; no gradient.
        mean: Channel means used to normalise the images, shape ``(C, 1, 1)``, in pixel units 0 to 255; ``None`` for
            images that are not normalised.
        std: Channel standard deviations, same shape and units; ``None`` together with ``mean``.

    Example:
        >>> import torch
        >>> from r2kd_mm.augmentations import BatchDraws
        >>> context = ViewContext(BatchDraws(torch.Generator().manual_seed(0)), teacher_logits=nn.Flatten())
        >>> context.teacher_logits(torch.zeros(2, 3, 1, 1)).shape
        torch.Size([2, 3])
    """

    draws: Draws
    teacher_logits: Callable[[Tensor], Tensor]
    mean: Tensor | None = None
    std: Tensor | None = None

    @classmethod
    def behind(
        cls, data_preprocessor: nn.Module, draws: Draws, teacher_logits: Callable[[Tensor], Tensor]
    ) -> ViewContext:
        """Make the context of images from ``data_preprocessor``, with its mean and deviation."""
        if getattr(data_preprocessor, '_enable_normalize', False):
            mean, std = data_preprocessor.get_buffer('mean'), data_preprocessor.get_buffer('std')
            return cls(draws, teacher_logits, mean, std)
        return cls(draws, teacher_logits)


class BatchAugmentation(ABC):
    """Augmentation that maps a batch of normalised images to its augmented view, never in place.

    Attributes:
        keeps_labels: True if the label of an image still holds for its view.
        mixes_images: True if a view combines its image and the partner of this image (:meth:`Draws.partners`).
        depends_on_batch: True if the view of an image depends on more of its batch than the partner.

    Example:
        >>> import torch
        >>> class Negative(BatchAugmentation):
        ...     keeps_labels = True
        ...     def __call__(self, images, context):
        ...         return -images
        >>> Negative()(torch.ones(1, 1, 1, 2), context=None)
        tensor([[[[-1., -1.]]]])
    """

    keeps_labels: bool
    mixes_images: bool = False
    depends_on_batch: bool = False

    @abstractmethod
    def __call__(self, images: Tensor, context: ViewContext) -> Tensor:
        """Return the augmented view of ``images``, shape ``(N, C, H, W)`` and dtype as given."""
