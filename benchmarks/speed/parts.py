"""Time each part of a training step, such as teachers, losses and backward pass, and count its FLOPs and bytes."""

from __future__ import annotations

import gc
import math
import statistics
import time
import types
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from cases import Case
from common import seconds, synchronize
from mmengine.device import get_device
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from r2kd_mm.distillers.student import logits_module

PARTS = ('teachers', 'augmentation', 'student forward', 'losses', 'backward', 'optimizer', 'preprocessing', 'rest')


class PartClock:
    """A stopwatch for each part of a step; where parts are nested, only the innermost is timed.

    Attributes:
        seconds: Time of each part so far, including the work of the device.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._open = ['rest']
        self._since = time.perf_counter()

    @property
    def current(self) -> str:
        """The part that runs."""
        return self._open[-1]

    def _book(self) -> None:
        synchronize()
        now = time.perf_counter()
        self.seconds[self.current] += now - self._since
        self._since = now

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the operations inside as part ``name``."""
        self._book()
        self._open.append(name)
        try:
            yield
        finally:
            self._book()
            self._open.pop()

    def rename(self, name: str) -> None:
        """Give the innermost part the name ``name`` from now on."""
        self._book()
        self._open[-1] = name

    def restart(self) -> None:
        """Start again at 0."""
        self._book()
        self.seconds.clear()

    def stop(self) -> dict[str, float]:
        """Return the seconds of all :data:`PARTS` since the start."""
        self._book()
        return {name: self.seconds[name] for name in PARTS}


@contextmanager
def watched(case: Case, clock: PartClock) -> Iterator[None]:
    """Let ``clock`` follow the steps of ``case``."""

    def as_part(function: Callable, name: str) -> Callable:
        def timed(*args: Any, **kwargs: Any) -> Any:
            with clock.part(name):
                return function(*args, **kwargs)

        return timed

    def mark_logits(_module: nn.Module, _args: tuple, logits: Tensor) -> None:
        if logits.requires_grad:  # its gradient is there: the losses have been differentiated, the network comes next
            logits.register_hook(lambda _gradient: clock.rename('backward'))

    with ExitStack() as stack:
        methods = {part: list(pairs) for part, pairs in case.watched.items()}
        methods['optimizer'] = [(case.optim_wrapper.optimizer, name) for name in ('step', 'zero_grad')]
        for part, pairs in methods.items():
            for owner, method in pairs:
                stack.enter_context(patch.object(owner, method, as_part(getattr(owner, method), part)))
        stack.enter_context(patch.object(Tensor, 'backward', as_part(Tensor.backward, 'losses')))
        handle = logits_module(case.student).register_forward_hook(mark_logits)
        stack.callback(handle.remove)
        yield


class Meter(TorchDispatchMode):
    """A counter of the operators of each part of a step.

    Attributes:
        operators: Part to the FLOP, the bytes read and written, and the data type of each operator.

    Args:
        clock: Clock that knows the present part.
    """

    def __init__(self, clock: PartClock) -> None:
        super().__init__()
        self.clock = clock
        self.operators: dict[str, list[tuple[int, int, torch.dtype]]] = defaultdict(list)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if func._overloadpacket not in flop_registry:
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        result = func(*args, **kwargs)
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        outputs = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        sources = {tensor.untyped_storage().data_ptr() for tensor in inputs}
        is_view = not func._schema.is_mutable and all(out.untyped_storage().data_ptr() in sources for out in outputs)
        flop_of = flop_registry.get(func._overloadpacket)
        flop = flop_of(*args, **kwargs, out_val=result) if flop_of else 0
        moved = 0 if is_view else sum(map(size_in_bytes, inputs + outputs))
        if flop or moved:
            self.operators[self.clock.current].append((flop, moved, inputs[0].dtype if inputs else torch.float32))
        return result


def size_in_bytes(tensor: Tensor) -> int:
    """Count the bytes of a tensor, each place in memory once."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())


def measure_ceilings() -> dict[str, float]:
    """Measure FLOP per second in float32 and bf16, and bytes per second of a copy; the best of five.

    The FLOP are those of a matrix product or of a convolution, whichever is faster.
    """
    side, images, length = (8192, 1024, 2**30) if torch.cuda.is_available() else (1024, 16, 2**27)
    channels, size, kernel = 256, 16, 3  # of a convolution that keeps the size of its images

    def best(action: Callable[[], object]) -> float:
        action()
        return min(seconds(action) for _ in range(5))

    ceilings = {}
    for dtype in (torch.float32, torch.bfloat16):
        options: dict[str, Any] = dict(device=get_device(), dtype=dtype)
        left, right = (torch.randn(side, side, **options) for _ in range(2))
        product = 2 * side**3 / best(partial(torch.matmul, left, right))
        inputs = torch.randn(images, channels, size, size, **options).to(memory_format=torch.channels_last)
        weight = torch.randn(channels, channels, kernel, kernel, **options).to(memory_format=torch.channels_last)
        flop = 2 * inputs.numel() * channels * kernel**2
        convolution = flop / best(partial(torch.conv2d, inputs, weight, padding=kernel // 2))
        ceilings[str(dtype).removeprefix('torch.')] = max(product, convolution)
    source = torch.zeros(length, dtype=torch.uint8, device=get_device())
    ceilings['bytes'] = 2 * length / best(partial(torch.empty_like(source).copy_, source))
    return ceilings


def roofline_seconds(operators: list[tuple[int, int, torch.dtype]], ceilings: Mapping[str, float]) -> float:
    """Compute the least time that the operators need, one after the other, at the measured ceilings."""
    low_precision = (torch.bfloat16, torch.float16)
    return sum(
        max(
            flop / ceilings['bfloat16' if dtype in low_precision else 'float32'],
            moved / ceilings['bytes'],
        )
        for flop, moved, dtype in operators
    )


def held_bytes(owner: Any) -> int:
    """Count the bytes of all tensors that ``owner`` keeps between two steps: weights, prepared copies, momenta."""
    storages: dict[int, int] = {}
    seen: set[int] = set()
    pending = [owner]
    elsewhere = (type, types.ModuleType, types.FunctionType, types.CodeType)  # leads to what is global
    while pending:
        thing = pending.pop()
        if id(thing) in seen or isinstance(thing, elsewhere):
            continue
        seen.add(id(thing))
        if isinstance(thing, Tensor):
            storages[thing.untyped_storage().data_ptr()] = thing.untyped_storage().nbytes()
        pending += gc.get_referents(thing)
    return sum(storages.values())


def measure_parts(case: Case, batch: Callable[[], dict], rounds: int) -> dict[str, Any]:
    """Measure the seconds of each part in each of ``rounds`` steps, and count the operators of one step."""
    clock = PartClock()
    steps = []
    with watched(case, clock):
        for _ in range(rounds):
            data = batch()
            clock.restart()
            case.step(data)
            steps.append(clock.stop())
        with Meter(clock) as meter:
            case.step(batch())
    median = {part: statistics.median(step[part] for step in steps) for part in PARTS}
    shares = {part: median[part] / sum(median.values()) for part in PARTS}
    return dict(rounds=steps, seconds=median, shares=shares, operators=meter.operators)


def summarize_operators(parts: Mapping[str, Any], ceilings: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Sum up FLOP, bytes and fraction of the roofline of each part that has operators."""
    summary = {}
    for part, operators in parts['operators'].items():
        bound = roofline_seconds(operators, ceilings)
        summary[part] = dict(
            flop=sum(flop for flop, _, _ in operators),
            bytes=sum(moved for _, moved, _ in operators),
            roofline_seconds=bound,
            fraction=bound / parts['seconds'][part] if parts['seconds'][part] else math.nan,
        )
    return summary
