"""Check which modules a tool or a module imports at its start; no time is measured."""

import importlib.util
import json
import subprocess
import sys

import exports
import pytest
import toolbox

from r2kd_mm.export import FORMATS, export_student

TOOLS = sorted(
    str(path.relative_to(toolbox.ROOT / 'tools'))
    for path in (toolbox.ROOT / 'tools').rglob('*.py')
    if "if __name__ == '__main__'" in path.read_text()
)
STACK = ('mmengine.runner', 'mmengine.model', 'mmpretrain', 'mmrazor')
HEAVY = (*STACK, 'torchvision', 'scipy', 'sklearn', 'matplotlib', 'pandas', 'transformers')
TORCH = ('torch', 'torchvision', 'cv2', 'mmcv')
# R2KD in a loop of one's own
DISTILL = """
import torch
from r2kd_mm.distillers import Distillation

student, teacher = (torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3)) for _ in range(2))
losses = Distillation.r2kd(student, teacher)(torch.randn(6, 3, 2, 2), torch.arange(6) % 3)
assert len(losses) == 5
"""
IMPORTS = {
    'import r2kd_mm': (*HEAVY, *TORCH, 'mmengine', 'numpy'),
    'from r2kd_mm.engine import RunStopped, clear_errors': (*HEAVY, *TORCH, 'mmengine', 'numpy'),
    'from r2kd_mm.engine.arguments import add_run_arguments': (*HEAVY, *TORCH),
    'from r2kd_mm.functional import spearman': (*HEAVY, 'cv2', 'mmcv'),
    'from r2kd_mm.losses import CorrelationDistanceLoss': (*HEAVY, 'cv2', 'mmcv', 'mmengine.dist'),
    'from r2kd_mm.checkpoint import load_checkpoint_file': HEAVY,
    'from r2kd_mm.datasets import LoadImageFromFile': HEAVY,
    DISTILL: ('mmengine.runner', 'mmpretrain', 'mmrazor'),
}
LIGHT_FORMATS = sorted(
    name
    for name, form in FORMATS.items()
    if name != 'mmpretrain' and all(importlib.util.find_spec(package) for package in form.packages)
)

# Take one step after the other, from light to heavy, and say after each which of its modules are there.
SCRIPT = """
import contextlib, io, json, runpy, sys
def take(step):
    if step[0] == 'import':
        exec(step[1], {})
        return
    sys.argv = step[1]
    sys.path.insert(0, sys.argv[0].rpartition('/')[0])
    try:
        runpy.run_path(sys.argv[0], run_name='__main__')
    except SystemExit as leaving:
        assert not leaving.code, (step, leaving.code)
    finally:
        del sys.path[0]
for name, kind, what, forbidden in json.loads(sys.stdin.read()):
    with contextlib.redirect_stdout(io.StringIO()):
        take((kind, what))
    print(json.dumps([name, sorted(set(forbidden) & sys.modules.keys())]), flush=True)
"""


def seen(steps: list) -> dict[str, list[str]]:
    """The forbidden modules that were there after each step; all steps are taken in one process."""
    process = subprocess.run(
        [sys.executable, '-c', SCRIPT],
        input=json.dumps(steps),
        capture_output=True,
        text=True,
        env=toolbox.environment(),
        cwd=toolbox.ROOT,
        timeout=toolbox.TIMEOUT,
    )
    assert process.returncode == 0, process.stderr
    return dict(json.loads(line) for line in process.stdout.splitlines())


@pytest.fixture(scope='module')
def at_start() -> dict[str, list[str]]:
    """The forbidden modules that were there after each import and each ``--help``, lightest first."""
    tools = [(name, 'run', [str(toolbox.ROOT / 'tools' / name), '--help'], (*HEAVY, *TORCH)) for name in TOOLS]
    imports = [(line, 'import', line, forbidden) for line, forbidden in IMPORTS.items()]
    return seen([*imports[:3], *tools, *imports[3:]])


@pytest.mark.parametrize('name', [*TOOLS, *IMPORTS])
def test_no_more_is_imported_than_is_asked_for(name, at_start):
    assert at_start[name] == []


def test_every_tool_is_among_them():
    assert {'train.py', 'predict.py', 'check_env.py', 'dataset_converters/prepare_cub200.py'} <= set(TOOLS)
    assert len(TOOLS) >= 20


@pytest.mark.slow
def test_a_prediction_imports_what_its_format_needs(tmp_path):
    checkpoint = exports.write_checkpoint(tmp_path / 'student.pth')
    image = exports.write_digits(tmp_path / 'images', 1)[0]
    predict = str(toolbox.ROOT / 'tools/predict.py')
    steps = []
    for name in LIGHT_FORMATS:
        export_student(checkpoint, tmp_path / name, name)
        steps.append((name, 'run', [predict, str(tmp_path / name), str(image)], (*STACK, 'sklearn', 'torchvision')))
    assert seen(steps) == {name: [] for name in LIGHT_FORMATS}
