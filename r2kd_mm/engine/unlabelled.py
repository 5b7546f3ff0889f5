"""Sample batches that mix labelled and unlabelled images in a fixed ratio."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from r2kd_mm.engine.seeding import derived_seed
from r2kd_mm.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class UnlabelledShareSampler(Sampler):
    """Sampler that fills a fixed share of each batch with images without labels.

    An epoch is one pass over the labelled images. Every batch has the same number of labelled and the same number of
    unlabelled images; the last batch of an epoch may be smaller. Passes over the unlabelled images do not end with the
    epoch: the next epoch continues where the last one ended. Both kinds are divided among the processes. The order
    depends only on seed and epoch, so a resumed run repeats it.

    Args:
        dataset: A :class:`~r2kd_mm.datasets.WithUnlabelled`.
        batch_size: Batch size of the data loader.
        share: Share of images without labels in a batch, in ``(0, 1)``.
        seed: Random seed of the order, the same on all ranks; ``None`` draws a seed that all ranks share.
        shuffle: Draw a new order in each epoch.

    Raises:
        TypeError: The data set does not say which of its images have labels.
        ValueError: With this share, a batch has no labelled or no unlabelled image.

    Example:
        >>> from r2kd_mm.datasets import ImageFolder, WithUnlabelled
        >>> parts = [ImageFolder('data/imagenet', split) for split in ('train', 'val')]
        >>> dataset = WithUnlabelled(parts[0], unlabelled=[parts[1]])
        >>> sampler = UnlabelledShareSampler(dataset, batch_size=4, share=0.5, shuffle=False)
        >>> list(sampler)[:8]  # two batches; the images from 12 have no labels
        [0, 1, 12, 13, 2, 3, 14, 15]
    """

    def __init__(
        self, dataset: Any, batch_size: int, share: float = 0.5, seed: int | None = None, shuffle: bool = True
    ) -> None:
        if not isinstance(getattr(dataset, 'num_labelled', None), int):
            raise TypeError(
                'UnlabelledShareSampler must know which images have labels, which the data set does not say; put '
                'WithUnlabelled around it'
            )
        self.num_unlabelled = round(share * batch_size)  # in a batch
        if not 0 < self.num_unlabelled < batch_size:
            raise ValueError(
                f'share={share} of a batch of {batch_size} is {self.num_unlabelled} images without labels; a batch '
                'needs at least one of each kind'
            )
        self.dataset = dataset
        self.batch_size = batch_size
        self.seed = sync_random_seed() if seed is None else seed
        self.shuffle = shuffle
        self.epoch = 0
        self.rank, self.world_size = get_dist_info()

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, counted from 0, of the next pass."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        labelled, unlabelled = self._counts()
        own = torch.arange(self.rank, labelled * self.world_size, self.world_size) % self.dataset.num_labelled
        first = self._order('labelled', self.epoch, self.dataset.num_labelled)[own].tolist()
        second = self._unlabelled(unlabelled)
        step = self.batch_size - self.num_unlabelled
        for start in range(0, labelled, step):
            yield from first[start : start + step]
            place = start // step * self.num_unlabelled
            yield from second[place : place + self.num_unlabelled]

    def __len__(self) -> int:
        """Return the number of images of this process in one pass, of both kinds."""
        return sum(self._counts())

    def _counts(self) -> tuple[int, int]:
        """Images with and without labels of this process in an epoch."""
        labelled = -(-self.dataset.num_labelled // self.world_size)
        full, rest = divmod(labelled, self.batch_size - self.num_unlabelled)
        of_rest = round(self.num_unlabelled * rest / (self.batch_size - self.num_unlabelled))
        return labelled, full * self.num_unlabelled + of_rest

    def _unlabelled(self, count: int) -> list[int]:
        """The next ``count`` images of this process, from where the epoch before ended."""
        available = len(self.dataset) - self.dataset.num_labelled
        places = torch.arange(count) * self.world_size + self.rank + self.epoch * count * self.world_size
        passes = places // available
        orders = {number: self._order('unlabelled', number, available) for number in passes.unique().tolist()}
        return [
            self.dataset.num_labelled + int(orders[number][place])
            for number, place in zip(passes.tolist(), (places % available).tolist())
        ]

    def _order(self, purpose: str, number: int, count: int) -> torch.Tensor:
        if not self.shuffle:
            return torch.arange(count)
        return torch.randperm(count, generator=torch.Generator().manual_seed(derived_seed(purpose, self.seed, number)))
