import argparse

import common
import peers
import pytest

SMALL = dict(teacher='test_efficientnet', student='test_efficientnet_ln', classes=4, image_size=32, batch_size=4)


def arguments(**changed):
    return argparse.Namespace(**{**SMALL, 'rounds': 2, 'threads': 1, **changed})


@pytest.mark.slow
def test_every_case_trains_on_the_loss_of_timm_and_is_timed_next_to_it():
    result = peers.measure(arguments())
    assert list(result['views']) == ['clean', 'CutMix']
    for cases in result['views'].values():
        assert {'timm', 'ours, plain', 'ours, exact', 'ours, fast, bf16 channels_last'} <= cases.keys()
        for name, case in cases.items():
            assert len(case['seconds']) == 2
            assert case['difference'] <= (0.05 if 'bf16' in name else peers.TOLERANCE)
    text = peers.to_markdown(result)
    assert text.count('| ours, exact |') == 2
    assert common.describe(result['environment']) in text


def test_networks_that_see_other_images_are_refused():
    with pytest.raises(ValueError, match='test_efficientnet and test_resnet are normalised by another mean'):
        peers.measure(arguments(student='test_efficientnet', teacher='test_resnet'))


@pytest.mark.slow
def test_a_case_that_computes_something_else_is_not_reported(monkeypatch):
    other = peers.by_us
    monkeypatch.setattr(peers, 'by_us', lambda engine: lambda *networks: doubled(other(engine)(*networks)))
    with pytest.raises(ValueError, match='ours, plain does not compute what timm does'):
        peers.measure(arguments())


def doubled(loss):
    return lambda images, labels: 2 * loss(images, labels)
