"""Train in bfloat16 mixed precision (autocast) on GPU or CPU, without a gradient scaler."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.device import get_device
from mmengine.optim import OptimWrapper
from torch import nn

from r2kd_mm.devices import computes_in_bf16
from r2kd_mm.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(OptimWrapper):
    """Optimizer wrapper that runs the forward pass under bfloat16 autocast, on a GPU or on the CPU.

    It replaces MMEngine's ``AmpOptimWrapper``, which asserts a GPU and builds a gradient scaler through a deprecated
    name. bfloat16 has the exponent range of float32, so gradients need no scaling, and a step does not wait
    for the GPU.

    Raises:
        ValueError: The GPU has no bfloat16 arithmetic.

    Example:
        >>> network = nn.Linear(4, 3)
        >>> wrapper = AutocastOptimWrapper(torch.optim.SGD(network.parameters(), lr=0.1))
        >>> with wrapper.optim_context(network):
        ...     network(torch.zeros(2, 4, device=next(network.parameters()).device)).dtype
        torch.bfloat16
    """

    def __init__(self, *args, **kwargs) -> None:
        if get_device() == 'cuda' and not computes_in_bf16(torch.device('cuda')):
            raise ValueError(
                f'{torch.cuda.get_device_name()} has no bfloat16 arithmetic, which AutocastOptimWrapper '
                "(--amp) needs; use type='OptimWrapper' (leave --amp out), or type='AmpOptimWrapper'"
            )
        super().__init__(*args, **kwargs)

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Add autocast to OptimWrapper's context, which skips gradient synchronisation during accumulation."""
        with super().optim_context(model), torch.autocast(get_device(), dtype=torch.bfloat16):
            yield
