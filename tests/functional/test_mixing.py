import pytest
import torch

from r2kd_mm.functional.mixing import box_mask, centred_boxes, cutmix, cutout, mixup


@pytest.fixture
def images():
    return torch.arange(3 * 2 * 4 * 6, dtype=torch.float32).view(3, 2, 4, 6)


PARTNER = torch.tensor([1, 2, 0])


def test_mixup_blends_with_the_partner(images):
    mixed = mixup(images, PARTNER, torch.tensor([0.25]))
    torch.testing.assert_close(mixed, 0.25 * images + 0.75 * images[[1, 2, 0]])


def test_mixup_takes_one_share_an_image(images):
    mixed = mixup(images, PARTNER, torch.tensor([1.0, 0.0, 0.5]))
    assert torch.equal(mixed[0], images[0])
    assert torch.equal(mixed[1], images[2])
    torch.testing.assert_close(mixed[2], (images[2] + images[0]) / 2)


def test_cutmix_pastes_exactly_the_box(images):
    mixed = cutmix(images, PARTNER, torch.tensor([[1, 2, 3, 6]]))
    expected = images.clone()
    expected[:, :, 1:3, 2:6] = images[[1, 2, 0], :, 1:3, 2:6]
    assert torch.equal(mixed, expected)


def test_cutmix_takes_one_box_an_image(images):
    boxes = torch.tensor([[0, 0, 4, 6], [0, 0, 0, 0], [0, 0, 1, 1]])
    mixed = cutmix(images, PARTNER, boxes)
    assert torch.equal(mixed[0], images[1])
    assert torch.equal(mixed[1], images[1])
    assert (mixed[2] != images[2]).sum() == 2  # one pixel in each of two channels


def test_cutout_fills_exactly_the_box(images):
    holed = cutout(images, torch.tensor([[0, 1, 2, 3]]), fill=-1.0)
    expected = images.clone()
    expected[:, :, 0:2, 1:3] = -1
    assert torch.equal(holed, expected)


def test_box_mask_counts_the_pixels_of_the_box():
    mask = box_mask(torch.tensor([[1, 1, 3, 4], [0, 0, 4, 6]]), height=4, width=6)
    assert mask.shape == (2, 1, 4, 6)
    assert mask.sum(dim=(1, 2, 3)).tolist() == [2 * 3, 4 * 6]


def test_centred_boxes_have_their_size_unless_the_border_cuts_them():
    centres, sizes = torch.tensor([[4, 4], [0, 9], [5, 5]]), torch.tensor([[4, 2], [4, 4], [3, 3]])
    assert centred_boxes(centres, sizes, height=10, width=10).tolist() == [[2, 3, 6, 5], [0, 7, 2, 10], [4, 4, 7, 7]]


@pytest.mark.parametrize(
    ('function', 'parameters'),
    [
        (mixup, (PARTNER, torch.tensor([0.5]))),
        (cutmix, (PARTNER, torch.tensor([[0, 0, 2, 2]]))),
        (cutout, (torch.tensor([[0, 0, 2, 2]]),)),
    ],
)
def test_the_given_images_stay_as_they_are(images, function, parameters):
    before = images.clone()
    function(images, *parameters)
    assert torch.equal(images, before)
