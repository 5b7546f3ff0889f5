"""Record FLOPs and memory traffic of each operator in a training step, and the memory that its tensors occupy."""

from __future__ import annotations

import bisect
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.utils import flop_counter
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from torch.utils.weak import WeakIdKeyDictionary

from r2kd_mm.engine.cli import RunStopped

# Formulas of the arithmetic by operator; torch 2.1 has none of this kind, and forgets the objects of its storages.
FORMULAS: dict[Any, Callable] | None = getattr(flop_counter, 'flop_registry', None)
STUDENT, REST = 'student', 'the rest'
BLOCK = 8  # channels, as oneDNN has them with AVX2, and tensor cores in 16 bits
MOST_CHANNELS_OF_AN_IMAGE = 3
CONVOLUTIONS = (torch.ops.aten.convolution, torch.ops.aten.convolution_backward)


@dataclass(frozen=True)
class Operator:
    """Operator that ran in a traced step, with its FLOPs and memory traffic.

    Attributes:
        part: Part of the step, such as a network, that the operator belongs to.
        flops: FLOPs of a matrix product or convolution; 0 for other operators.
        bytes: Memory that the operator reads and writes, in bytes.
        dtype: Data type that the operator computes in.
        is_convolution: Whether the operator is a convolution or the gradient of a convolution.

    Example:
        >>> Operator('student', flops=2000, bytes=480, dtype=torch.float32, is_convolution=False).flops
        2000
    """

    part: str
    flops: int
    bytes: int
    dtype: torch.dtype | None
    is_convolution: bool


class StepTrace(TorchDispatchMode):
    """Record every operator while the context is open, and the memory of every tensor until it is freed.

    The tensors may be real ones or those of PyTorch's ``FakeTensorMode``, which have no memory. PyTorch's own
    ``MemTracker`` counts in the same way, but knows modules and not the parts of a step, and is private.

    A backward operator belongs to the part of its forward operator. The number of the node in the graph says which.

    A convolution outside of the memory format ``channels_last`` may copy its operands into the format of its kernel.
    These copies count while its gradient is computed: oneDNN makes them there, and cuDNN where it runs in tensor cores.

    Attributes:
        operators: What ran, in this order.
        live: Bytes that are alive now, by part.
        peak: The most bytes that were alive at one time.
        at_peak: These by part.
        most: The most bytes that each part alone had at one time.

    Example:
        >>> with StepTrace() as trace:
        ...     product = torch.ones(8, 8) @ torch.ones(8, 8)
        >>> trace.operators[-1].flops, trace.peak
        (1024, 768)

    Raises:
        RunStopped: PyTorch is older than 2.2.
    """

    def __init__(self) -> None:
        if FORMULAS is None:
            raise RunStopped(f'a plan needs torch 2.2 or later, got torch {torch.__version__}')
        super().__init__()
        self.operators: list[Operator] = []
        self.live: Counter[str] = Counter()
        self.peak = 0
        self.at_peak: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self._total = 0
        self._sizes: Any = WeakIdKeyDictionary()  # of the storages that are alive: [part, bytes]
        self._parts: list[str] = []
        # from which node of the graph on each part begins
        self._first_nodes: list[int] = [0]
        self._part_of_nodes: list[str] = [STUDENT]

    def restart(self) -> None:
        """Forget what ran; what is alive stays."""
        self.operators, self.peak = [], 0
        self.most.clear()

    # ------------------------------------------------------------------------------------------------------- the parts
    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Ascribe what runs in this context, and its gradient, to a part."""
        self._parts.append(name)
        self._begin_nodes()
        try:
            yield
        finally:
            self._parts.pop()
            self._begin_nodes()

    def as_part(self, name: str, function: Callable) -> Callable:
        """Return ``function``, which then runs as a part."""

        @wraps(function)
        def within(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return function(*args, **kwargs)

        return within

    def ascribe(self, tensor: Tensor, name: str) -> None:
        """Ascribe the memory of ``tensor`` to another part."""
        size = self._sizes.get(tensor.untyped_storage())
        if size is not None:
            self.live[size[0]] -= size[1]
            self.live[name] += size[1]
            size[0] = name

    def rename(self, old: str, new: str) -> None:
        """Ascribe all memory of a part to another one."""
        for size in self._sizes.values():
            if size[0] == old:
                size[0] = new
        self.live[new] += self.live.pop(old, 0)

    def _begin_nodes(self) -> None:
        self._first_nodes.append(torch.autograd._get_sequence_nr())
        self._part_of_nodes.append(self._parts[-1] if self._parts else STUDENT)

    def _part(self) -> str:
        node = torch._C._current_autograd_node()
        if node is not None:
            # what a checkpoint computes again has later nodes; only the student has checkpoints
            number = node._sequence_nr()
            return self._part_of_nodes[bisect.bisect_right(self._first_nodes, number) - 1]
        return self._parts[-1] if self._parts else REST

    # ------------------------------------------------------------------------------------------------------ the memory
    def hold(self, tensor: Tensor) -> int:
        """Count the memory of ``tensor`` until it is freed; return the bytes that are new."""
        storage = tensor.untyped_storage()
        if storage in self._sizes:
            return 0
        size: list[Any] = [self._part(), storage.nbytes()]
        self._sizes[storage] = size
        weakref.finalize(storage, self._free, size).atexit = False
        self.live[size[0]] += size[1]
        self._total += size[1]
        self.most[size[0]] = max(self.most[size[0]], self.live[size[0]])
        self._look()
        return size[1]

    def _free(self, size: list) -> None:
        self.live[size[0]] -= size[1]
        self._total -= size[1]

    def _look(self, name: str = '', extra: int = 0) -> None:
        if self._total + extra > self.peak:
            self.peak = self._total + extra
            self.at_peak = Counter(self.live)
            if extra:
                self.at_peak[name] += extra

    # --------------------------------------------------------------------------------------------------- the operators
    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Run one operator and record it."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        inputs, outputs = _tensors((args, kwargs)), _tensors(result)
        new = sum(self.hold(output) for output in outputs)
        name = self._part()
        packet = func._overloadpacket
        count = (FORMULAS or {}).get(packet)
        flops = count(*args, **kwargs, out_val=result) if count else 0
        moved = sum(map(_bytes, inputs)) + sum(map(_bytes, outputs)) if new or func._schema.is_mutable else 0
        dtype = next((tensor.dtype for tensor in inputs if tensor.is_floating_point()), None)
        self.operators.append(Operator(name, flops, moved, dtype, packet in CONVOLUTIONS))
        if packet is torch.ops.aten.convolution_backward:
            self._look(f'{name}: copies in a convolution', sum(map(_copied, inputs)))
        return result


def _tensors(values: Any) -> list[Tensor]:
    return [value for value in tree_flatten(values)[0] if isinstance(value, Tensor)]


def _bytes(tensor: Tensor) -> int:
    """Return the memory that the numbers of a tensor occupy; an expanded one repeats numbers."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())


def _copied(tensor: Tensor) -> int:
    """Return the memory of a copy of an operand of a convolution, unless it is in the format of the kernels.

    The copy has its channels in blocks, the last of which is filled up. Images have too few channels for a block.
    """
    if tensor.dim() != 4:
        return 0
    is_fitting = tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous()
    if is_fitting:
        return 0
    channels = tensor.shape[1]
    blocks = -(-channels // BLOCK)
    return _bytes(tensor) if channels <= MOST_CHANNELS_OF_AN_IMAGE else _bytes(tensor) * blocks * BLOCK // channels
