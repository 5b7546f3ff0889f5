"""Measure the cost of a network for one image: multiply-adds and latency."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from mmengine.analysis import FlopAnalyzer
from torch import Tensor, nn

WARM_UP, RUNS = 5, 30


def count_flops(network: nn.Module, images: Tensor) -> int:
    """Count the multiply-adds of one forward pass by ``mmengine.analysis``, which calls them FLOPs.

    >>> count_flops(nn.Linear(3, 2), torch.ones(1, 3))
    6
    """
    # it names the operators that it leaves out, and the loss as unused
    analyzer = FlopAnalyzer(network, images).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    return int(analyzer.total())


def measure_latency(predict: Callable[[Tensor], Tensor], images: Tensor) -> float:
    """Return the median time of :data:`RUNS` calls in milliseconds, after a warm-up.

    Example:
        >>> measure_latency(nn.Linear(3, 2), torch.ones(1, 3)) > 0
        True
    """
    times = []
    with torch.no_grad():
        for _ in range(WARM_UP + RUNS):
            start = time.perf_counter()
            predict(images)
            times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times[WARM_UP:])
