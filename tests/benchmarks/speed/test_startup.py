import argparse
from pathlib import Path

import common
import pytest
import startup


def test_a_command_costs_time_and_memory_and_one_that_fails_says_why():
    (idle, small), (busy, large) = (
        startup.cost(['-c', code]) for code in ('pass', 'x = bytearray(10**8); sum(range(3 * 10**7))')
    )
    assert busy > idle + 0.1
    assert large > small + 90
    with pytest.raises(RuntimeError, match='ZeroDivisionError'):
        startup.cost(['-c', '1 / 0'])


@pytest.mark.slow
def test_commands_are_measured_next_to_torch(monkeypatch):
    shown = {'import r2kd_mm', 'train the digits by KD for one iteration', 'predict one image, TorchScript'}
    every = startup.commands
    assert shown < every(Path('any')).keys()
    monkeypatch.setattr(startup, 'commands', lambda folder: {key: every(folder)[key] for key in sorted(shown)})
    result = startup.measure(argparse.Namespace(rounds=1))
    measured = result['measured']
    assert measured.keys() == shown
    assert all(line['ratio']['ratio'] > 0 for line in measured.values())
    text = startup.report(result)
    assert all(f'| {name} | ' in text for name in measured)
    assert common.describe(result['environment']) in text
