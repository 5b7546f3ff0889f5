"""The data-parallel wrapper, in a group of one process; tests/e2e covers two processes."""

import inspect
import warnings

import pytest
import toolbox
import torch
import toys
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from r2kd_mm.engine import PortableDistributedDataParallel
from r2kd_mm.engine import distributed as module
from r2kd_mm.registry import MODELS


@pytest.fixture
def group(monkeypatch):
    """A gloo group of this process alone."""
    port = toolbox.free_port()
    monkeypatch.setenv('LOCAL_RANK', '0')
    torch.distributed.init_process_group('gloo', init_method=f'tcp://127.0.0.1:{port}', rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.fixture
def model(group) -> nn.Module:
    return MODELS.build(dict(toys.classifier(), _scope_='r2kd_mm'))


def test_the_wrapper_of_mmengine_fails_on_the_cpu(model):
    with pytest.raises(ValueError, match='device_ids'):
        MMDistributedDataParallel(module=model, device_ids=[0])


def test_device_ids_are_ignored_on_the_cpu_and_nothing_is_deprecated(model):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        wrapped = PortableDistributedDataParallel(model, device_ids=[0])
    assert wrapped.device_ids is None
    assert wrapped.module is model


@pytest.mark.parametrize(
    ('signature', 'name'),
    [(lambda forward_sync_buffers: ..., 'forward_sync_buffers'), (lambda broadcast_buffers: ..., 'broadcast_buffers')],
)
def test_the_buffer_flag_is_called_as_this_torch_calls_it(monkeypatch, signature, name):
    monkeypatch.setattr(module, 'DistributedDataParallel', signature)
    assert module._sync_buffers_argument() == name


@pytest.mark.parametrize('sync', [True, False])
def test_the_buffer_flag_arrives(model, monkeypatch, sync):
    given = {}
    real = inspect.signature(DistributedDataParallel)

    def record(self, *args, **kwargs):
        given.update(real.bind(*args, **kwargs).arguments)
        nn.Module.__init__(self)

    expected = module._sync_buffers_argument()
    monkeypatch.setattr(module, '_sync_buffers_argument', lambda: expected)
    monkeypatch.setattr(DistributedDataParallel, '__init__', record)
    PortableDistributedDataParallel(model, sync_buffers=sync, find_unused_parameters=True)
    assert given[expected] is sync
    assert given['find_unused_parameters'] is True


def test_an_unknown_argument_is_refused(model):
    with pytest.raises(TypeError, match='broadcast_bufers'):
        PortableDistributedDataParallel(model, broadcast_bufers=False)


def test_a_training_step_changes_the_parameters(model):
    wrapped = PortableDistributedDataParallel(model)
    before = [parameter.clone() for parameter in model.parameters()]
    images, samples = toys.batch()
    wrapped.train_step(
        dict(inputs=images, data_samples=samples), OptimWrapper(torch.optim.SGD(wrapped.parameters(), lr=0.1))
    )
    assert all(not torch.equal(old, new) for old, new in zip(before, model.parameters()))
