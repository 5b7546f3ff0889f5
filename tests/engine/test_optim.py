"""bfloat16 autocast in the Runner, on the CPU."""

import pytest
import torch
import toys
from mmengine.optim import AmpOptimWrapper
from torch import nn

from r2kd_mm.engine import AutocastOptimWrapper
from r2kd_mm.engine import optim as module


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1)


@pytest.mark.skipif(torch.cuda.is_available(), reason='AmpOptimWrapper has its GPU')
def test_the_wrapper_of_mmengine_wants_a_gpu():
    with pytest.raises(AssertionError, match='only available training on gpu'):
        AmpOptimWrapper(optimizer=sgd(nn.Linear(2, 2)))


def test_the_forward_pass_is_bfloat16_and_the_gradient_float32():
    layer = nn.Linear(4, 3).to(module.get_device())
    wrapper = AutocastOptimWrapper(optimizer=sgd(layer))
    inputs = torch.ones(2, 4, device=module.get_device())
    with wrapper.optim_context(layer):
        output = layer(inputs)
    assert output.dtype == torch.bfloat16
    assert layer(inputs).dtype == torch.float32
    wrapper.backward(output.float().sum())
    assert layer.weight.grad.dtype == torch.float32
    assert 'loss_scaler' not in wrapper.state_dict()


def test_gradient_synchronisation_is_left_out_while_accumulating():
    entered = []

    class Model(nn.Linear):
        def no_sync(self):
            entered.append(True)
            return torch.no_grad()

    model = Model(2, 2)
    wrapper = AutocastOptimWrapper(optimizer=sgd(model), accumulative_counts=2)
    with wrapper.optim_context(model):
        pass
    assert entered == [True]


def test_the_runner_trains_with_it(tmp_path):
    dtypes = []

    def training(optim_wrapper: str):
        runner = toys.runner(
            toys.classifier(),
            tmp_path,
            optim_wrapper=dict(type=optim_wrapper, optimizer=dict(type='SGD', lr=0.05), clip_grad=dict(max_norm=5.0)),
        )
        runner.model.backbone.register_forward_hook(lambda _, __, out: dtypes.append(out[0].dtype))
        runner.train()
        return runner.message_hub.get_scalar('train/loss').data[0]

    mixed = training('AutocastOptimWrapper')
    assert torch.bfloat16 in dtypes
    assert torch.isfinite(torch.tensor(mixed)).all()
    dtypes.clear()
    full = training('OptimWrapper')
    assert torch.bfloat16 not in dtypes
    assert mixed[0] == pytest.approx(full[0], rel=0.02)  # before the first step; bfloat16 has 8 bits of mantissa


def test_a_gpu_without_bfloat16_is_named(monkeypatch):
    monkeypatch.setattr(module, 'get_device', lambda: 'cuda')
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: (7, 5))
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda: 'Old GPU')
    with pytest.raises(ValueError, match=r'Old GPU has no bfloat16 arithmetic.*leave --amp out'):
        AutocastOptimWrapper(optimizer=sgd(nn.Linear(2, 2)))
