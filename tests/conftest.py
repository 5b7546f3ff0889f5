"""Fixtures that several test folders share."""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from mmengine.logging import MessageHub, MMLogger
from mmengine.visualization import Visualizer

import r2kd_mm  # noqa: F401  its cures are needed where a test imports mmrazor

LONGEST = ('test_commands.py', 'test_kills.py', 'test_nodes.py')
REFERENCE_DIR = Path(__file__).resolve().parents[2] / 'shared' / 'reference'


@pytest.fixture(scope='session')
def reference_dir() -> Path:
    """Values computed with the authors' released code; they are not part of the repository."""
    if not REFERENCE_DIR.is_dir():
        pytest.skip('the reference values of the released code are not on this machine (../shared/reference)')
    return REFERENCE_DIR


@pytest.fixture(scope='session')
def runner_checkpoint(tmp_path_factory) -> Path:
    """A checkpoint as MMEngine's Runner writes it."""
    import toys

    work_dir = tmp_path_factory.mktemp('run')
    schedule = dict(type='MultiStepLR', milestones=[1])  # its milestones are a collections.Counter
    toys.runner(toys.classifier(), work_dir, param_scheduler=schedule).train()
    return work_dir / 'epoch_1.pth'


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope='module')
def _forget_runs() -> Iterator[None]:
    """Let go of what MMEngine keeps of each run by its name, a megabyte and an open file."""
    yield
    for kind in (MessageHub, MMLogger, Visualizer):
        for instance in kind._instance_dict.values():
            for handler in getattr(instance, 'handlers', ()):
                handler.close()
        kind._instance_dict.clear()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take minutes, so that no worker ends with one of them alone."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


def pytest_collection_finish() -> None:
    """Leave what was imported and collected out of the searches for garbage, of which mmengine makes one a data set."""
    gc.freeze()


def pytest_terminal_summary(terminalreporter) -> None:
    """Print what tests/faults counted; here, since with several workers the main process reads no other conftest."""
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
