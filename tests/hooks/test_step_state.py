"""The state before a step comes back bit for bit."""

import pytest
import torch
from torch import nn

from r2kd_mm.hooks.step_state import Buffers, Kept

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
