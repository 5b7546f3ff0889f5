"""Run all checks of this package that need a GPU, and write the results to one Markdown file.

    make gpu                    # needs a GPU; PYTHON= names a Python that has the packages
    make gpu DEVICE=pretend     # needs no GPU: runs the checks that the simulated device of the tests can do

Each group of checks runs in its own process with a time limit. If a group fails or hangs, the others still run. The
report is written after every group.
"""

from __future__ import annotations

import argparse
import getpass
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PARTS_FILE = Path(__file__).with_name('parts.py')
DEVICES = ('cuda', 'pretend')
NO_GPU = 'PyTorch finds no GPU here (torch.cuda.is_available() is False); make gpu DEVICE=pretend needs none'
SHOWN_LINES = 12


@dataclass(frozen=True)
class Part:
    """One section of the report.

    Attributes:
        name: Its function in ``parts.py``.
        title: Its heading.
        seconds: Time limit.
        needs_cards: Number of GPUs that it needs; 0 if the simulated device will do.
    """

    name: str
    title: str
    seconds: int
    needs_cards: int = 0


PARTS = (
    Part('machine', 'Machine', 60),
    Part('losses', 'Losses: agreement with the CPU', 90),
    Part('augmentations', 'Augmented views: agreement with the CPU', 60),
    Part('engines', 'Teacher engines: agreement with the CPU', 90),
    Part('waits', 'Where a step waits', 90),
    Part('finite', 'A step that is not finite', 60),
    Part('precision', 'Mixed precision, and a fused optimizer under a gradient scaler', 90, needs_cards=1),
    Part('determinism', 'Two runs with deterministic=True', 60, needs_cards=1),
    Part('compiled', 'torch.compile and CUDA graphs', 150, needs_cards=1),
    Part('speed', 'Step time and memory of ResNet-50 to MobileNetV1, next to tools/plan_run.py', 150, needs_cards=1),
    Part('fsdp', 'FullyShardedDataParallel, on one card or two', 90, needs_cards=1),
    Part('cards', 'Two cards: NCCL, DistributedDataParallel, SyncBN', 90, needs_cards=2),
)


@dataclass(frozen=True)
class Outcome:
    """Hold what became of a part: ``'ok'``, ``'failed'`` or ``'not run'``, and its text."""

    status: str
    text: str
    seconds: float = 0.0


def run_part(part: Part, device: str, seconds: float) -> Outcome:
    """Run a part in a process of its own, for at most ``seconds``."""
    paths = [str(ROOT), str(ROOT / 'tests'), str(ROOT / 'benchmarks/speed')]
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(paths), 'CUBLAS_WORKSPACE_CONFIG': ':4096:8'}
    command = [sys.executable, str(PARTS_FILE), part.name, device]
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=dict(environment, TMPDIR=folder),
            cwd=folder,
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            output, _ = process.communicate()
            return Outcome('failed', f'still ran after {seconds:.0f} s\n\n{as_code(output)}', time.monotonic() - start)
    took = time.monotonic() - start
    found = re.search(r'<report>\n(.*)</report>', output, re.DOTALL)
    text = found[1] if found else ''
    if process.returncode or not found:
        return Outcome('failed', f'{text}\n\n{as_code(output)}', took)
    return Outcome('ok', text, took)


def as_code(output: str) -> str:
    """Return the last lines of ``output`` as a block of code."""
    lines = [line for line in output.splitlines() if line.strip() and '</report>' not in line and line != '<report>']
    return '\n'.join(['```text', *lines[-SHOWN_LINES:], '```'])


def without_places(text: str) -> str:
    """Return ``text`` without paths, host and user."""
    text = text.replace(str(ROOT) + os.sep, '')
    text = re.sub(r'(?<![\w.:/])(?:/[\w.+-]+)+/(?=[\w.+-])', '.../', text)
    for private in (socket.gethostname(), getpass.getuser()):
        text = re.sub(rf'\b{re.escape(private)}\b', '...', text)
    return text


def to_markdown(device: str, outcomes: dict[str, Outcome]) -> str:
    """Return the report."""
    lines = [f'# {device}: what a GPU shows', '', '| part | outcome | seconds |', '| --- | --- | --- |']
    for part in PARTS:
        outcome = outcomes.get(part.name, Outcome('not run', ''))
        lines.append(f'| {part.title} | {outcome.status} | {outcome.seconds:.0f} |')
    for part in PARTS:
        outcome = outcomes.get(part.name, Outcome('not run', 'the report was interrupted before'))
        lines += ['', f'## {part.title}', '', f'**{outcome.status}**', '', outcome.text.strip()]
    return without_places('\n'.join(lines).rstrip() + '\n')


def count_cards() -> int:
    """Return the number of GPUs that PyTorch finds, in a process of its own: a driver may hang."""
    code = 'import torch; print(torch.cuda.device_count() if torch.cuda.is_available() else 0)'
    try:
        done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        return 0
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ['?'])[-1]
        raise SystemExit(f'error: {sys.executable} cannot import torch: {last}; name another: make gpu PYTHON=...')
    return int(done.stdout.split()[-1])


def main() -> None:
    """Run all parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--device', choices=DEVICES, default='cuda')
    parser.add_argument('--minutes', type=float, default=8.0, help='time for all parts (default %(default)s)')
    parser.add_argument('--parts', nargs='+', choices=[part.name for part in PARTS], help='run only these')
    parser.add_argument('--out', type=Path, help='default: work_dirs/gpu/report_<device>.md')
    args = parser.parse_args()
    cards = count_cards() if args.device == 'cuda' else 0
    if args.device == 'cuda' and not cards:
        raise SystemExit(f'error: {NO_GPU}')
    out = args.out or ROOT / f'work_dirs/gpu/report_{args.device}.md'
    out.parent.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * args.minutes
    outcomes: dict[str, Outcome] = {}
    for part in PARTS:
        left = end - time.monotonic()
        if args.parts and part.name not in args.parts:
            outcomes[part.name] = Outcome('not run', 'not asked for')
        elif part.needs_cards > cards:
            outcomes[part.name] = Outcome('not run', f'needs {part.needs_cards} GPU(s), and there are {cards}')
        elif left < 10:
            outcomes[part.name] = Outcome('not run', f'the {args.minutes:g} minutes were over; give --minutes more')
        else:
            print(f'{part.title} ...', flush=True)
            limit = part.seconds * (3 if args.device == 'pretend' else 1)  # the CPU does the work of the GPU
            outcomes[part.name] = run_part(part, args.device, min(limit, left))
        out.write_text(to_markdown(args.device, outcomes))
    counts = {status: sum(outcome.status == status for outcome in outcomes.values()) for status in ('ok', 'failed')}
    print(json.dumps(counts), f'written to {out}')
    raise SystemExit(1 if counts['failed'] else 0)


if __name__ == '__main__':
    main()
