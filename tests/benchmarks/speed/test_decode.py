"""The JPEG decoders that the benchmark compares give the same pixels, up to rounding."""

import decode
import numpy as np
import pytest


@pytest.mark.parametrize('name', decode.decoders())
def test_each_decoder_gives_the_pixels_of_opencv(name):
    found = decode.decoders()
    content = decode.jpeg(64)
    expected, pixels = found[decode.OURS](content), found[name](content)
    assert pixels.shape == expected.shape == (64, 64, 3)
    assert np.abs(pixels.astype(int) - expected).max() <= 1  # other versions of libjpeg-turbo may round differently


def test_the_table_shows_each_decoder_and_how_far_off_it_is():
    found = decode.decoders()
    brighter = {decode.OURS: found[decode.OURS], 'brighter': lambda content: found[decode.OURS](content) // 2 + 100}
    cases = decode.measure(64, brighter, rounds=1)
    text = decode.markdown(dict(sides={64: cases}, environment=dict(versions={})))
    pixels = found[decode.OURS](decode.jpeg(64)).astype(int)
    off = np.abs(pixels // 2 + 100 - pixels).max()
    assert cases['brighter']['difference'] == off > 0
    assert f'| {off} |' in text
