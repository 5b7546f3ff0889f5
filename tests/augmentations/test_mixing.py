import math
from dataclasses import replace

import pytest
import torch
from ranks import run_on_ranks

from r2kd_mm.augmentations import AutoAugment, BatchDraws, CutMix, CutMixPick, Cutout, Mixup, ViewContext
from r2kd_mm.registry import MODELS

ALL = [
    Mixup(),
    Mixup(per_image=True),
    CutMix(),
    CutMix(per_image=True),
    Cutout(3),
    Cutout(3, per_image=False),
    AutoAugment(),
    AutoAugment('cifar10', per_image=False),
    CutMixPick(),
    CutMixPick(pick='released'),
]


def sum_logits(images):
    """Two logits whose entropy falls with the distance of the image's sum from 0."""
    total = images.sum(dim=(1, 2, 3))
    return torch.stack([total, -total], dim=1)


def context(seed: int = 0) -> ViewContext:
    return ViewContext(BatchDraws(torch.Generator().manual_seed(seed)), sum_logits)


@pytest.fixture
def images():
    return torch.rand(8, 3, 12, 12, generator=torch.Generator().manual_seed(0)) * 255


@pytest.mark.parametrize('augmentation', ALL, ids=repr)
class TestEveryAugmentation:
    def test_keeps_shape_and_dtype_and_changes_the_view_but_not_the_batch(self, augmentation, images):
        before = images.clone()
        view = augmentation(images, context(seed=3))
        assert view.shape == images.shape
        assert view.dtype == images.dtype
        assert not torch.equal(view, images)
        assert torch.equal(images, before)

    def test_the_seed_alone_decides_the_draw(self, augmentation, images):
        torch.manual_seed(1)
        first = augmentation(images, context(seed=7))
        torch.manual_seed(2)
        assert torch.equal(first, augmentation(images, context(seed=7)))
        assert any(not torch.equal(first, augmentation(images, context(seed))) for seed in range(8, 12))

    def test_leaves_the_global_random_state_alone(self, augmentation, images):
        before = torch.random.get_rng_state()
        augmentation(images, context())
        assert torch.equal(torch.random.get_rng_state(), before)

    def test_takes_a_batch_of_one(self, augmentation, images):
        assert augmentation(images[:1], context()).shape == (1, 3, 12, 12)


def test_mixup_shares_follow_the_beta_distribution():
    images = torch.zeros(4000, 1, 1, 1)
    images[::2] = 1  # a pair of unlike images shows its share
    share = Mixup(alpha=0.2, per_image=True)(images, context()).flatten()
    mixed = share[(share > 0) & (share < 1)]
    # Beta(a, a) has the variance 1 / (4 (2 a + 1)); the partner is unlike half of the time
    assert len(mixed) == pytest.approx(2000, rel=0.1)
    assert mixed.mean().item() == pytest.approx(0.5, abs=0.03)
    assert mixed.var().item() == pytest.approx(1 / (4 * 1.4), rel=0.05)


class Given(BatchDraws):
    """Two images that swap, and a box in row 8 and column 16."""

    def partners(self, count):
        return torch.tensor([1, 0])

    def beta(self, alpha, count):
        return torch.full((count,), 0.75)

    def integers(self, high, count):
        return torch.full((count,), high // 2)


def test_cutmix_boxes_have_the_drawn_area_before_the_cut():
    images = torch.arange(2.0).view(2, 1, 1, 1).expand(2, 1, 16, 32)
    view = CutMix()(images, ViewContext(Given(torch.Generator()), sum_logits))
    # a quarter of the area: half of each side, round the centre
    expected = torch.zeros(16, 32)
    expected[4:12, 8:24] = 1
    assert torch.equal(view[0, 0], expected)


def boxes_of(view, images):
    """The set of changed-pixel masks over the batch."""
    return {tuple((image != original).any(dim=0).flatten().tolist()) for image, original in zip(view, images)}


@pytest.mark.parametrize('per_image', [False, True])
def test_one_hole_a_batch_or_one_an_image(images, per_image):
    holes = boxes_of(Cutout(length=4, per_image=per_image)(images + 1, context()), images + 1)
    assert (len(holes) > 4) == per_image  # two images may share a place by chance
    assert per_image or len(holes) == 1


@pytest.mark.parametrize('per_image', [False, True])
def test_one_cutmix_box_a_batch_or_one_an_image(per_image):
    images = torch.randn(16, 1, 32, 32)
    view = CutMix(per_image=per_image)(images, context(seed=5))
    boxes = boxes_of(view, images) - {(False,) * 1024}  # an image may be its own partner
    assert (len(boxes) > 1) == per_image


def test_cutout_hole_is_zero_and_cut_off_at_the_border():
    view = Cutout(length=5)(torch.ones(200, 2, 9, 9), context())
    areas = (view[:, 0] == 0).sum(dim=(1, 2))
    assert set(view.unique().tolist()) == {0.0, 1.0}
    assert areas.max() == 25
    assert areas.min() == 9  # the centre in a corner leaves 3 of 5 pixels a side: 2 before it, itself, ... cut to 3 x 3


def test_cutmixpick_keeps_the_mixed_images_of_highest_teacher_entropy(images):
    images = (images - images.mean()) / 1e4  # the toy teacher is to be unsure, not saturated
    picked = CutMixPick()(images, context(seed=2))
    mix, draws = CutMix(), context(seed=2)
    pool = torch.cat([mix(images, draws), mix(images, draws)])
    closest_to_zero = pool[pool.sum(dim=(1, 2, 3)).abs().argsort()[:8]]  # the toy teacher is least sure there
    assert sorted(picked.sum(dim=(1, 2, 3)).tolist()) == sorted(closest_to_zero.sum(dim=(1, 2, 3)).tolist())


def pick_of_all(sizes):
    rank = torch.distributed.get_rank()
    images = torch.randn(sizes[rank], 1, 4, 4, generator=torch.Generator().manual_seed(rank)) / 10
    mix, draws = CutMix(), context(seed=rank)
    pool = torch.cat([mix(images, draws), mix(images, draws)])
    return pool, CutMixPick(pool='global')(images, context(seed=rank))


@pytest.mark.slow
def test_cutmixpick_may_pick_from_the_images_of_all_processes():
    sizes = [8, 3]
    pools, picked = zip(*run_on_ranks(2, pick_of_all, sizes))
    assert [len(images) for images in picked] == sizes
    everything = torch.cat(pools)
    hardest = everything[everything.sum(dim=(1, 2, 3)).abs().argsort()[: sum(sizes)]]
    assert sorted(torch.cat(picked).flatten(1).tolist()) == sorted(hardest.flatten(1).tolist())


def test_released_cutmixpick_ranks_the_unmixed_images_and_keeps_at_most_64():
    images = torch.randn(70, 1, 4, 4)
    picked = CutMixPick(pick='released')(images, context(seed=2))
    order = images.sum(dim=(1, 2, 3)).abs().argsort()[:64]
    assert len(picked) == 64
    torch.testing.assert_close(picked, CutMix()(images, context(seed=2))[order])


def test_autoaugment_works_on_the_pixels_behind_the_normalisation(images):
    mean, std = torch.tensor([120.0, 110, 100]).view(3, 1, 1), torch.tensor([60.0, 50, 40]).view(3, 1, 1)
    pixels = images.round()
    plain = AutoAugment()(pixels, context(seed=4))
    normalised = AutoAugment()((pixels - mean) / std, replace(context(seed=4), mean=mean, std=std))
    torch.testing.assert_close(normalised * std + mean, plain, atol=1e-3, rtol=0)


def test_autoaugment_draws_once_a_batch_or_once_an_image():
    image = (torch.rand(3, 12, 12) * 255).round()
    same = image.expand(16, 3, 12, 12)
    assert len(AutoAugment(per_image=False)(same, context(seed=1)).unique(dim=0)) == 1
    assert len(AutoAugment(per_image=True)(same, context(seed=1)).unique(dim=0)) > 4


@pytest.mark.parametrize('images', [torch.randn(2, 3, 8, 8), torch.rand(2, 3, 8, 8)], ids=['normalised', 'scaled'])
def test_autoaugment_refuses_images_that_are_no_pixels(images):
    with pytest.raises(ValueError, match='pixel values of 0 to 255, got .* give mean and std to data_preprocessor'):
        AutoAugment()(images, context())
    black = torch.zeros(2, 3, 8, 8)
    assert AutoAugment()(black, context()).shape == black.shape


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        (dict(type='Mixup', alpha=0), r'alpha is the parameter .* must be > 0, got 0'),
        (dict(type='CutMix', alpha=math.nan), r'alpha is the parameter .* got nan'),
        (dict(type='CutMixPick', pick='best'), r"pick must be one of \('mixed', 'released'\), got 'best'"),
        (dict(type='CutMixPick', pool='world'), r"pool must be one of \('local', 'global'\), got 'world'"),
        (dict(type='CutMixPick', pick='released', pool='global'), "got pool='global'; set pool='local'"),
        (dict(type='Cutout', length=0), r'length is the side .* got 0'),
        (dict(type='Cutout', length=2.5), r'length is the side .* got 2.5'),
        (dict(type='AutoAugment', policy='digits'), r"policy must be one of .*'cifar10'.* got 'digits'"),
    ],
    ids=lambda value: value['type'] if isinstance(value, dict) else '',
)
def test_refuses_parameters_out_of_range(config, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build(config)
