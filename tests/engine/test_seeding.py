"""The random draws for a sample depend only on the seed, the epoch and the index of the sample."""

import copy
import functools
import itertools
import os
import pickle
import random

import mmengine.dataset
import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset, DefaultSampler, InfiniteSampler, RepeatDataset
from mmpretrain.datasets import PackInputs, RepeatAugSampler
from mmpretrain.engine import SwitchRecipeHook
from ranks import run_on_ranks
from torch.utils.data import ConcatDataset, DataLoader, RandomSampler, Subset, WeightedRandomSampler

from r2kd_mm.engine import PairedSampler, SampleIndex, SeededDataset, SeededSampler, seeding
from r2kd_mm.engine.seeding import changing_draws, checksum_of_input, derived_seed, seed_process

SIZE = 12


class Draws(torch.utils.data.Dataset):
    """Each sample is one number from every generator that a transform may use."""

    metainfo = dict(classes=('a', 'b'))

    def __init__(self):
        self.loaded = []

    def __len__(self):
        return SIZE

    def __getitem__(self, index):
        if not -SIZE <= index < SIZE:
            raise IndexError(index)
        self.loaded.append(int(index))
        return torch.tensor([index, random.random(), np.random.rand(), torch.rand(()).item()], dtype=torch.float64)


class Described(BaseDataset):
    """MMEngine's kind of data set."""

    def load_data_list(self):
        return [dict(img=np.zeros((2, 2, 3), np.uint8), gt_label=label) for label in range(SIZE)]


def draw(dataset, index, epoch=0):
    return tuple(dataset[SampleIndex(index, epoch)][1:].tolist())


def global_draws():
    return random.random(), np.random.rand(), torch.rand(()).item()


def epoch_of_batches(seed=0, epoch=0, skip=0, **loader):
    sampler = SeededSampler(DefaultSampler(Draws(), shuffle=True, seed=seed))
    loader = DataLoader(SeededDataset(Draws(), seed), 4, sampler=sampler, **loader)
    batches = []
    for number in range(epoch + 1):  # persistent workers start in the first
        sampler.set_epoch(number)
        sampler.skip = skip
        batches = list(loader)
    return batches


def test_every_seed_epoch_index_and_purpose_gives_another_seed():
    numbers = itertools.product(range(3), repeat=3)
    seeds = {derived_seed(purpose, *triple) for triple in numbers for purpose in ('sample', 'step')}
    assert len(seeds) == 2 * 3**3
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derived_seed('sample', 1, 23) != derived_seed('sample', 12, 3)


def test_each_generator_draws_the_same_again_for_the_same_seed_epoch_and_index():
    dataset = SeededDataset(Draws(), 5)
    first = draw(dataset, 3, epoch=2)
    draw(dataset, 4)
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    assert draw(SeededDataset(Draws(), 5), 3, epoch=2) == first
    for other in (draw(dataset, 3, epoch=1), draw(dataset, 4, epoch=2), draw(SeededDataset(Draws(), 6), 3, epoch=2)):
        assert not set(other) & set(first)  # none of the three generators repeats


def test_a_plain_index_is_of_epoch_0_and_a_negative_one_counts_from_the_end():
    dataset = SeededDataset(Draws(), 5)
    assert torch.equal(dataset[4], dataset[SampleIndex(4, 0)])
    assert dataset[-1][1:].tolist() == dataset[SIZE - 1][1:].tolist()
    with pytest.raises(IndexError):
        dataset[SIZE]


def test_the_generators_of_the_process_continue_as_without_the_draw():
    sequences = []
    for loading in (False, True):
        seed_process(7)
        before = global_draws()
        if loading:
            SeededDataset(Draws(), 0)[0]
            with pytest.raises(IndexError):
                SeededDataset(Draws(), 0)[SIZE]
        sequences.append((before, global_draws()))
    assert sequences[0] == sequences[1]


def test_seeding_the_process_reaches_all_three_generators():
    seed_process(2**62 + 1)
    first = global_draws()
    assert not set(global_draws()) & set(first)
    seed_process(2**62 + 1)
    assert global_draws() == first


def test_the_batches_do_not_depend_on_the_workers():
    expected = epoch_of_batches(epoch=2)
    assert [len(batch) for batch in expected] == [4, 4, 4]
    for workers in (dict(num_workers=1), dict(num_workers=2), dict(num_workers=2, persistent_workers=True)):
        batches = epoch_of_batches(epoch=2, multiprocessing_context='fork', **workers)
        assert all(torch.equal(one, other) for one, other in zip(expected, batches, strict=True)), workers


def collate_with_noise(samples):
    return torch.stack(samples), torch.rand(())


def test_what_a_worker_draws_for_a_batch_depends_on_its_samples_alone():
    (one, *_), (two, *_), (resumed, *_) = (
        epoch_of_batches(skip=skip, num_workers=workers, multiprocessing_context='fork', collate_fn=collate_with_noise)[
            -1:
        ]
        for workers, skip in ((1, 0), (2, 0), (2, 4))
    )
    assert one[1] == two[1] == resumed[1]


@pytest.mark.parametrize('workers', [dict(), dict(num_workers=2, multiprocessing_context='fork')], ids=['0', '2'])
def test_skipping_leaves_out_the_first_samples_of_one_pass_and_does_not_load_them(workers):
    whole = epoch_of_batches()
    rest = epoch_of_batches(skip=8, **workers)
    assert len(rest) == 1
    assert torch.equal(rest[0], whole[2])
    assert epoch_of_batches(skip=SIZE, **workers) == []

    dataset, sampler = Draws(), SeededSampler(DefaultSampler(Draws(), shuffle=False))
    loader = DataLoader(SeededDataset(dataset, 0), 4, sampler=sampler)
    sampler.skip = 8
    assert len(loader) == 3
    assert [len(list(loader)) for _ in range(2)] == [1, 3]
    assert dataset.loaded == [*range(8, SIZE), *range(SIZE)]


def test_a_data_set_that_loads_batches_at_once_is_seeded_sample_by_sample():
    subset = Subset(Draws(), range(SIZE))
    assert hasattr(subset, '__getitems__')
    loader = DataLoader(SeededDataset(subset, 5), 4, sampler=SeededSampler(DefaultSampler(subset, shuffle=False)))
    assert torch.equal(next(iter(loader))[1], SeededDataset(Draws(), 5)[1])


def test_a_cycle_repeats_the_draws_in_a_new_order():
    sampler = SeededSampler(DefaultSampler(Draws(), shuffle=True, seed=0), cycle=2)
    dataset, orders, draws = SeededDataset(Draws(), 0), [], []
    for epoch in range(4):
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
        draws.append(torch.stack([dataset[index] for index in sorted(orders[-1])]))
    assert torch.equal(draws[0], draws[2])
    assert torch.equal(draws[1], draws[3])
    assert not torch.equal(draws[0], draws[1])
    assert [index.epoch for index in orders[3]] == [1] * SIZE
    assert orders[0] != orders[2]


@pytest.mark.parametrize('cycle', [0, -1])
def test_a_cycle_of_no_epoch_is_refused(cycle):
    with pytest.raises(ValueError, match=f'cycle counts epochs and must be at least 1, .* got {cycle}'):
        SeededSampler(DefaultSampler(Draws()), cycle)


def test_the_order_comes_from_the_sampler():
    plain = DefaultSampler(Draws(), shuffle=True, seed=3)
    seeded = SeededSampler(DefaultSampler(Draws(), shuffle=True, seed=9))
    seeded.seed = 3
    assert seeded.seed == 3
    for epoch in range(2):
        plain.set_epoch(epoch), seeded.set_epoch(epoch)
        assert list(plain) == list(seeded)
    assert SeededSampler(torch.utils.data.SequentialSampler(Draws())).seed is None


@pytest.mark.parametrize('copied', [copy.deepcopy, lambda index: pickle.loads(pickle.dumps(index))])
def test_an_index_keeps_its_epoch_when_it_is_copied(copied):
    index = copied(SampleIndex(4, 7))
    assert (index, index.epoch) == (4, 7)
    assert [10, 11, 12, 13, 14][index] == 14


@pytest.mark.parametrize('num_workers', [0, 1])
def test_a_batch_says_of_which_epoch_each_sample_is(num_workers):
    dataset = Described(pipeline=[PackInputs()])
    sampler = SeededSampler(DefaultSampler(dataset, shuffle=True, seed=0))
    sampler.set_epoch(6)
    loader = DataLoader(
        SeededDataset(dataset, 0),
        4,
        sampler=sampler,
        num_workers=num_workers,
        collate_fn=list,
        multiprocessing_context='fork' if num_workers else None,
    )
    indices = [item['data_samples'].sample_idx for batch in loader for item in batch]
    assert indices == list(sampler)
    assert {index.epoch for index in indices} == {6}


def test_a_repeated_index_has_its_own_draws_for_each_copy():
    sampler = SeededSampler(RepeatAugSampler(Draws(), num_repeats=3, seed=0))
    indices = list(sampler)
    assert [index.copy for index in indices] == [0, 1, 2] * (SIZE // 3)
    dataset = SeededDataset(Draws(), 0)
    draws = [tuple(dataset[index][1:].tolist()) for index in indices]
    assert len(set(sum(draws, ()))) == 3 * SIZE
    assert draws[0] == draw(dataset, indices[0])  # the first copy is what it is without repeats


def copies_on_rank(rank):
    indices = list(SeededSampler(RepeatAugSampler(Draws(), num_repeats=3, seed=0)))
    return [(int(index), index.copy) for index in indices]


@pytest.mark.slow
def test_copies_in_all_processes_have_different_draws():
    first, second = run_on_ranks(2, copies_on_rank, 0)
    assert len(first + second) == SIZE
    assert sorted(first + second) == sorted(copies_on_rank(0))


def test_copies_that_fill_up_the_share_of_a_process_count_as_one():
    assert not any(SeededSampler(DefaultSampler(Draws(), shuffle=True, seed=0)).may_repeat for _ in range(2))
    assert not SeededSampler(PairedSampler(Draws(), seed=0)).may_repeat


@pytest.mark.parametrize('own', [False, True], ids=['of the process', 'own'])
@pytest.mark.parametrize('kind', ['weighted', 'shuffled'])
def test_any_sampler_gives_its_order_again_on_resume(kind, own):
    def order(epochs, skip=0):
        generator = torch.Generator() if own else None
        if kind == 'weighted':
            inner = WeightedRandomSampler([1.0] * 3 + [0.1] * 9, SIZE, generator=generator)
        else:
            inner = RandomSampler(Draws(), generator=generator)
        sampler = SeededSampler(inner, run_seed=4)
        orders = []
        for epoch in epochs:
            torch.rand(epoch)  # the steps of the epoch before
            sampler.set_epoch(epoch)
            sampler.skip = skip
            orders.append([(int(index), index.copy) for index in sampler])
        return orders

    whole = order([0, 1, 2])
    assert whole[0] != whole[1] != whole[2]
    assert order([2])[0] == whole[2]
    assert order([1], skip=5)[0] == whole[1][5:]


def test_a_sampler_that_does_not_know_its_rank_gives_each_process_another_order(monkeypatch):
    orders = []
    for rank in range(2):
        monkeypatch.setattr(seeding, 'get_rank', lambda rank=rank: rank)
        monkeypatch.setattr(seeding, 'all_gather_object', lambda order: [order, order])
        orders.append(
            [list(SeededSampler(inner)) for inner in (RandomSampler(Draws()), DefaultSampler(Draws(), seed=3))]
        )
    assert orders[0][0] != orders[1][0]
    assert orders[0][1] == orders[1][1]


def test_an_infinite_sampler_is_refused():
    with pytest.raises(ValueError, match='a sampler that ends, got InfiniteSampler; take DefaultSampler'):
        SeededSampler(InfiniteSampler(Draws()))


class Noise:
    """A transform with a generator of its own, of the kind that ``make`` gives."""

    def __init__(self, make):
        self.steps = [functools.partial(self._add, make())]

    @staticmethod
    def _add(generator, value):
        if isinstance(generator, torch.Generator):
            return value + torch.rand((), generator=generator).item()
        return value + generator.random()

    def __call__(self, value):
        return self.steps[0](value)


class Transformed(torch.utils.data.Dataset):
    def __init__(self, transform):
        self.transform = transform

    def __len__(self):
        return SIZE

    def __getitem__(self, index):
        return torch.tensor(self.transform(float(index)), dtype=torch.float64)


OWN = dict(
    python=random.Random,
    numpy=np.random.default_rng,
    legacy=np.random.RandomState,
    torch=lambda: torch.Generator().manual_seed(int(np.random.default_rng().integers(2**60))),
)


@pytest.mark.parametrize('kind', OWN)
def test_generators_that_a_transform_keeps_for_itself_are_seeded(kind):
    first, again = (SeededDataset(Transformed(Noise(OWN[kind])), 5) for _ in range(2))
    assert first[SampleIndex(3, 2)] == again[SampleIndex(3, 2)] == first[SampleIndex(3, 2)]
    assert first[SampleIndex(3, 1)] != first[SampleIndex(3, 2)]
    assert first.try_out().changing == []


def test_a_pipeline_that_is_changed_later_is_seeded_from_the_next_epoch_on():
    concat = SeededDataset(ConcatDataset([Transformed(float)]), 5)
    assert concat[SampleIndex(3, 0)] == 3
    concat.datasets[0].transform = Noise(np.random.default_rng)
    assert concat[SampleIndex(3, 1)] == concat[SampleIndex(3, 1)] != 3


def test_a_generator_that_cannot_be_found_is_noticed():
    trial = SeededDataset(Transformed(lambda value: value + int.from_bytes(os.urandom(2), 'little')), 5).try_out()
    assert len(trial.changing) >= len(trial.checksums) - 1
    assert '12 training images came out differently' in changing_draws(trial)


def test_the_trial_leaves_the_data_set_as_it_is():
    data = Draws()
    assert SeededDataset(data, 5).try_out().changing == []
    assert data.loaded == []


@pytest.mark.parametrize(
    'wrap', [lambda d: mmengine.dataset.ConcatDataset([d, d]), lambda d: RepeatDataset(d, 2)], ids=['concat', 'repeat']
)
def test_a_noted_sample_says_which_it_is_whatever_wraps_its_data_set(wrap):
    dataset = SeededDataset(wrap(Described(pipeline=[PackInputs()])), 0)
    dataset.note_inputs()
    first, second = (dataset[SampleIndex(index, 6)]['data_samples'].sample_idx for index in (3, SIZE + 3))
    assert ((first, first.epoch), (second, second.epoch)) == ((3, 6), (SIZE + 3, 6))
    assert first.checksum == second.checksum == checksum_of_input(dataset[0]) != 0


def test_the_checksum_covers_only_the_input():
    image = torch.arange(12, dtype=torch.uint8).reshape(3, 2, 2)
    first = checksum_of_input(dict(inputs=image, data_samples=1))
    assert first == checksum_of_input(dict(inputs=image.clone(), data_samples=2)) == checksum_of_input(image.numpy())
    others = [image + 1, image.reshape(2, 3, 2), image.float(), image.flip(0), [image, image]]
    assert len({first, *map(checksum_of_input, others)}) == 6


def test_a_sample_of_another_form_cannot_be_noted():
    dataset = SeededDataset(Draws(), 0)
    dataset.note_inputs()
    with pytest.raises(TypeError, match='needs samples as PackInputs makes them, .* got a Tensor from the data set'):
        dataset[0]


def test_it_stands_for_its_data_set():
    dataset = SeededDataset(Described(pipeline=[PackInputs()], metainfo=dict(classes=('a',))), 0)
    assert len(dataset) == SIZE
    assert dataset.metainfo['classes'] == ('a',)
    assert dataset.get_data_info(3)['gt_label'] == 3
    with pytest.raises(AttributeError, match='no_such_field'):
        _ = dataset.no_such_field
    again = pickle.loads(pickle.dumps(dataset))
    assert (again.seed, again.get_data_info(3)['gt_label']) == (0, 3)


def test_another_pipeline_set_on_it_acts():
    dataset = SeededDataset(Described(pipeline=[PackInputs()]), 0)
    runner = type('Runner', (), dict(train_loop=type('Loop', (), dict(dataloader=DataLoader(dataset)))))
    SwitchRecipeHook._switch_train_pipeline(runner, lambda sample: 'another')
    assert dataset[0] == 'another'
