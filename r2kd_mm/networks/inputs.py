"""Describe the images that a network expects: size, interpolation, channel order and normalisation.

Read these from an OpenMMLab config, or convert them from the conventions of packages such as timm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PIXEL = 255.0  # packages other than OpenMMLab's state means and deviations of pixels between 0 and 1
IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
# of the collections; what AdaptedInputs knows
INTERPOLATIONS = {'bicubic': 'bicubic', 'bilinear': 'bilinear', 'nearest': 'nearest', 'lanczos': 'bicubic'}


@dataclass(frozen=True)
class Inputs:
    """Image size, normalisation, channel order and interpolation that a network expects.

    Args:
        size: Height and width of the square images, in pixels.
        mean: Mean of each channel, for pixels from 0 to 255.
        std: Standard deviation of each channel, for pixels from 0 to 255.
        to_rgb: Whether the channel order is RGB; otherwise BGR.
        interpolation: ``'bicubic'``, ``'bilinear'`` or ``'nearest'``.
        fixed: Whether the network accepts no other size.

    Example:
        >>> Inputs.of_unit_pixels(224, mean=[0.5] * 3, std=[0.25] * 3, interpolation='bicubic').normalisation
        {'mean': [127.5, 127.5, 127.5], 'std': [63.75, 63.75, 63.75], 'to_rgb': True}
    """

    size: int
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    to_rgb: bool = True
    interpolation: str = 'bilinear'
    fixed: bool = False

    @classmethod
    def of_unit_pixels(
        cls, size: int, mean: Sequence[float], std: Sequence[float], interpolation: str, fixed: bool = False
    ) -> Inputs:
        """Convert what a package states for RGB pixels from 0 to 1."""
        scaled_mean, scaled_std = (tuple(round(PIXEL * float(value), 4) for value in part) for part in (mean, std))
        kind = INTERPOLATIONS.get(interpolation, 'bilinear')
        return cls(size, scaled_mean, scaled_std, interpolation=kind, fixed=fixed)

    @property
    def normalisation(self) -> dict[str, Any]:
        """As the fields of mmpretrain's ``ClsDataPreprocessor``."""
        return dict(mean=list(self.mean), std=list(self.std), to_rgb=self.to_rgb)

    @classmethod
    def of_config(cls, cfg: Mapping[str, Any]) -> Inputs | None:
        """Read what the config of an OpenMMLab run states; ``None`` where it states no size or no normalisation.

        Args:
            cfg: Config of the run, with its data loaders.
        """
        model = cfg.get('model') or {}
        normalise = model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
        loader = cfg.get('val_dataloader') or cfg.get('test_dataloader') or {}
        steps = (loader.get('dataset') or {}).get('pipeline') or ()
        sizes = [step.get('crop_size') or step.get('scale') for step in steps if 'crop_size' in step or 'scale' in step]
        size = sizes[-1] if sizes else None
        if not normalise.get('mean') or not size:
            return None
        found = [step['interpolation'] for step in steps if step.get('interpolation')]
        return cls(
            size if isinstance(size, int) else max(size),
            tuple(normalise['mean']),
            tuple(normalise['std']),
            bool(normalise.get('to_rgb', normalise.get('bgr_to_rgb', False))),
            INTERPOLATIONS.get(found[-1], 'bilinear') if found else 'bilinear',
        )
