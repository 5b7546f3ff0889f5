"""Memory is measured as the benchmarks do."""

import sys
from pathlib import Path

import pytest

from r2kd_mm.planning.trace import FORMULAS

sys.path.append(str(Path(__file__).resolve().parents[2] / 'benchmarks/speed'))


def pytest_collection_modifyitems(items):
    for item in items:
        if FORMULAS is None and item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.skip(reason='a plan needs torch 2.2'))
