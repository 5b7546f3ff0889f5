"""ShuffleNetV2 for small images differs from mmpretrain's network only in its stem."""

import torch
from mmpretrain.models import ShuffleNetV2

from r2kd_mm.backbones import CIFARShuffleNetV2


def test_from_the_first_stage_on_it_is_the_network_of_mmpretrain():
    ours, theirs = CIFARShuffleNetV2().eval(), ShuffleNetV2(widen_factor=1.0)
    for stage, layer in zip(theirs.layers, ours.stages):
        layer.load_state_dict(stage.state_dict())
    theirs.train(False)
    theirs.conv1, theirs.maxpool = ours.conv1, torch.nn.Identity()
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(ours(x)[0], theirs(x)[0])


def test_the_stem_keeps_the_resolution():
    assert CIFARShuffleNetV2().eval().conv1(torch.zeros(1, 3, 32, 32)).shape == (1, 24, 32, 32)
