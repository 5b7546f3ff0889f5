"""Apply AutoAugment to a batch of normalised images, using torchvision's operators."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms import AutoAugment as TorchvisionAutoAugment
from torchvision.transforms import AutoAugmentPolicy

from r2kd_mm.arguments import check_switches
from r2kd_mm.augmentations.base import BatchAugmentation, ViewContext
from r2kd_mm.registry import MODELS

POLICIES = tuple(policy.value for policy in AutoAugmentPolicy)


@MODELS.register_module()
@dataclass(frozen=True)
class AutoAugment(BatchAugmentation):
    """AutoAugment (Cubuk et al., CVPR 2019): de-normalise the batch to 8-bit pixels, augment, normalise again.

    Mean and standard deviation come from the context. Without them the images must be pixels from 0 to 255.

    Args:
        policy: ``'imagenet'``, ``'cifar10'`` (which R2KD uses for CIFAR-100) or ``'svhn'``.
        per_image: Draw a sub-policy for each image; ``False`` draws one for the whole batch, as the released code does.

    Example:
        >>> from r2kd_mm.augmentations import BatchDraws
        >>> context = ViewContext(BatchDraws(torch.Generator().manual_seed(0)), teacher_logits=None)
        >>> AutoAugment('cifar10')(torch.full((2, 3, 32, 32), 100.0), context).shape  # pixels of 0 to 255
        torch.Size([2, 3, 32, 32])
    """

    policy: str = 'imagenet'
    per_image: bool = True
    keeps_labels = True

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise ValueError(f'policy must be one of {POLICIES}, got {self.policy!r}')
        check_switches(per_image=self.per_image)

    def __call__(self, images: Tensor, context: ViewContext) -> Tensor:
        """Return the augmented images, rounded to 1/255 of the pixel range, shape and dtype as given.

        Raises:
            ValueError: The images are normalised, and ``context`` does not hold mean and deviation.
        """
        if context.mean is None:
            _check_pixels(images)
        mean = 0 if context.mean is None else context.mean.to(images.device)
        std = 1 if context.std is None else context.std.to(images.device)
        pixels = (images * std + mean).round().clamp(0, 255).to(torch.uint8)
        augment = TorchvisionAutoAugment(AutoAugmentPolicy(self.policy))
        batches = pixels if self.per_image else [pixels]
        augmented = []
        # torchvision draws from the global generator: seed it, and restore its state afterwards
        with torch.random.fork_rng(devices=[]):
            for images_of_seed, seed in zip(batches, context.draws.seeds(len(batches))):
                torch.default_generator.manual_seed(seed)
                augmented.append(augment(images_of_seed))
        pixels = torch.stack(augmented) if self.per_image else augmented[0]
        return ((pixels.to(images.dtype) - mean) / std).to(images.dtype)


def _check_pixels(images: Tensor) -> None:
    low, high = torch.stack(images.aminmax()).tolist()  # one transfer
    if low < 0 or 0 < high <= 1:
        raise ValueError(
            f'AutoAugment works on pixel values of 0 to 255, got {low:.3g} to {high:.3g}: the images are normalised or '
            'scaled, and the data preprocessor does not know how; take Normalize and the like out of the pipeline, '
            'and give mean and std to data_preprocessor'
        )
