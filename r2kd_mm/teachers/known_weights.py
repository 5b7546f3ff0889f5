"""Detect whether the weights of a network have changed since a copy was made."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from r2kd_mm.devices import HOST_LIKE, Arriving

# How often, in calls, all weights of a network are compared with those that were copied; each call compares a share.
COMPARISON_INTERVAL = 100
# Methods that give the parts of a tensor, by its layout.
_ROWS, _COLUMNS = ('crow_indices', 'col_indices', 'values'), ('ccol_indices', 'row_indices', 'values')
PARTS: dict[torch.layout, tuple[str, ...]] = {
    torch.strided: (),
    torch.sparse_coo: ('_indices', '_values'),
    torch.sparse_csr: _ROWS,
    torch.sparse_bsr: _ROWS,
    torch.sparse_csc: _COLUMNS,
    torch.sparse_bsc: _COLUMNS,
}
MOST_ARRIVING = 8  # results of comparisons that may be on their way from a GPU


class KnownWeights:
    """Snapshot of the weights and buffers of a network, with their version counters."""

    def __init__(self, network: nn.Module) -> None:
        self.versions = self._versions(network)
        self.values = [tensor.detach().clone() for tensor in tensors_of(network)]
        self.times_asked = 0
        floats = sum(tensor.numel() for tensor in self.values if tensor.is_floating_point())
        self._share = floats / COMPARISON_INTERVAL
        self._turn = itertools.cycle(range(len(self.values)))
        self._changed: Tensor | None = None  # on a GPU: whether the last comparison found a difference
        self._arriving: deque[Arriving] = deque()  # the results of earlier comparisons

    def are_those_of(self, network: nn.Module) -> bool:
        """Return whether no weight of ``network`` was replaced, moved or changed in place since.

        Raises:
            RuntimeError: A weight was written through ``.data``, which has no version. Each call compares some weights
                in turn, a hundredth of all. So a write of all weights, as by an average, is seen before the copy is
                used again. All are compared at the first, second, fourth, ... and each 100th call: a comparison of all
                takes a part of the time of a forward pass. On a GPU the error comes some calls later, because nobody
                waits for the comparison; until then :meth:`unless_changed` gives NaN.
        """
        if self.versions != self._versions(network):
            return False
        self.times_asked += 1
        is_due = self.times_asked & (self.times_asked - 1) == 0 or self.times_asked % COMPARISON_INTERVAL == 0
        tensors = list(tensors_of(network))
        compared = range(len(tensors)) if is_due else self._next_in_turn()
        if not self._are_equal([(self.values[place], tensors[place]) for place in compared]):
            raise RuntimeError(
                f'the weights of {type(network).__name__} were written through .data, which PyTorch does not count, so '
                'the logits of the copy that the teacher engine prepared are out of date; write them in place under '
                "torch.no_grad(), as by weight.copy_(...), or set teacher_engine='plain'"
            )
        return True

    def unless_changed(self, logits: Tensor) -> Tensor:
        """Return the ``logits``; on a GPU, NaN instead if a weight was found to be changed.

        So wrong logits teach nothing in the calls until the host knows.
        """
        return logits if self._changed is None else logits.masked_fill(self._changed, torch.nan)

    def _are_equal(self, pairs: list[tuple[Tensor, Tensor]]) -> bool:
        """Return whether no comparison has found a difference so far, without waiting for a GPU."""
        if not pairs or pairs[0][0].device.type in HOST_LIKE:
            return all(_are_equal(*pair) for pair in pairs)
        changed = torch.stack([_differ(*pair) for pair in pairs]).any()
        self._changed = changed if self._changed is None else self._changed | changed
        self._arriving.append(Arriving(self._changed))
        while self._arriving and (self._arriving[0].is_there or len(self._arriving) > MOST_ARRIVING):
            if self._arriving.popleft().read():
                return False
        return True

    def _next_in_turn(self) -> list[int]:
        places: list[int] = []
        values = 0
        while values < self._share:
            places.append(next(self._turn))
            if self.values[places[-1]].is_floating_point():  # counters of batch norm may well stay as they are
                values += self.values[places[-1]].numel()
        return places

    @staticmethod
    def _versions(network: nn.Module) -> tuple:
        whole = itertools.chain(network.parameters(), network.buffers())
        places = tuple(part.data_ptr() for part in tensors_of(network))
        return places, tuple(tensor._version for tensor in whole)


def tensors_of(network: nn.Module) -> Iterable[Tensor]:
    """Return all parameters and buffers of a network; of a sparse one, the tensors that it is made of."""
    for tensor in itertools.chain(network.parameters(), network.buffers()):
        yield from dense_parts(tensor)


def dense_parts(tensor: Tensor) -> list[Tensor]:
    """Return the tensors in whose memory the numbers of ``tensor`` are; itself, unless it is sparse.

    Raises:
        TypeError: Its layout is neither dense nor sparse, or it is quantized.

    Example:
        >>> [part.tolist() for part in dense_parts(torch.eye(2).to_sparse())]
        [[[0, 1], [0, 1]], [1.0, 1.0]]
    """
    if tensor.layout not in PARTS or tensor.is_quantized:
        kind = 'quantized' if tensor.is_quantized else f'of layout {tensor.layout}'
        raise TypeError(
            f'a parameter or buffer of shape {tuple(tensor.shape)} is {kind}, and its values cannot be kept to compare '
            'them or to put them back; keep it as a dense or sparse tensor, or as a plain attribute of its module'
        )
    names = PARTS[tensor.layout]
    return [getattr(tensor.detach(), name)() for name in names] if names else [tensor]


def _are_equal(first: Tensor, second: Tensor) -> bool:
    return torch.equal(first, second) or torch.allclose(first, second, rtol=0, atol=0, equal_nan=True)


def _differ(first: Tensor, second: Tensor) -> Tensor:
    """Return whether any value differs, on their device; NaN equals NaN."""
    return ((first != second) & ((first == first) | (second == second))).any()
