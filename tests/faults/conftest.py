"""The faults that were injected, counted: a line of each test, and all of them at the end of the report."""

import pytest


@pytest.fixture
def count(record_property):
    """``count(line)``: say in the report what was counted."""
    return lambda line: record_property('counts', line)


def pytest_terminal_summary(terminalreporter):
    reports = [report for group in terminalreporter.stats.values() for report in group]
    lines = [
        line
        for report in reports
        if getattr(report, 'when', None) == 'call'
        for name, line in report.user_properties
        if name == 'counts'
    ]
    if lines:
        terminalreporter.section('faults')
        for line in lines:
            terminalreporter.write_line(line)
