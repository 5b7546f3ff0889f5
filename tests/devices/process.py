"""Run tests on the simulated device in this process, and send the reports to the main pytest process."""

from __future__ import annotations

import contextlib
import gc
import io
from multiprocessing.connection import Connection

import pytest
from devices import pretend


class _Sender:
    """Send the report of each test to the process that was asked for it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def pytest_configure(self, config: pytest.Config) -> None:
        self.config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        content = self.config.hook.pytest_report_to_serializable(config=self.config, report=report)
        self.connection.send((report.nodeid, content))


def run(names: list[str], root: str, connection: Connection) -> None:
    """Run the tests ``names`` with the device."""
    gc.freeze()  # mmengine looks for garbage at each data set, and all that was imported is none
    pretend.register()
    options = ['-q', '-p', 'no:cacheprovider', '-p', 'no:xdist', f'--rootdir={root}']
    output = io.StringIO()
    with connection, contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        code = pytest.main([*options, *names], plugins=[_Sender(connection)])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise RuntimeError(f'pytest itself failed: {output.getvalue()}')
