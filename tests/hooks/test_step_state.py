"""The weights and buffers of before a bad step are restored bit for bit."""

import pytest
import torch
from torch import nn

from r2kd_mm.hooks.step_state import Buffers, Kept
from r2kd_mm.teachers.known_weights import dense_parts

VALUES = {
    torch.bool: [True, False],
    torch.uint8: [7, 250],
    torch.int64: [-(2**62), 3],
    torch.float16: [float('nan'), -0.0],
    torch.bfloat16: [float('-inf'), 1e-30],
    torch.float32: [float('nan'), -0.0],
    torch.float64: [1e-300, float('inf')],
    torch.complex64: [1 - 2j, complex('nan')],
    torch.complex128: [1 - 2j, complex('nan')],
}


def in_bytes(tensor):
    return tensor.reshape(-1).view(torch.uint8).tolist()


@pytest.mark.parametrize('is_good', [False, True])
@pytest.mark.parametrize('dtype', VALUES, ids=str)
def test_tensors_of_every_type_come_back_unless_the_step_is_good(dtype, is_good):
    tensors = [torch.tensor(VALUES[dtype], dtype=dtype), torch.tensor(VALUES[dtype][0], dtype=dtype)]
    before = list(map(in_bytes, tensors))
    kept = Kept()
    kept.keep(tensors)
    for tensor in tensors:
        tensor.copy_(torch.ones_like(tensor) if dtype is not torch.bool else ~tensor)
    after = list(map(in_bytes, tensors))
    kept.put_back_unless(torch.tensor(is_good))
    assert list(map(in_bytes, tensors)) == (after if is_good else before)


@pytest.mark.parametrize('moves_before', [False, True])
def test_a_tensor_that_was_given_other_memory_comes_back(moves_before):
    network = nn.BatchNorm1d(3)
    tensors = network.running_mean, network.weight
    buffers, kept = Buffers(network), Kept()
    kept.keep([network.weight])
    if moves_before:
        for tensor in tensors:
            tensor.data = torch.tensor([5.0, 6.0, 7.0])
    buffers.keep()
    kept.keep([network.weight])
    expected = [tensor.detach().clone() for tensor in tensors]
    for tensor in tensors:  # the step
        tensor.data = torch.full((3,), torch.nan)
    buffers.put_back()
    kept.put_back_unless(torch.tensor(False))
    torch.testing.assert_close([tensor.detach() for tensor in tensors], expected, rtol=0, atol=0)


def sparse_network(layout):
    network = nn.Module()
    values = torch.tensor([[0.0, 2.0], [3.0, 0.0]])
    blocks = dict(blocksize=(1, 1)) if layout in (torch.sparse_bsr, torch.sparse_bsc) else {}
    network.register_buffer('links', values.to_sparse(layout=layout, **blocks))
    return network


SPARSE = [torch.sparse_coo, torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc]


@pytest.mark.parametrize('layout', SPARSE, ids=str)
def test_values_of_a_sparse_buffer_are_watched_and_come_back(layout):
    network = sparse_network(layout)
    buffers = Buffers(network)
    values = dense_parts(network.links)[-1]
    values.view(-1)[1] = torch.inf  # the step
    assert {name: value.item() for name, value in buffers.largest().items()} == {'links': torch.inf}
    buffers.put_back_unless(torch.tensor(True))
    assert values.isinf().any()
    buffers.put_back_unless(torch.tensor(False))
    assert network.links.to_dense().tolist() == [[0, 2], [3, 0]]


def test_a_sparse_buffer_that_gained_values_is_refused_in_words():
    network = sparse_network(torch.sparse_coo)
    buffers = Buffers(network)
    network.links.add_(torch.eye(2).to_sparse())
    with pytest.raises(RuntimeError, match='another number of values'):
        buffers.put_back()


def test_a_buffer_that_cannot_be_kept_is_refused_in_words():
    network = nn.Module()
    network.register_buffer('scales', torch.quantize_per_tensor(torch.ones(2, 3), 0.1, 0, torch.qint8))
    with pytest.raises(TypeError, match=r'buffer of shape \(2, 3\) is quantized'):
        Buffers(network)
