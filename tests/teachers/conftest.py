"""Provide a fixture for the tests of the teacher engine and of batch-norm folding."""

import pytest

from r2kd_mm.teachers import folding


@pytest.fixture
def log(monkeypatch):
    """The messages that the engine logs: (message, level)."""
    messages = []
    monkeypatch.setattr(folding, 'print_log', lambda text, logger, level: messages.append((text, level)))
    return messages
