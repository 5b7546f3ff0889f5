"""Back up tensors such as weights and buffers before an optimizer step, and restore them to undo the step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from r2kd_mm.teachers.known_weights import dense_parts

# Integers of as many bytes as a number.
INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class Kept:
    """Backup of tensors; a flag on the GPU decides whether they are restored, without synchronising with the CPU.

    Example:
        >>> weights, kept = [torch.tensor([1.0, 2.0])], Kept()
        >>> kept.keep(weights)
        >>> _ = weights[0].fill_(torch.nan)
        >>> kept.put_back_unless(torch.tensor(True))  # the step is good
        >>> weights
        [tensor([nan, nan])]
        >>> kept.put_back_unless(torch.tensor(False))
        >>> weights
        [tensor([1., 2.])]
    """

    def __init__(self) -> None:
        self._tensors: list[Tensor] = []
        self._places: list[int] = []  # in memory; an assignment to ``tensor.data`` changes them
        self._bits: list[tuple[list[Tensor], list[Tensor]]] = []  # of the tensors, and of their kept values

    @torch.no_grad()
    def keep(self, tensors: Sequence[Tensor]) -> None:
        """Keep the present values of ``tensors``."""
        is_same = len(tensors) == len(self._tensors) and all(map(_is_same, tensors, self._tensors))
        if not is_same or self._have_moved():
            self._tensors, self._places = list(tensors), _places(tensors)
            self._bits = [(group, [bits.clone() for bits in group]) for group in _as_bits(tensors)]
            return
        for now, kept in self._bits:
            torch._foreach_copy_(kept, now)

    @torch.no_grad()
    def put_back(self) -> None:
        """Give the tensors their kept values."""
        self._follow()
        for bits, kept in self._bits:
            torch._foreach_copy_(bits, kept)

    @torch.no_grad()
    def put_back_unless(self, is_good: Tensor) -> None:
        """Give the tensors their kept values if ``is_good``, a flag on their device, is false.

        The integers of the same bits are computed as ``kept + (now - kept) * is_good``: integers wrap around, so this
        is exact, also where a number is NaN. It takes a few operations for all tensors together.
        """
        self._follow()
        for bits, kept in self._bits:
            torch._foreach_sub_(bits, kept)
            torch._foreach_mul_(bits, is_good.to(bits[0]))
            torch._foreach_add_(bits, kept)

    def _have_moved(self) -> bool:
        return _places(self._tensors) != self._places

    def _follow(self) -> None:
        """Find the tensors that were given another memory since they were kept."""
        if self._have_moved():
            self._places = _places(self._tensors)
            self._bits = [(now, kept) for now, (_, kept) in zip(_as_bits(self._tensors), self._bits)]
            if any(_shapes(now) != _shapes(kept) for now, kept in self._bits):
                raise RuntimeError(
                    'a tensor has another shape, or a sparse one another number of values, than before the step, which '
                    'therefore cannot be taken back; change values alone, or register a new buffer in place of the old'
                )


def _is_same(one: Tensor, other: Tensor) -> bool:
    return one is other


def _shapes(tensors: Sequence[Tensor]) -> list[torch.Size]:
    return [tensor.shape for tensor in tensors]


def _places(tensors: Sequence[Tensor]) -> list[int]:
    return [part.data_ptr() for tensor in tensors for part in dense_parts(tensor)]


def _as_bits(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    """View tensors, or the parts of sparse ones, as integers, in groups of one type and device."""
    groups: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    for part in (part for tensor in tensors for part in dense_parts(tensor)):
        real = torch.view_as_real(part.detach()) if part.is_complex() else part.detach()
        bits = real.view(INTEGERS[real.element_size()])
        groups.setdefault((bits.dtype, bits.device), []).append(bits)
    return list(groups.values())


class Buffers:
    """Buffers of a network before and after a step, also buffers that the step makes or replaces."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._before: dict[str, Tensor] = {}
        self._kept = Kept()
        self._not_finite: set[str] = set()  # before the step, such as a mask of minus infinity
        self.keep()

    def keep(self) -> None:
        """Keep the present state as the state before the step."""
        self._tables = [(module, dict(module._buffers)) for module in self._network.modules() if module._buffers]
        is_new = self.are_replaced()
        self._before = dict(self._network.named_buffers())
        self._kept.keep(list(self._before.values()))
        if is_new:
            self._not_finite = set()
            self._not_finite.update(names_not_finite(self.largest()))

    def are_replaced(self) -> bool:
        """Return whether the step has made or replaced a buffer."""
        now = dict(self._network.named_buffers())
        return now.keys() != self._before.keys() or any(now[name] is not self._before[name] for name in now)

    def put_back(self) -> None:
        """Restore the buffers of before the step: the same tensors with the same values."""
        self._kept.put_back()
        for module, buffers in self._tables:
            module._buffers.clear()
            module._buffers.update(buffers)

    def put_back_unless(self, is_good: Tensor) -> None:
        """Restore the values of the buffers if ``is_good``, a flag on their device, is false."""
        self._kept.put_back_unless(is_good)

    @torch.no_grad()
    def largest(self) -> dict[str, Tensor]:
        """Return the largest magnitude of each buffer that was finite before the step."""
        watched = {
            name: dense_parts(buffer)[-1]  # the values, where it is sparse
            for name, buffer in self._network.named_buffers()
            if buffer.is_floating_point() and buffer.numel() and name not in self._not_finite
        }
        watched = {name: values for name, values in watched.items() if values.numel()}
        if not watched:
            return {}
        norms = dict(zip(watched, torch._foreach_norm(list(watched.values()), float('inf'))))
        # a buffer that the step has made may be a mask: there only NaN is wrong
        return {
            name: norm if name in self._before else norm.masked_fill(norm.isinf(), 0) for name, norm in norms.items()
        }


def names_not_finite(largest: dict[str, Tensor]) -> list[str]:
    """Return the names of the buffers that became infinite or NaN in the step."""
    return [name for name, value in largest.items() if not value.isfinite()]
