"""Draw the parameters of a batch augmentation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

SEED_LIMIT = 2**63 - 1


class Draws(ABC):
    """Random numbers for a batch, on the CPU, so that a seed decides them on any device.

    ``count`` is the number of images, for one value each, or 1 for one value that all images share.
    """

    @abstractmethod
    def partners(self, count: int) -> Tensor:
        """A partner for each image, as indices into the batch, shape ``(count,)``."""

    @abstractmethod
    def beta(self, alpha: float, count: int) -> Tensor:
        """Values in ``[0, 1]`` from Beta(alpha, alpha), shape ``(count,)``."""

    @abstractmethod
    def integers(self, high: int, count: int) -> Tensor:
        """Whole numbers from 0 to ``high - 1``, shape ``(count,)``."""

    @abstractmethod
    def seeds(self, count: int) -> list[int]:
        """Seeds for generators of another library."""


class BatchDraws(Draws):
    """All draws one after the other from one generator; any image may be the partner of any.

    Args:
        generator: On the CPU.
    """

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def partners(self, count: int) -> Tensor:
        """A permutation of the batch."""
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
    """The draws of each image from a generator of its own: the same in whatever batch the image is.

    Args:
        seeds: The seed of each image's generator.
        partners: The partner of each image, which must be the same in any batch too.
    """

    def __init__(self, seeds: Sequence[int], partners: Tensor) -> None:
        self._generators = [np.random.default_rng(seed) for seed in seeds]
        self._partners = partners

    def partners(self, count: int) -> Tensor:
        """The given partners."""
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
                'here each image draws for itself, so that its view does not depend on its batch (replay of teacher '
                'logits); set per_image=True in the augmentation'
            )
        return self._generators
