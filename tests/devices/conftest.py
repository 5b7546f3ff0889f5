"""Run the tests of this folder on the simulated accelerator of ``pretend.py``, each file in its own process.

A process can register the device only once, before its first backward pass, and cannot remove it again. So the
tests of a file run in a second pytest, which is a fork of a process that has only imported PyTorch and MMEngine. The
second pytest sends the reports back.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import pytest
import toolbox
from devices import pretend, process

HERE = Path(__file__).parent
_reports = pytest.StashKey[dict]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_reports] = {}


def _is_mine(item: pytest.Item) -> bool:
    return item.path.parent == HERE and not pretend.is_registered()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == HERE and not pretend.IS_POSSIBLE:
            item.add_marker(pytest.mark.skip(reason=pretend.REASON))


def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    """Report a test of this folder, after its file was run."""
    if not _is_mine(item) or not pretend.IS_POSSIBLE:
        return None
    config, reports = item.config, item.config.stash[_reports]
    if item.nodeid not in reports:
        names = [other.nodeid for other in item.session.items if other.path == item.path]
        reports.update(_run_apart(config, names))
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for content in reports[item.nodeid]:
        report = config.hook.pytest_report_from_serializable(config=config, data=content)
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def _run_apart(config: pytest.Config, names: list[str]) -> dict[str, list[dict]]:
    """Return the reports of the tests by name."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    child = toolbox.forkserver().Process(target=process.run, args=(names, str(config.rootpath), sender))
    child.start()
    sender.close()
    reports: dict[str, list[dict]] = {name: [] for name in names}
    while True:
        try:
            name, content = receiver.recv()
        except EOFError:
            break
        reports[name].append(content)
    child.join(toolbox.TIMEOUT)
    for name in names:
        if not any(content['when'] == 'teardown' for content in reports[name]):
            broken = pytest.TestReport(
                name, ('', None, name), {}, 'failed', f'the process of the device ended: {child.exitcode}', 'call'
            )
            reports[name].append(config.hook.pytest_report_to_serializable(config=config, report=broken))
    return reports


@pytest.fixture(autouse=True)
def _device(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let each test know the device."""
    with pretend.in_use():
        yield
