"""Sample the images in pairs, for views that mix an image with a fixed partner."""

from __future__ import annotations

from collections.abc import Iterator, Sized

import torch
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from r2kd_mm.engine.seeding import derived_seed
from r2kd_mm.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class PairedSampler(Sampler):
    """Sampler of pairs in random order: the partner of an image does not depend on its batch.

    Positions 2 i and 2 i + 1 are partners. The pairs depend on the seed and the round, and their order on the seed and
    the epoch. Each process takes its share of the pairs, so every image of an even batch has its partner in the batch.
    An odd number of images leaves one out, another one in each round. The first pairs are repeated if the processes
    cannot share the pairs equally.

    Attributes:
        cycle: Number of rounds after which the pairs repeat; ``None`` for never.
        gives_each_once: An epoch repeats images only to give each process the same number of pairs.

    Args:
        dataset: Data set with at least 2 images.
        seed: Seed of pairs and order, equal on all ranks; ``None`` draws one.
        shuffle: Draw pairs and order; ``False`` keeps the order of the images and makes neighbours partners.

    Raises:
        ValueError: There are fewer than 2 images.

    Example:
        >>> order = list(PairedSampler(range(6), seed=0))
        >>> sorted(order), len(order)
        ([0, 1, 2, 3, 4, 5], 6)
    """

    gives_each_once = True

    def __init__(self, dataset: Sized, seed: int | None = None, shuffle: bool = True) -> None:
        if len(dataset) < 2:
            raise ValueError(f'images come in pairs here, so at least 2 are needed, got {len(dataset)}')
        self.dataset = dataset
        self.seed = sync_random_seed() if seed is None else seed
        self.shuffle = shuffle
        self.cycle: int | None = None
        self.epoch = 0
        self.rank, self.world_size = get_dist_info()

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, counted from 0, of the next pass."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        number = self.epoch if self.cycle is None else self.epoch % self.cycle
        images = self._permutation('pairing', number, len(self.dataset))
        pairs = images[: len(images) // 2 * 2].view(-1, 2)
        pairs = pairs[self._permutation('order', self.epoch, len(pairs))]
        own = torch.arange(self.rank, len(self) // 2 * self.world_size, self.world_size) % len(pairs)
        return iter(pairs[own].flatten().tolist())

    def __len__(self) -> int:
        """Return the number of images of this process in one pass, an even number."""
        num_pairs = len(self.dataset) // 2
        return -(-num_pairs // self.world_size) * 2

    def _permutation(self, purpose: str, number: int, count: int) -> torch.Tensor:
        if not self.shuffle:
            return torch.arange(count)
        return torch.randperm(count, generator=torch.Generator().manual_seed(derived_seed(purpose, self.seed, number)))
