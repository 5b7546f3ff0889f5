"""Random draws that depend on nothing but the seed of the run and on what is drawn for."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.random import mtrand
from torch.utils.data import Dataset, Sampler


def derived_seed(purpose: str, *numbers: int) -> int:
    """A seed in ``[0, 2**63)`` that ``purpose`` and ``numbers`` decide; others give an unrelated one."""
    words = ' '.join(map(str, (purpose, *numbers)))
    return int.from_bytes(hashlib.blake2b(words.encode(), digest_size=8).digest(), 'little') >> 1


def seed_process(seed: int) -> None:
    """Seed ``random``, ``numpy.random`` and all of torch's default generators, those of GPUs too."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # all that it takes
    torch.default_generator.manual_seed(seed)  # torch.manual_seed asks for every kind of device, ten times as long
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


# To read the state of numpy's generator, and to set it, costs more than a digit's whole pipeline; another bit generator
# in its place costs 2 microseconds.
_numpy_bits = np.random.MT19937(0)


@contextmanager
def drawing_from(seed: int) -> Iterator[None]:
    """Inside, ``random``, ``numpy.random`` and torch's CPU generator start from ``seed``; afterwards they go on.

    They go on where they were, but for the spare normal deviate that ``numpy.random.randn`` may have kept: it is lost.
    """
    states = random.getstate(), mtrand.get_bit_generator(), torch.default_generator.get_state()
    try:
        mtrand.set_bit_generator(_numpy_bits)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach for the GPU, in a data worker too
        yield
    finally:
        random.setstate(states[0])
        mtrand.set_bit_generator(states[1])
        torch.default_generator.set_state(states[2])


class SampleIndex(int):
    """An index into a data set that knows the epoch in which it is drawn.

    MMEngine keeps the index of a sample as its ``sample_idx``, which ``PackInputs`` hands on, so that a batch says of
    each sample ``data_sample.sample_idx`` and ``data_sample.sample_idx.epoch``.
    """

    epoch: int

    def __new__(cls, index: int, epoch: int) -> SampleIndex:
        """Index ``index`` in ``epoch``, counted from 0."""
        self = super().__new__(cls, index)
        self.epoch = epoch
        return self

    def __reduce__(self) -> tuple:
        """Keep the epoch on the way to a data worker and back, and in a copy."""
        return SampleIndex, (int(self), self.epoch)


class SeededDataset(Dataset):
    """A data set whose random transforms draw the same for the same (seed, epoch, index).

    It does not matter when a sample is loaded, in which process, or what was loaded before. An index that comes twice
    in one epoch gives the same sample twice. In all else this stands for the data set: what is read from it, or set on
    it, is the data set's.

    Args:
        dataset: The data set, map-style.
        seed: Of the run, >= 0.
    """

    dataset: Any
    seed: int

    def __init__(self, dataset: Dataset, seed: int) -> None:
        self.__dict__.update(dataset=dataset, seed=seed)

    def set_seed(self, seed: int) -> None:
        """Draw for the run of ``seed`` from now on."""
        self.__dict__.update(seed=seed)

    def __getitem__(self, index: int) -> Any:
        """Sample ``index``, drawn for the epoch of a :class:`SampleIndex`, or for epoch 0."""
        epoch = getattr(index, 'epoch', 0)
        with drawing_from(derived_seed('sample', self.seed, epoch, index % len(self))):
            return self.dataset[index]

    def __len__(self) -> int:
        return len(self.dataset)

    def __getattr__(self, name: str) -> Any:
        # __getitems__, which torch looks for, would load past the seeds; and pickle asks before there is a dataset
        if name.startswith('__') or 'dataset' not in self.__dict__:
            raise AttributeError(f'{type(self).__name__!r} object has no attribute {name!r}')
        return getattr(self.dataset, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.dataset, name, value)


class SeededSampler(Sampler):
    """A sampler that says of each index for which epoch it is, and can start in the middle of one.

    Attributes:
        skip: Leave out so many samples at the start of the next pass, and only of that one.

    Args:
        sampler: The sampler; one with ``set_epoch``, if its order is to change between epochs.
        cycle: Repeat the draws of the first so many epochs again and again, in a new order; ``None`` for never. A
            sampler that has a ``cycle`` itself, such as :class:`~r2kd_mm.engine.PairedSampler`, is told.

    Raises:
        ValueError: ``cycle`` is below 1.
    """

    def __init__(self, sampler: Sampler, cycle: int | None = None) -> None:
        if cycle is not None and cycle < 1:
            raise ValueError(f'cycle counts epochs and must be at least 1, or None to repeat none, got {cycle}')
        self.sampler: Any = sampler
        self.cycle = cycle
        if hasattr(sampler, 'cycle'):
            sampler.cycle = cycle
        self.epoch = 0
        self.skip = 0

    @property
    def seed(self) -> int | None:
        """What decides the order, where the sampler draws one as MMEngine's do."""
        return getattr(self.sampler, 'seed', None)

    @seed.setter
    def seed(self, seed: int) -> None:
        self.sampler.seed = seed

    def set_epoch(self, epoch: int) -> None:
        """Take the order of ``epoch``, counted from 0, from the next pass on."""
        self.epoch = epoch if self.cycle is None else epoch % self.cycle
        if hasattr(self.sampler, 'set_epoch'):
            self.sampler.set_epoch(epoch)

    def __iter__(self) -> Iterator[SampleIndex]:
        skip, self.skip = self.skip, 0
        for position, index in enumerate(self.sampler):
            if position >= skip:
                yield SampleIndex(index, self.epoch)

    def __len__(self) -> int:
        """Samples of a whole pass."""
        return len(self.sampler)
