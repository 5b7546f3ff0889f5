"""The random draws of a replay, on which the stored logits depend, repeat for the same seed, round and image."""

from mmpretrain.structures import DataSample

from r2kd_mm.engine.seeding import SampleIndex
from r2kd_mm.teachers.replay import Replay


def draws(tmp_path, seed, epoch, images):
    replay = Replay(tmp_path)
    replay.open(dict(teacher='a'), seed, 5, 7, 2, ['clean'])
    return replay.draws([DataSample(metainfo=dict(sample_idx=SampleIndex(index, epoch))) for index in images])


def lots(tmp_path, seed, epoch, images):
    """Return the draws of each image, by image."""
    return dict(zip(images, draws(tmp_path, seed, epoch, images).seeds(len(images))))


def test_the_draws_depend_on_seed_round_and_image_alone(tmp_path):
    first = lots(tmp_path, 0, 0, [3, 1, 4, 2])
    assert len({*first.values()}) == 4
    assert lots(tmp_path, 0, 0, [4, 2, 3, 1]) == first
    for seed, epoch in ((1, 0), (0, 1)):
        assert not {*lots(tmp_path, seed, epoch, [3, 1, 4, 2]).values()} & {*first.values()}


def test_the_partner_is_the_neighbour(tmp_path):
    assert draws(tmp_path, 0, 0, [3, 1, 4, 2]).partners(4).tolist() == [1, 0, 3, 2]
