"""Each batch has the given share of unlabelled images, and a resumed run gets the same batches."""

import pytest
import toys

from r2kd_mm.datasets import WithUnlabelled
from r2kd_mm.engine import SeededSampler, UnlabelledShareSampler


def sampler(labelled=10, unlabelled=7, batch_size=4, **fields):
    data = WithUnlabelled(toys.Images(labelled), [toys.Images(unlabelled, seed=1)])
    return UnlabelledShareSampler(data, batch_size, **dict(dict(seed=0), **fields))


def batches(order, size=4):
    return [order[start : start + size] for start in range(0, len(order), size)]


def test_each_batch_has_the_share():
    order = list(sampler())
    assert len(order) == len(sampler()) == 20
    assert [sum(index >= 10 for index in batch) for batch in batches(order)] == [2] * 5
    assert sorted(index for index in order if index < 10) == list(range(10))  # each labelled image once


def test_the_last_batch_may_be_smaller():
    order = list(sampler(labelled=10, batch_size=8, share=0.25))  # 6 labelled ones a batch
    counts = [(len(batch), sum(index >= 10 for index in batch)) for batch in batches(order, 8)]
    assert counts == [(8, 2), (5, 1)]


def test_images_without_labels_go_on_from_epoch_to_epoch():
    """Seven of them come in turn before one comes again."""
    taken = []
    of_many = sampler(labelled=6)
    for epoch in range(7):
        of_many.set_epoch(epoch)
        taken += [index for index in of_many if index >= 6]
    assert len(taken) == 42
    for start in range(0, 42, 7):
        assert sorted(taken[start : start + 7]) == list(range(6, 13))


def test_the_order_depends_on_seed_and_epoch_alone():
    orders = []
    for seed, epoch in ((0, 0), (0, 0), (0, 1), (1, 0)):
        one = sampler(seed=seed)
        one.set_epoch(epoch)
        orders.append(list(one))
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]
    assert orders[0] != orders[3]
    assert list(sampler(shuffle=False))[:4] == [0, 1, 10, 11]


def test_it_resumes_in_the_middle_of_an_epoch():
    whole, resumed = SeededSampler(sampler()), SeededSampler(sampler())
    resumed.skip = 8
    assert list(resumed) == list(whole)[8:]


def test_processes_share_both_kinds():
    parts = [sampler(labelled=9) for _ in range(2)]
    for rank, part in enumerate(parts):
        part.rank, part.world_size = rank, 2
    orders = [list(part) for part in parts]
    assert [len(order) for order in orders] == [len(part) for part in parts] == [10, 10]
    labelled = [index for order in orders for index in order if index < 9]
    assert sorted(set(labelled)) == list(range(9))
    assert len(labelled) == 10  # one is repeated, so that both have as many
    unlabelled = [[index for index in order if index >= 9] for order in orders]
    assert len(unlabelled[0]) == len(unlabelled[1]) == 5
    together = [index for turn in zip(*unlabelled) for index in turn]
    assert sorted(together[:7]) == list(range(9, 16))


@pytest.mark.parametrize('share', [0.0, 0.1, 0.9, 1.0])
def test_refuses_a_share_that_leaves_one_kind_out(share):
    with pytest.raises(ValueError, match='a batch needs at least one of each kind'):
        sampler(share=share)


def test_refuses_data_that_do_not_say():
    with pytest.raises(TypeError, match='put WithUnlabelled around it'):
        UnlabelledShareSampler(toys.Images(4), 2)
