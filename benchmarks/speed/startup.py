"""Measure time and memory of short commands: --help, an import, one prediction, and a training run of one iteration.

python benchmarks/speed/startup.py --rounds 5

Each command runs in a new process, right after ``python -c 'import torch'``. The result is the ratio of the command to
that import.
"""

from __future__ import annotations

import r2kd_mm  # isort: skip  # noqa: F401  first, because it cures what comes below

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import common

from r2kd_mm.environment import environment

ROOT = Path(__file__).resolve().parents[2]
TORCH = ['-c', 'import torch']
CONFIG = 'configs/kd/kd_res14_res6_digits.py'
# One iteration an epoch, and one epoch: the whole run, of which the first iteration is nearly the end.
ONE_ITERATION = ['train_cfg.max_epochs=1', 'train_dataloader.batch_size=300']
UNTRAINED = ['model.teacher_ckpt=None', 'model.allow_untrained_teacher=True']

# A process counts the memory of the one that started it, so a small one starts what is measured.
MEASURE = """
import resource, subprocess, sys
status = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(usage.ru_utime + usage.ru_stime, usage.ru_maxrss)
sys.exit(status)
"""


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=common.positive, default=5, help='of all commands (default: 5)')
    parser.add_argument('--out', type=Path, help='JSON file to write (default: one in results/)')
    parser.set_defaults(config=CONFIG)
    return parser.parse_args()


def commands(folder: Path) -> dict[str, list[str]]:
    """List the command lines to measure, without the interpreter; ``folder`` holds their input and output."""
    tools = ('train.py', 'test.py', 'compare.py', 'predict.py', 'model_converters/export_student.py')
    run = ['tools/train.py', CONFIG, '--work-dir', str(folder / 'run'), '--overwrite', '--no-validate']
    return {
        **{f'tools/{name} --help': [f'tools/{name}', '--help'] for name in tools},
        'import r2kd_mm': ['-c', 'import r2kd_mm'],
        'from r2kd_mm.losses import CorrelationDistanceLoss': [
            '-c',
            'from r2kd_mm.losses import CorrelationDistanceLoss',
        ],
        'predict one image, TorchScript': ['tools/predict.py', str(folder / 'export'), str(folder / '0.png')],
        'train the digits by KD for one iteration': [*run, '--cfg-options', *ONE_ITERATION, *UNTRAINED],
    }


def cost(command: Sequence[str]) -> tuple[float, float]:
    """Run Python with ``command``: seconds of the processor, and the highest resident memory in MB."""
    variables = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    done = subprocess.run(
        [sys.executable, '-c', MEASURE, sys.executable, *command],
        cwd=ROOT,
        env=variables,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f'{" ".join(command)} failed: {done.stderr[-2000:]}')
    time, kilobytes = map(float, done.stdout.split())
    return time, kilobytes / 1024


def prepare(folder: Path) -> None:
    """Train a student for one epoch and export it, with an image to show it."""
    import cv2

    from r2kd_mm.datasets import Digits
    from r2kd_mm.export import export_student

    cost(commands(folder)['train the digits by KD for one iteration'])
    export_student(folder / 'run/epoch_1.pth', folder / 'export', 'torchscript')
    cv2.imwrite(str(folder / '0.png'), Digits('test').get_data_info(0)['img'])


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Measure time and memory of each command, and their ratios to torch in the same round."""
    now = environment()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        measured: dict[str, dict] = {}
        for title, command in commands(folder).items():
            pairs = [(cost(TORCH), cost(command)) for _ in range(args.rounds + 1)][
                1:
            ]  # the first one fills the disk cache
            torch, own = ([list(values) for values in zip(*costs)] for costs in zip(*pairs))
            measured[title] = dict(
                seconds=common.quartiles(own[0]),
                torch_seconds=common.quartiles(torch[0]),
                ratio=common.ratio(own[0], torch[0]),
                megabytes=common.quartiles(own[1]),
                memory_ratio=common.ratio(own[1], torch[1]),
            )
    return dict(environment=now, measured=measured)


def report(result: Mapping[str, Any]) -> str:
    """Format the result as Markdown."""
    rows = [
        [
            name,
            common.with_quartiles(found['ratio'], 'ratio', digits=2),
            common.with_quartiles(found['seconds'], digits=2),
            common.with_quartiles(found['memory_ratio'], 'ratio', digits=2),
            f'{found["megabytes"]["median"]:.0f}',
        ]
        for name, found in result['measured'].items()
    ]
    head = ['command', "time over torch's", 'seconds of the processor', "memory over torch's", 'MB']
    return (
        '# What starting costs\n\nSeconds of the processor, user and system, of one process with one thread, and its '
        "highest resident memory; beside those of `python -c 'import torch'` right before it.\n\n"
        f'{common.table(head, rows)}\n{common.describe(result["environment"])}\n'
    )


if __name__ == '__main__':
    common.run(parse_args(), 'startup', measure, report)
