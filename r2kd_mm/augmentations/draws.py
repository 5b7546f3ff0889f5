"""Draw the random numbers of the batch augmentations, from one generator for the batch or one for each image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

SEED_LIMIT = 2**63 - 1


class Draws(ABC):
    """Source of random numbers for a batch, on the CPU, so that a seed gives the same numbers on any device.

    ``count`` is the number of images, for one value per image. :class:`BatchDraws` also takes 1, for one value that
    all images share.

    Example:
        >>> import torch
        >>> def turn(images, draws):  # each image by 0, 90, 180 or 270 degrees
        ...     turns = draws.integers(high=4, count=len(images)).tolist()
        ...     return torch.stack([image.rot90(number, dims=(1, 2)) for image, number in zip(images, turns)])
        >>> turn(torch.zeros(2, 3, 8, 8), BatchDraws(torch.Generator())).shape
        torch.Size([2, 3, 8, 8])
    """

    @abstractmethod
    def partners(self, count: int) -> Tensor:
        """Draw a partner for each image: indices into the batch, shape ``(count,)``."""

    @abstractmethod
    def beta(self, alpha: float, count: int) -> Tensor:
        """Draw values in ``[0, 1]`` from Beta(alpha, alpha), shape ``(count,)``."""

    @abstractmethod
    def integers(self, high: int, count: int) -> Tensor:
        """Draw integers from 0 to ``high - 1``, shape ``(count,)``."""

    @abstractmethod
    def seeds(self, count: int) -> list[int]:
        """Draw seeds for the generators of another library."""


class BatchDraws(Draws):
    """Draws that all come from one generator; any image may be the partner of any other.

    Args:
        generator: Generator on the CPU.

    Example:
        >>> import torch
        >>> draws = BatchDraws(torch.Generator().manual_seed(0))
        >>> draws.integers(high=1, count=3)
        tensor([0, 0, 0])
    """

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def partners(self, count: int) -> Tensor:
        """Return a permutation of the batch."""
        return torch.randperm(count, generator=self.generator)

    def beta(self, alpha: float, count: int) -> Tensor:
        """See :meth:`Draws.beta`."""
        generator = np.random.default_rng(self.seeds(1)[0])  # torch draws no Beta variates from a generator
        return torch.from_numpy(generator.beta(alpha, alpha, size=count))

    def integers(self, high: int, count: int) -> Tensor:
        """See :meth:`Draws.integers`."""
        return torch.randint(high, (count,), generator=self.generator)

    def seeds(self, count: int) -> list[int]:
        """See :meth:`Draws.seeds`."""
        return torch.randint(SEED_LIMIT, (count,), generator=self.generator).tolist()


class SampleDraws(Draws):
    """Draws from one generator per image, so that an image gets the same numbers in any batch.

    Args:
        seeds: Seed of each image's generator.
        partners: Partner of each image, which must not depend on the batch either.

    Example:
        >>> import torch
        >>> first = SampleDraws([7, 8], torch.tensor([1, 0])).integers(high=100, count=2)
        >>> second = SampleDraws([8, 9], torch.tensor([1, 0])).integers(high=100, count=2)
        >>> bool(first[1] == second[0])  # the image with the seed 8
        True
    """

    def __init__(self, seeds: Sequence[int], partners: Tensor) -> None:
        self._generators = [np.random.default_rng(seed) for seed in seeds]
        self._partners = partners

    def partners(self, count: int) -> Tensor:
        """Return the given partners."""
        return self._partners

    def beta(self, alpha: float, count: int) -> Tensor:
        """See :meth:`Draws.beta`."""
        return torch.tensor([generator.beta(alpha, alpha) for generator in self._of_each(count)], dtype=torch.float64)

    def integers(self, high: int, count: int) -> Tensor:
        """See :meth:`Draws.integers`."""
        return torch.tensor([int(generator.integers(high)) for generator in self._of_each(count)])

    def seeds(self, count: int) -> list[int]:
        """See :meth:`Draws.seeds`."""
        return [int(generator.integers(SEED_LIMIT)) for generator in self._of_each(count)]

    def _of_each(self, count: int) -> list[np.random.Generator]:
        if count != len(self._generators):
            raise ValueError(
                'each image draws its own parameters here, so that its view does not depend on its batch (replay of '
                'teacher logits); set per_image=True in the augmentation'
            )
        return self._generators
