"""Draw predictions on validation or test images, and save each image in a file of its own.

:mod:`r2kd_mm.compat` makes mmpretrain's ``VisualizationHook`` call these functions.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch.utils.data import DataLoader

from r2kd_mm.engine.wrapped_data import gives_bgr, innermost_datasets


def look_at(hook: Any, dataloader: DataLoader) -> None:
    """Tell ``hook`` the channel order and the root folder of the images in ``dataloader``, and reset its image counter.

    Args:
        hook: mmpretrain's ``VisualizationHook``.
        dataloader: Data loader of validation or testing.
    """
    hook._is_bgr = gives_bgr(dict(dataset=dataloader.dataset), {})
    members = innermost_datasets(dataloader.dataset)
    roots = {str(getattr(member, 'img_prefix', '') or getattr(member, 'data_root', '') or '') for member in members}
    hook._root = os.path.commonpath([os.path.abspath(_without_scheme(root)) for root in roots])
    hook._seen = 0  # images of this epoch, of this process


def draw_samples(hook: Any, images: Sequence, data_samples: Sequence, step: int) -> None:
    """Draw every ``interval``-th image of a batch, in its true colours, into its own file.

    The file lies below ``out_dir`` in the same folders as the image. Without ``out_dir`` its name states the folders.

    Args:
        hook: mmpretrain's hook, after :func:`look_at`.
        images: Inputs of the batch from the data set, each of shape ``(C, H, W)``.
        data_samples: Predictions.
        step: Number in the name of the file.
    """
    for image, data_sample in zip(images, data_samples):
        if hook._seen % hook.interval == 0:
            name = _name(hook, data_sample)
            out = {} if hook.out_dir is None else dict(out_file=os.path.join(hook.out_dir, f'{name}_{step}.png'))
            pixels = image.flip(0) if hook._is_bgr else image
            pixels = pixels.permute(1, 2, 0).cpu().numpy().astype('uint8')
            hook._visualizer.visualize_cls(
                image=np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels,
                data_sample=data_sample,
                step=step,
                name=name.replace('/', '__'),  # a backend may make no folders
                **{**hook.draw_args, **out},
            )
        hook._seen += 1


def _name(hook: Any, data_sample: Any) -> str:
    """Return the path of the image below the folder of the data, or its number if it has no path."""
    if 'img_path' not in data_sample:
        return str(hook._seen)
    path = os.path.abspath(_without_scheme(data_sample.img_path))
    inside = os.path.commonpath([path, hook._root]) == hook._root
    return os.path.relpath(path, hook._root) if inside else path.lstrip('/')


def _without_scheme(path: str) -> str:
    """Remove the scheme of a URL."""
    return re.sub(r'^\w+://', '', path)
