"""The fixes for mmcv: without the fix the fault is still there, with the fix it is gone."""

import warnings

import mmcv
import numpy as np
import pytest
from mmengine.utils import digit_version

from r2kd_mm.compat.mmcv import _adjust_hue, ignore_missing_operators


def test_mmpretrain_warns_untouched_and_not_through_us(upstream):
    assert 'MultiScaleDeformableAttention' in upstream['mmpretrain import'], 'the fault is gone: drop the cure'

    def load():
        warnings.warn('Fail to import ``MultiScaleDeformableAttention`` from ``mmcv.ops``', stacklevel=1)
        warnings.warn('something else', stacklevel=1)

    with pytest.warns(UserWarning, match='something else') as caught:
        ignore_missing_operators(load)
    assert [str(warning.message) for warning in caught] == ['something else']


class TestHue:
    @pytest.fixture
    def image(self) -> np.ndarray:
        return np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)

    @pytest.mark.skipif(digit_version(np.__version__) < digit_version('2'), reason='numpy 1 wraps negative numbers')
    def test_a_negative_factor_fails_untouched(self, upstream):
        assert 'OverflowError' in upstream['hue'], 'the fault is gone: drop the cure'

    @pytest.mark.parametrize('backend', ['cv2', 'pillow'])
    @pytest.mark.parametrize('factor', [0.1, 0.3])
    def test_backwards_undoes_forwards(self, image, backend, factor):
        there_and_back = mmcv.adjust_hue(mmcv.adjust_hue(image, factor, backend=backend), -factor, backend=backend)
        assert np.abs(there_and_back.astype(int) - image).mean() < 3  # HSV in 8 bits rounds
        changed = mmcv.adjust_hue(image, -factor, backend=backend)
        assert np.abs(changed.astype(int) - image).mean() > 10

    @pytest.mark.parametrize('backend', ['cv2', 'pillow'])
    def test_our_path_equals_mmcv_where_both_work(self, image, backend):
        def refuse(*args):
            raise OverflowError

        expected = mmcv.adjust_hue(image, 0.3, backend=backend)
        np.testing.assert_array_equal(_adjust_hue(refuse, image, 0.3, backend), expected)

    def test_mmcv_still_checks_the_factor(self, image):
        with pytest.raises(ValueError, match=r'hue_factor:-0\.6 is not in'):
            mmcv.adjust_hue(image, -0.6, backend='cv2')

    def test_color_jitter_runs_with_hue(self, image):
        from mmpretrain.registry import TRANSFORMS

        jitter = TRANSFORMS.build(dict(type='ColorJitter', hue=(-0.2, -0.1)))
        assert jitter(dict(img=image))['img'].shape == image.shape
