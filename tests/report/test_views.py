"""The pictures of a report show the images as they were before normalisation."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmpretrain.models import ClsDataPreprocessor

from r2kd_mm.augmentations import CutMix
from r2kd_mm.report import views


@pytest.mark.parametrize(('channels', 'to_rgb'), [(1, False), (3, False), (3, True)])
def test_pixels_come_back_in_rgb(channels, to_rgb):
    preprocessor = ClsDataPreprocessor(mean=[100.0, 110.0, 120.0][:channels], std=[50.0] * channels, to_rgb=to_rgb)
    given = torch.randint(256, (2, channels, 4, 5), dtype=torch.uint8)
    normalised = preprocessor(dict(inputs=given))['inputs']
    pixels = views.to_pixels(normalised, preprocessor, bgr=not to_rgb)
    expected = given.flip(1).permute(0, 2, 3, 1).numpy()  # files are read as BGR
    assert np.array_equal(pixels, np.broadcast_to(expected, (2, 4, 5, 3)))


def test_images_from_files_are_bgr_unless_they_were_turned():
    def config(loader, **normalise):
        pipeline = [dict(type=loader), dict(type='PackInputs')]
        return Config(
            dict(
                model=dict(),
                data_preprocessor=normalise,
                val_dataloader=dict(dataset=dict(type='Wrapper', datasets=[dict(dataset=dict(pipeline=pipeline))])),
            )
        )

    assert views.is_bgr(config('r2kd_mm.datasets.LoadImageFromFile'), 'val_dataloader')
    assert not views.is_bgr(config('LoadImageFromFile', to_rgb=True), 'val_dataloader')
    assert not views.is_bgr(config('RandomFlip'), 'val_dataloader')


def test_the_view_is_decided_by_its_seed():
    images, preprocessor = torch.randn(6, 1, 8, 8), ClsDataPreprocessor()
    first, again, other = (views.augmented_view(CutMix(), images, None, preprocessor, seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_most_probable_classes_are_named_with_their_probabilities():
    logits = torch.tensor([[0.1, 0.2, 0.3, 0.4]]).log()
    assert views.top_classes(logits, 'abcd') == ['d: 40 %\nc: 30 %\nb: 20 %']
    assert views.top_classes(logits[:, :2], 'ab') == ['b: 67 %\na: 33 %']


def test_images_of_every_class_are_shown_before_a_second_of_one():
    assert views.spread_out(torch.tensor([2, 2, 0, 1, 0]), 4) == [2, 3, 0, 4]
