"""With random draws for each image, the view of an image does not depend on the rest of its batch."""

import pytest
import torch

from r2kd_mm.augmentations import AutoAugment, CutMix, Cutout, Mixup, SampleDraws, ViewContext

SEEDS = [11, 12, 13, 14, 15, 16]
PAIRS = torch.tensor([1, 0, 3, 2, 5, 4])
PER_IMAGE = [Mixup(per_image=True), CutMix(per_image=True), Cutout(5), AutoAugment()]


def context(order: list[int]) -> ViewContext:
    return ViewContext(SampleDraws([SEEDS[index] for index in order], PAIRS[: len(order)]), lambda images: images)


@pytest.fixture
def images():
    return torch.rand(6, 3, 12, 12, generator=torch.Generator().manual_seed(0)) * 255


@pytest.mark.parametrize('augmentation', PER_IMAGE, ids=repr)
def test_the_view_of_an_image_does_not_depend_on_its_batch(augmentation, images):
    views = augmentation(images, context([0, 1, 2, 3, 4, 5]))
    assert not torch.equal(views, images)
    for order in ([4, 5, 0, 1], [2, 3], [3, 2, 1, 0]):  # the pairs stay together
        assert torch.equal(augmentation(images[order], context(order)), views[order])


@pytest.mark.parametrize('augmentation', [Mixup(), CutMix(), Cutout(5, per_image=False)], ids=repr)
def test_a_draw_for_the_whole_batch_is_refused(augmentation, images):
    with pytest.raises(ValueError, match='set per_image=True in the augmentation'):
        augmentation(images, context([0, 1, 2, 3, 4, 5]))


def test_the_draws_have_the_distribution_that_was_asked_for():
    draws = SampleDraws(range(4000), torch.arange(4000))
    assert draws.beta(0.5, 4000).mean() == pytest.approx(0.5, abs=0.03)
    assert draws.beta(0.5, 4000).var() == pytest.approx(1 / 8, abs=0.01)  # 1 / (4 (2 alpha + 1))
    counts = draws.integers(4, 4000).bincount()
    assert len(counts) == 4
    assert all(count == pytest.approx(1000, abs=120) for count in counts)
    assert len(set(draws.seeds(4000))) == 4000
