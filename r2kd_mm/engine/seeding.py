"""Seed the random draws of each sample by run seed, epoch and index, and the sample order by run seed and epoch.

No draw depends on earlier draws, so a resumed run draws the same numbers as an uninterrupted run.
"""

from __future__ import annotations

import hashlib
import random
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy as shallow_copy
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.dist import all_gather_object, get_rank
from mmengine.logging import MMLogger
from mmengine.structures import BaseDataElement
from numpy.random import mtrand
from torch.utils._pytree import tree_flatten
from torch.utils.data import Dataset, DistributedSampler, Sampler, SequentialSampler, get_worker_info

from r2kd_mm.engine.generators import GENERATORS, own_generators, seed_generators, without_traces

# Samplers that give each index once per epoch; a subclass may repeat indices.
ONCE = (DefaultSampler, DistributedSampler, SequentialSampler)
TRIAL_SIZE = 16  # two draws of one random flip may agree by chance, two draws of 16 flips differ


def derived_seed(purpose: str, *numbers: int) -> int:
    """Derive a seed in ``[0, 2**63)`` by hashing ``purpose`` and ``numbers``; other arguments give unrelated seeds.

    Example:
        >>> seed = derived_seed('view', 0, 1)
        >>> seed == derived_seed('view', 0, 1), seed == derived_seed('view', 1, 0)
        (True, False)
    """
    words = ' '.join(map(str, (purpose, *numbers)))
    return int.from_bytes(hashlib.blake2b(words.encode(), digest_size=8).digest(), 'little') >> 1


def seed_process(seed: int) -> None:
    """Seed ``random``, ``numpy.random`` and all of torch's default generators, those of GPUs too."""
    _seed_cpu(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


def _seed_cpu(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)  # all that it takes
    # torch.manual_seed asks for every kind of device, which takes ten times as long, and reaches for the GPU
    torch.default_generator.manual_seed(seed)


# To read the state of numpy's generator, and to set it, costs more than a digit's whole pipeline; another bit generator
# in its place costs 2 microseconds.
_numpy_bits = np.random.MT19937(0)


@contextmanager
def drawing_from(seed: int, restore: bool = True) -> Iterator[None]:
    """Start ``random``, ``numpy.random`` and torch's CPU generator from ``seed``; restore their states at the end.

    Restoring takes two thirds of the time. It loses the spare normal deviate that ``numpy.random.randn`` may keep.

    Example:
        >>> with drawing_from(seed=3):
        ...     first = torch.rand(1)
        >>> with drawing_from(seed=3):
        ...     torch.equal(torch.rand(1), first)
        True
    """
    states = (random.getstate(), mtrand.get_bit_generator(), torch.default_generator.get_state()) if restore else None
    try:
        if states:
            mtrand.set_bit_generator(_numpy_bits)
        _seed_cpu(seed)
        yield
    finally:
        if states:
            random.setstate(states[0])
            mtrand.set_bit_generator(states[1])
            torch.default_generator.set_state(states[2])


class SampleIndex(int):
    """Index into a data set with the epoch and the copy that its draws depend on.

    :class:`SeededDataset` notes it in each sample as ``data_sample.sample_idx``.

    Attributes:
        epoch: Epoch in which the sample is drawn, counted from 0.
        copy: Number of earlier occurrences of the index in this epoch, in all processes.
        checksum: CRC-32 of the drawn input; 0 before the draw.

    Example:
        >>> index = SampleIndex(7, epoch=2)
        >>> index == 7, index.epoch
        (True, 2)
    """

    epoch: int
    copy: int
    checksum: int

    def __new__(cls, index: int, epoch: int, copy: int = 0, checksum: int = 0) -> SampleIndex:
        """Make the index ``index`` with its attributes."""
        self = super().__new__(cls, index)
        self.epoch, self.copy, self.checksum = epoch, copy, checksum
        return self

    def __reduce__(self) -> tuple:
        """Keep the attributes on the way to a data worker and back, and in a copy."""
        return SampleIndex, (int(self), self.epoch, self.copy, self.checksum)


class Trial(NamedTuple):
    """Result of drawing a few samples twice.

    Attributes:
        checksums: CRC-32 of the input by index, in epoch 0.
        changing: Indices whose input was different the second time.
    """

    checksums: dict[int, int]
    changing: list[int]


class SeededDataset(Dataset):
    """Data set whose random transforms draw the same for the same (seed, epoch, index).

    A sample does not depend on when it is loaded, in which process, or what was loaded before. If a sampler repeats an
    index in an epoch, each copy has its own draws. Generators that belong to a transform are seeded too
    (:func:`~r2kd_mm.engine.generators.own_generators`). All attributes are read from and set on the wrapped data set.

    Args:
        dataset: Map-style data set.
        seed: Seed of the run, >= 0.

    Example:
        >>> class Noise(Dataset):
        ...     def __getitem__(self, index):
        ...         return torch.rand(1)
        ...     def __len__(self):
        ...         return 2
        >>> dataset = SeededDataset(Noise(), seed=0)
        >>> torch.equal(dataset[0], dataset[0]), torch.equal(dataset[0], dataset[1])
        (True, False)
    """

    dataset: Any
    seed: int

    def __init__(self, dataset: Dataset, seed: int) -> None:
        self.__dict__.update(dataset=dataset, seed=seed, _notes_inputs=False, _generators=(None, []), _trial=None)

    def set_seed(self, seed: int) -> None:
        """Set the seed of the run."""
        self.__dict__.update(seed=seed, _trial=None)

    def note_inputs(self) -> None:
        """Note in each later sample its index and the checksum of its input.

        Both are in ``data_samples.sample_idx``, a :class:`SampleIndex`. The index refers to this data set, even if it
        consists of several.
        """
        self.__dict__.update(_notes_inputs=True, _trial=None)

    def try_out(self) -> Trial:
        """Draw a few samples twice, on a copy of the data set, and compare their inputs."""
        if self._trial is None:
            places = np.unique(np.linspace(0, len(self) - 1, min(len(self), TRIAL_SIZE)).astype(int)).tolist()
            copied = SeededDataset(without_traces(self.dataset), self.seed)
            copied.__dict__.update(_notes_inputs=self._notes_inputs)
            logger = MMLogger.get_current_instance()
            logger.disabled = True  # a broken image is reported when it is loaded for training
            try:
                first = {place: checksum_of_input(copied[place]) for place in places}
                again = {place: checksum_of_input(copied[place]) for place in reversed(places)}
            finally:
                logger.disabled = False
            changing = [place for place in places if first[place] != again[place]]
            self.__dict__.update(_trial=Trial(first, changing))
        return self._trial

    def __getitem__(self, index: int) -> Any:
        """Return sample ``index``, drawn for the epoch and copy of a :class:`SampleIndex`, or for epoch 0."""
        epoch, copy, place = getattr(index, 'epoch', 0), getattr(index, 'copy', 0), index % len(self)
        seed = derived_seed('sample', self.seed, epoch, place, *([copy] if copy else []))
        # a data worker draws for samples only: its state is not worth the time to restore it
        with drawing_from(seed, restore=get_worker_info() is None):
            seed_generators(self._own_generators(epoch), seed)
            sample = self.dataset[index]
        return _noted(sample, place, epoch, copy) if self._notes_inputs else sample

    def __len__(self) -> int:
        return len(self.dataset)

    def _own_generators(self, epoch: int) -> list[Any]:
        """Return the generators of the transforms; search once per epoch, because hooks may change the pipeline."""
        searched, generators = self._generators
        if searched != epoch:
            generators = own_generators(self.dataset)
            self.__dict__.update(_generators=(epoch, generators))
        return generators

    def __getattr__(self, name: str) -> Any:
        # __getitems__, which torch looks for, would load past the seeds; and pickle asks before there is a dataset
        if name.startswith('__') or 'dataset' not in self.__dict__:
            raise AttributeError(f'{type(self).__name__!r} object has no attribute {name!r}')
        return getattr(self.dataset, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.dataset, name, value)


class SeededSampler(Sampler):
    """Sampler whose order depends on (seed, epoch), and which can start in the middle of an epoch.

    Each index comes with its epoch and the number of its earlier occurrences. Generators that the sampler draws from,
    its own or those of the process, are seeded.

    Attributes:
        skip: Number of samples to leave out at the start of the next pass, and only of this pass.
        run_seed: Seed of the run, for a sampler without a seed.

    Args:
        sampler: Wrapped sampler. It needs ``set_epoch`` to change its order between epochs.
        cycle: Number of epochs after which the draws repeat, in a new order; ``None`` for never. It is also set on a
            sampler with this attribute, such as :class:`~r2kd_mm.engine.PairedSampler`.
        run_seed: Seed of the run.

    Raises:
        ValueError: ``cycle`` is below 1; or the sampler is infinite.

    Example:
        >>> sampler = SeededSampler(SequentialSampler(range(4)))
        >>> sampler.set_epoch(2)
        >>> [(int(index), index.epoch) for index in sampler]
        [(0, 2), (1, 2), (2, 2), (3, 2)]
    """

    def __init__(self, sampler: Sampler, cycle: int | None = None, run_seed: int = 0) -> None:
        if cycle is not None and cycle < 1:
            raise ValueError(f'cycle counts epochs and must be at least 1, or None to repeat none, got {cycle}')
        if isinstance(sampler, InfiniteSampler):
            raise ValueError(
                f'a training by epochs needs a sampler that ends, got {type(sampler).__name__}; take DefaultSampler'
            )
        self.sampler: Any = sampler
        self.cycle = cycle
        if hasattr(sampler, 'cycle'):
            sampler.cycle = cycle
        self.run_seed = run_seed
        self.epoch = 0
        self.skip = 0
        self._pass = 0  # the epoch, whatever the cycle

    @property
    def seed(self) -> int | None:
        """Seed of the order, for samplers that draw it as MMEngine's do; else ``None``."""
        return getattr(self.sampler, 'seed', None)

    @seed.setter
    def seed(self, seed: int) -> None:
        self.sampler.seed = seed

    @property
    def may_repeat(self) -> bool:
        """True if an epoch may repeat an index for another reason than equal numbers on all processes."""
        return type(self.sampler) not in ONCE and not getattr(self.sampler, 'gives_each_once', False)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, counted from 0, of the next pass."""
        self._pass = epoch
        self.epoch = epoch if self.cycle is None else epoch % self.cycle
        if hasattr(self.sampler, 'set_epoch'):
            self.sampler.set_epoch(epoch)

    def __iter__(self) -> Iterator[SampleIndex]:
        skip, self.skip = self.skip, 0
        order = self._order()
        copies = _count_copies(order) if self.may_repeat else [0] * len(order)
        for index, copy in zip(order[skip:], copies[skip:]):
            yield SampleIndex(index, self.epoch, copy)

    def __len__(self) -> int:
        """Return the number of samples of a complete pass."""
        return len(self.sampler)

    def _order(self) -> list[int]:
        # a sampler that knows its rank takes its share of an order that is equal on all processes
        share = [] if hasattr(self.sampler, 'rank') else [get_rank()]
        seed = derived_seed('order', self.run_seed, self._pass, *share)
        with drawing_from(seed):
            own = [value for value in vars(self.sampler).values() if isinstance(value, GENERATORS)]
            seed_generators(own, seed)
            return list(map(int, self.sampler))


def checksum_of_input(sample: Any) -> int:
    """Return the CRC-32 of a sample's input: of all tensors in ``'inputs'``, or in the sample without this key."""
    checksum = 0
    inputs = sample['inputs'] if isinstance(sample, dict) and 'inputs' in sample else sample
    for leaf in [inputs] if isinstance(inputs, torch.Tensor) else tree_flatten(inputs)[0]:
        if isinstance(leaf, (torch.Tensor, np.ndarray)):
            values = leaf if isinstance(leaf, torch.Tensor) else torch.from_numpy(np.ascontiguousarray(leaf))
            checksum = zlib.crc32(f'{values.dtype}{tuple(values.shape)}'.encode(), checksum)
            content = values.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            checksum = zlib.crc32(content.numpy().data, checksum)
    return checksum


def changing_draws(trial: Trial) -> str:
    """Say of a trial with changing samples what the cause is, and the way out."""
    return (
        f'{len(trial.changing)} of {len(trial.checksums)} training images came out differently when they were drawn '
        'twice for the same seed, epoch and index, because a transform draws from a generator that the run does not '
        'know; let it draw from random, numpy.random or torch, or keep its generator (random.Random, '
        'numpy.random.Generator, torch.Generator) as an attribute'
    )


def _noted(sample: Any, place: int, epoch: int, copy: int) -> Any:
    """Return a copy of the sample with a note; the data set may return the same object again."""
    if not isinstance(sample, dict) or not isinstance(sample.get('data_samples'), BaseDataElement):
        kind = f'a dict of {", ".join(map(str, sample))}' if isinstance(sample, dict) else f'a {type(sample).__name__}'
        raise TypeError(
            'a replay needs samples as PackInputs makes them, dict(inputs=..., data_samples=DataSample), got '
            f'{kind} from the data set; let its pipeline end in PackInputs'
        )
    data_sample = shallow_copy(sample['data_samples'])
    vars(data_sample)['_metainfo_fields'] = set(data_sample._metainfo_fields)  # not that of the original
    note = SampleIndex(place, epoch, copy, checksum_of_input(sample))
    data_sample.set_field(note, 'sample_idx', field_type='metainfo')
    return dict(sample, data_samples=data_sample)


def _count_copies(order: list[int]) -> list[int]:
    """Count how often each index of ``order`` came before, in all processes, which take turns."""
    orders = all_gather_object(order)
    counts: Counter[int] = Counter()
    copies = []
    for turn in zip_longest(*orders):
        for rank, index in enumerate(turn):
            if index is not None:
                if rank == get_rank():
                    copies.append(counts[index])
                counts[index] += 1
    return copies
