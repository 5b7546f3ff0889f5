"""Every backbone can return and freeze its stages, and mmrazor can record their outputs."""

import pytest
import torch
from mmrazor.models.task_modules import RecorderManager
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from r2kd_mm.backbones import (
    CIFARVGG,
    CIFARMobileNetV2,
    CIFARResNet,
    CIFARShuffleNetV1,
    CIFARShuffleNetV2,
    CIFARWideResNet,
    MobileNetV1,
)

# how to build each, and (channels, size) of its stages for images of 32 pixels
BACKBONES = {
    CIFARResNet: (dict(depth=8), [(16, 32), (32, 16), (64, 8)]),
    CIFARWideResNet: (dict(depth=10, widen_factor=2), [(32, 32), (64, 16), (128, 8), (128, 8)]),
    CIFARVGG: (dict(depth=8), [(64, 32), (128, 16), (256, 8), (512, 4), (512, 4)]),
    CIFARMobileNetV2: (
        dict(widen_factor=0.5),
        [(8, 16), (12, 16), (16, 8), (32, 4), (48, 4), (80, 2), (160, 2), (1280, 2)],
    ),
    CIFARShuffleNetV1: (dict(), [(240, 16), (480, 8), (960, 4)]),
    CIFARShuffleNetV2: (dict(), [(116, 16), (232, 8), (464, 4), (1024, 4)]),
    MobileNetV1: (dict(), [(64, 16), (128, 8), (256, 4), (512, 2), (1024, 1)]),
}


@pytest.fixture(params=BACKBONES, ids=lambda backbone: backbone.__name__)
def case(request):
    """A function that builds the backbone with further arguments, and the shapes of its stages."""
    settings, stages = BACKBONES[request.param]
    return lambda **more: request.param(**settings, **more), stages


def images(size: int = 32) -> torch.Tensor:
    return torch.randn(2, 3, size, size)


def test_returns_every_stage_at_its_size(case):
    build, stages = case
    maps = build(out_indices=range(len(stages))).eval()(images())
    assert [tuple(feature.shape) for feature in maps] == [(2, channels, size, size) for channels, size in stages]


def test_returns_the_last_stage_by_default(case):
    build, stages = case
    (feature,) = build().eval()(images())
    assert feature.shape[1:] == (stages[-1][0], stages[-1][1], stages[-1][1])


def test_twice_the_image_is_twice_the_map(case):
    build, stages = case
    (feature,) = build().eval()(images(64))
    assert feature.shape[-1] == 2 * stages[-1][1]


def assert_frozen(network: nn.Module, frozen_stages: int) -> None:
    frozen_names = ['conv1', *(f'layer{number}' for number in range(1, 9))][: frozen_stages + 1]
    for name, child in network.named_children():
        frozen = name in frozen_names
        assert all(module.training is not frozen for module in child.modules()), name
        assert all(parameter.requires_grad is not frozen for parameter in child.parameters()), name


def test_frozen_stages_stay_in_eval_mode_without_gradient(case):
    build, stages = case
    for frozen_stages in (-1, 0, 2, len(stages)):
        network = build(frozen_stages=frozen_stages)
        assert_frozen(network, frozen_stages)  # at once, since optimizers are built before train() is called
        assert_frozen(network.eval().train(), frozen_stages)


@pytest.mark.parametrize('norm_eval', [False, True])
def test_norm_eval_keeps_the_running_statistics(case, norm_eval):
    build, _ = case
    network = build(norm_eval=norm_eval).train()
    before = {name: value.clone() for name, value in network.named_buffers()}
    network(images())
    unchanged = {torch.equal(value, before[name]) for name, value in network.named_buffers()}
    assert unchanged == {norm_eval}


def test_norm_cfg_reaches_every_layer(case):
    build, _ = case
    network = build(norm_cfg=dict(type='GN', num_groups=1))
    kinds = [type(module) for module in network.modules()]
    assert nn.GroupNorm in kinds
    assert not any(issubclass(kind, _BatchNorm) for kind in kinds)


def test_mmrazor_taps_every_stage(case):
    build, stages = case
    network = build(out_indices=range(len(stages))).eval()
    names = [f'layer{number}' for number in range(1, len(stages) + 1)]
    recorders = RecorderManager({name: dict(type='ModuleOutputs', source=name) for name in names})
    recorders.initialize(network)
    with recorders:
        maps = network(images())
    for name, feature in zip(names, maps):
        assert torch.equal(recorders.get_recorder(name).get_record_data(), feature)


def test_every_weight_gets_a_gradient(case):
    build, _ = case
    network = build().eval()  # in training, batch normalisation takes the gradient of a bias before it
    network(images())[0].square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in network.parameters())


def test_train_and_eval_return_the_network(case):
    build, _ = case
    network = build()
    assert network.eval() is network
    assert network.train() is network


def test_refuses_stages_that_are_not_there(case):
    build, stages = case
    count = len(stages)
    with pytest.raises(ValueError, match=rf'out_indices must be .* in \[0, {count - 1}\], got \({count},\)'):
        build(out_indices=(count,))
    with pytest.raises(ValueError, match=r'out_indices must be one or more stages .* got \(\)'):
        build(out_indices=())
    with pytest.raises(ValueError, match=rf'frozen_stages must be in \[-1, {count}\], got {count + 1}'):
        build(frozen_stages=count + 1)
