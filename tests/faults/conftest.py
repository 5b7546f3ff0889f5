"""Let each test report how many faults it injected; pytest prints these lines at the end of the report."""

from collections.abc import Callable

import pytest


@pytest.fixture
def count(record_property) -> Callable[[str], None]:
    """``count(line)``: say in the report what was counted; tests/conftest.py prints it."""
    return lambda line: record_property('counts', line)
