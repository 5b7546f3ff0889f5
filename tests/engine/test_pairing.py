import pytest

from r2kd_mm.engine import pairing
from r2kd_mm.engine.pairing import PairedSampler


def passes(monkeypatch, size: int, world_size: int, epoch: int, cycle: int | None = None, seed: int = 0):
    """The images of each rank in one pass."""
    ranks = []
    for rank in range(world_size):
        monkeypatch.setattr(pairing, 'get_dist_info', lambda rank=rank: (rank, world_size))
        sampler = PairedSampler(range(size), seed)
        sampler.cycle = cycle
        sampler.set_epoch(epoch)
        ranks.append(list(sampler))
        assert len(ranks[-1]) == len(sampler)
    return ranks


def pairs_of(images: list[int]) -> list[tuple[int, int]]:
    return list(zip(images[::2], images[1::2]))


@pytest.mark.parametrize('world_size', [1, 2, 3])
def test_partners_do_not_depend_on_the_number_of_processes(monkeypatch, world_size):
    (alone,) = passes(monkeypatch, 20, 1, epoch=5)
    together = [pair for images in passes(monkeypatch, 20, world_size, epoch=5) for pair in pairs_of(images)]
    assert set(together) == set(pairs_of(alone))
    assert sorted(alone) == list(range(20))


def test_every_process_has_the_same_even_number_of_images(monkeypatch):
    ranks = passes(monkeypatch, 11, 3, epoch=0)  # 5 pairs for 3 processes
    assert [len(images) for images in ranks] == [4, 4, 4]
    assert len({image for images in ranks for image in images}) == 10


def test_more_processes_than_pairs_share_them(monkeypatch):
    ranks = passes(monkeypatch, 2, 3, epoch=0)
    assert [sorted(images) for images in ranks] == [[0, 1]] * 3


def test_the_pairing_repeats_with_the_cycle_and_the_order_does_not(monkeypatch):
    (first,), (other,), (again,) = (passes(monkeypatch, 40, 1, epoch, cycle=2) for epoch in (0, 1, 2))
    assert set(pairs_of(first)) == set(pairs_of(again)) != set(pairs_of(other))
    assert first != again


def test_the_seed_decides(monkeypatch):
    assert passes(monkeypatch, 40, 1, 3) == passes(monkeypatch, 40, 1, 3) != passes(monkeypatch, 40, 1, 3, seed=1)


def test_without_shuffling_neighbours_are_partners():
    assert list(PairedSampler(range(7), 0, shuffle=False)) == [0, 1, 2, 3, 4, 5]


def test_one_image_has_no_partner():
    with pytest.raises(ValueError, match='at least 2 are needed, got 1'):
        PairedSampler([0])
