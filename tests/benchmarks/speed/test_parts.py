"""The parts of a training step are timed separately, and the bytes of its operators are counted."""

from types import SimpleNamespace

import parts
import torch


def test_an_inner_part_stops_the_outer_one(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(parts, 'time', SimpleNamespace(perf_counter=lambda: now[0]))
    clock = parts.PartClock()
    clock.restart()
    with clock.part('teachers'):
        now[0] += 2
        with clock.part('losses'):
            now[0] += 5
            clock.rename('backward')
            now[0] += 1
        now[0] += 16
    now[0] += 32
    passed = {name: seconds for name, seconds in clock.stop().items() if seconds}
    assert passed == dict(teachers=18, losses=5, backward=1, rest=32)


def test_operators_are_counted_with_their_bytes_and_views_are_free():
    left, right = torch.randn(3, 5), torch.randn(5, 7)
    with parts.Meter(parts.PartClock()) as meter:
        (left @ right).t().view(7, 3)
    assert meter.operators == {'rest': [(2 * 3 * 5 * 7, 4 * (3 * 5 + 5 * 7 + 3 * 7), torch.float32)]}


def test_the_roofline_of_an_operator_is_its_scarcer_resource():
    ceilings = dict(float32=10.0, bfloat16=40.0, bytes=2.0)
    operators = [(100, 1, torch.float32), (100, 1, torch.bfloat16), (1, 100, torch.float32)]
    assert parts.roofline_seconds(operators, ceilings) == 100 / 10 + 100 / 40 + 100 / 2


def test_what_is_held_counts_each_storage_once():
    network = torch.nn.Linear(100, 10, bias=False)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    assert parts.held_bytes([network, optimizer, network.weight[:5]]) == 4 * 1000
    network(torch.ones(1, 100)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    assert parts.held_bytes([network, optimizer]) == 2 * 4 * 1000
