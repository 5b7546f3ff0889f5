import statistics

import torch
from torch import nn

from r2kd_mm import cost


def test_a_convolution_costs_a_multiply_add_for_each_weight_and_place():
    convolution = nn.Conv2d(3, 8, 3, padding=1, bias=False)
    assert cost.count_flops(convolution, torch.zeros(1, 3, 10, 10)) == 10 * 10 * 8 * 3 * 3 * 3


def test_the_latency_is_the_median_of_the_calls_after_the_warm_up(monkeypatch):
    ticks = iter(range(1000))
    monkeypatch.setattr(cost.time, 'perf_counter', lambda: next(ticks) ** 2)  # each call takes longer than the last one
    calls = []
    latency = cost.measure_latency(lambda images: calls.append(images) or images, torch.zeros(1))
    seconds = [4 * call + 1 for call in range(cost.WARM_UP + cost.RUNS)]
    assert len(calls) == len(seconds)
    assert latency == 1000 * statistics.median(seconds[cost.WARM_UP :])
