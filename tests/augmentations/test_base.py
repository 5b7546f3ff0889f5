"""The context of an augmentation undoes the normalisation of the data preprocessor."""

import pytest
import torch

from r2kd_mm.augmentations import BatchDraws, ViewContext
from r2kd_mm.registry import MODELS


@pytest.mark.parametrize('normalisation', [{}, dict(mean=[120.0, 110.0, 100.0], std=[60.0, 50.0, 40.0])])
def test_the_context_undoes_what_the_preprocessor_did(normalisation):
    preprocessor = MODELS.build(dict(type='ClsDataPreprocessor', **normalisation))
    pixels = torch.randint(256, (2, 3, 4, 4)).float()
    images = preprocessor(dict(inputs=pixels))['inputs']
    context = ViewContext.behind(preprocessor, BatchDraws(torch.Generator()), lambda images: images)
    if normalisation:
        torch.testing.assert_close(images * context.std + context.mean, pixels)
    else:
        assert (context.mean, context.std) == (None, None)
        assert torch.equal(images, pixels)
