"""Sample images in pairs, for augmentations such as Mixup that mix each image with its partner."""

from __future__ import annotations

from collections.abc import Iterator, Sized

import torch
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from r2kd_mm.engine.seeding import derived_seed
from r2kd_mm.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class PairedSampler(Sampler):
    """Sampler that yields random pairs of images; the pairs do not depend on the batch size.

    The images at positions 2 i and 2 i + 1 of an epoch are partners. The pairs depend on the seed and on the epoch
    modulo ``cycle``, their order on seed and epoch. The pairs are divided among the processes. With an even batch size,
    both partners are in the same batch. An odd number of images leaves out one image per epoch, at random. If the pairs
    cannot be divided equally, the first pairs are repeated.

    Attributes:
        cycle: Number of epochs after which the pairs repeat; ``None`` for never.
        gives_each_once: Always True: an epoch repeats images only to give each process the same number of pairs.

    Args:
        dataset: Data set with at least 2 images.
        seed: Random seed of pairs and order, the same on all ranks; ``None`` draws a seed that all ranks share.
        shuffle: Draw pairs and order at random; ``False`` keeps the order of the images and pairs neighbours.

    Raises:
        ValueError: The data set has fewer than 2 images.

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
