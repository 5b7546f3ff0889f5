"""Make the memory measurement of benchmarks/speed importable, and skip these tests if torch is older than 2.2."""

import sys
from pathlib import Path

import pytest

from r2kd_mm.planning.trace import FORMULAS

sys.path.append(str(Path(__file__).resolve().parents[2] / 'benchmarks/speed'))


def pytest_collection_modifyitems(items):
    for item in items:
        if FORMULAS is None and item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.skip(reason='a plan needs torch 2.2'))
