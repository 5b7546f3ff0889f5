"""Save images with their predictions."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.runner import Runner
from mmpretrain.engine import VisualizationHook as UpstreamVisualizationHook
from mmpretrain.structures import DataSample
from torch.utils.data import DataLoader

from r2kd_mm.engine.wrapped_data import gives_bgr, innermost_datasets
from r2kd_mm.registry import HOOKS


@HOOKS.register_module()
class VisualizationHook(UpstreamVisualizationHook):
    """mmpretrain's hook of this name, with its arguments, that keeps colours and files apart.

    mmpretrain's exchanges red and blue of images that were read from files, gives files of one name in two folders one
    picture, and counts the images of a last batch that is smaller from the start again. Here a picture lies in the
    folders of its image, below ``out_dir``; without one, the folders are part of its name.
    """

    def before_val_epoch(self, runner: Runner) -> None:
        """Look at the validation data."""
        if self.enable:
            self._look_at(runner.val_dataloader)

    def before_test_epoch(self, runner: Runner) -> None:
        """Look at the test data."""
        if self.enable:
            self._look_at(runner.test_dataloader)

    def _look_at(self, dataloader: DataLoader) -> None:
        self._is_bgr = gives_bgr(dict(dataset=dataloader.dataset), {})
        members = innermost_datasets(dataloader.dataset)
        roots = {str(getattr(member, 'img_prefix', '') or getattr(member, 'data_root', '') or '') for member in members}
        self._root = os.path.commonpath([os.path.abspath(_without_scheme(root)) for root in roots])
        self._seen = 0  # images of this epoch, of this process

    def _draw_samples(
        self, batch_idx: int, data_batch: dict, data_samples: Sequence[DataSample], step: int = 0
    ) -> None:
        """Save every ``interval``-th image."""
        if not self.enable:
            return
        for image, data_sample in zip(data_batch['inputs'], data_samples):
            if self._seen % self.interval == 0:
                name = self._name(data_sample)
                out = {} if self.out_dir is None else dict(out_file=os.path.join(self.out_dir, f'{name}_{step}.png'))
                pixels = image.flip(0) if self._is_bgr else image
                pixels = pixels.permute(1, 2, 0).cpu().numpy().astype('uint8')
                self._visualizer.visualize_cls(
                    image=np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels,
                    data_sample=data_sample,
                    step=step,
                    name=name.replace('/', '__'),  # a backend may make no folders
                    **{**self.draw_args, **out},
                )
            self._seen += 1

    def _name(self, data_sample: Any) -> str:
        """The path of the image from the folder of the data on, or its place where it has none."""
        if 'img_path' not in data_sample:
            return str(self._seen)
        path = os.path.abspath(_without_scheme(data_sample.img_path))
        inside = os.path.commonpath([path, self._root]) == self._root
        return os.path.relpath(path, self._root) if inside else path.lstrip('/')


def _without_scheme(path: str) -> str:
    """A path or URL as a path."""
    return re.sub(r'^\w+://', '', path)
