"""The faults that were injected, counted: a line of each test, and all of them at the end of the report."""

from collections.abc import Callable

import pytest


@pytest.fixture
def count(record_property) -> Callable[[str], None]:
    """``count(line)``: say in the report what was counted; tests/conftest.py prints it."""
    return lambda line: record_property('counts', line)
