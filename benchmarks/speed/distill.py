"""Time each stage of `r2kd-mm distill`, from 480 photos to an exported student and its HTML page.

python benchmarks/speed/distill.py OUT --skimage SKIMAGE/data

SKIMAGE is an unpacked wheel of scikit-image 0.26.0, or the installed package. The photos are 480 squares cut from
twelve of its pictures; `benchmarks/accuracy/small_folders.py` says where their licences stand. Training uses the left
half of a picture, validation the right half. The teacher is a timm network; each student comes from another library.
All start from random weights. Each student is one call of the command, in a process of its own.
"""

from __future__ import annotations

import r2kd_mm  # isort: skip  # noqa: F401  first, because it cures what comes below

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import common

from r2kd_mm.environment import environment
from r2kd_mm.report.table import markdown_table

sys.path.insert(0, str(Path(__file__).parents[1] / 'accuracy'))
from small_folders import CROPPED, write_crops

TRAIN, VAL = 28, 12  # photos of each of the twelve classes
SIDE = 96  # pixels of a photo
TEACHER = 'timm/test_resnet'
HF = 'hf'  # stands for a folder that is written first
STUDENTS = (
    'timm/test_efficientnet', 'mmpretrain/mobilenet-v3-small_8xb128_in1k', 'torchvision/shufflenet_v2_x0_5', HF,
)  # fmt: skip
# What the command prints when a stage begins; the first one begins with the process
MARKS = {'look, and check': None, 'teacher': 'Teacher', 'students': 'Student', 'export, page': '| network '}


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('out', type=Path, help='folder for photos and runs')
    parser.add_argument('--skimage', type=Path, required=True, help='folder data of scikit-image')
    parser.add_argument(
        '--students', nargs='*', default=STUDENTS, help='default: one of each library; none: photos alone'
    )
    parser.add_argument('--epochs', type=common.positive, default=20, help='default: %(default)s')
    parser.add_argument('--image-size', type=common.positive, default=48, help='default: %(default)s')
    parser.add_argument('--threads', type=common.positive, default=2, help='default: %(default)s')
    parser.add_argument('--result', type=Path, default=common.RESULTS / 'distill_480.json', help='JSON file to write')
    return parser.parse_args()


def make_photos(root: Path, skimage: Path, train: int = TRAIN, val: int = VAL) -> None:
    """Write the photos."""
    names = [name.partition('.')[0] for name in CROPPED]
    write_crops(root, skimage, train, val, 0, names, SIDE)


def hf_folder(out: Path) -> str:
    """Write a small ResNet of transformers with random weights, and return its name."""
    from transformers import ResNetConfig, ResNetForImageClassification

    folder = out / 'hf_resnet'
    if not folder.is_dir():
        shape = dict(embedding_size=16, hidden_sizes=[16, 32, 64], depths=[1, 1, 1], layer_type='basic')
        ResNetForImageClassification(ResNetConfig(**shape)).save_pretrained(folder)
    return f'hf/{folder}'


def timed(command: list[str], threads: int) -> tuple[dict[str, float], str]:
    """Run the command and return the seconds of each stage, and what it printed."""
    variables = {**os.environ, 'OMP_NUM_THREADS': str(threads), 'PYTHONUNBUFFERED': '1'}
    begins, printed = {'look, and check': time.perf_counter()}, []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=variables) as process:
        assert process.stdout is not None
        for line in process.stdout:
            printed.append(line)
            for stage, mark in MARKS.items():
                if mark is not None and stage not in begins and line.startswith(mark):
                    begins[stage] = time.perf_counter()
    end = time.perf_counter()
    if process.returncode:
        sys.exit(f'{" ".join(command)} failed:\n{"".join(printed)}')
    times = [*begins.values(), end]
    return {stage: later - earlier for stage, earlier, later in zip(begins, times, times[1:])}, ''.join(printed)


def measure(student: str, args: argparse.Namespace) -> dict[str, Any]:
    """Go from the photos to a student."""
    name = hf_folder(args.out) if student == HF else student
    folder = args.out / student.replace('/', '_')
    if folder.exists():
        sys.exit(f'{str(folder)!r} exists already, and the command would skip what is done; give another OUT')
    random = ('--teacher-init', 'none', '--student-init', 'none')
    sizes = ('--image-size', str(args.image_size), '--teacher-image-size', str(args.image_size))
    command = [sys.executable, '-W', 'ignore', '-m', 'r2kd_mm.command', 'distill', str(args.out / 'photos')]
    command += ['--teacher', TEACHER, '--student', name, '--out', str(folder), '--epochs', str(args.epochs)]
    seconds, printed = timed([*command, *random, *sizes], args.threads)
    (folder / 'printed.txt').write_text(printed)
    table = printed[printed.index('\n' + MARKS['export, page']) :].split('\n\n')[0].strip().splitlines()[2:]
    accuracies = {name.strip(): float(value) for name, value in (line.split('|')[1:3] for line in table)}
    return dict(student=student, seconds=seconds, total=sum(seconds.values()), accuracy_percent=accuracies)


def to_markdown(found: list[dict[str, Any]]) -> str:
    """Return a table of minutes."""
    rows = [['student', *(f'{stage}, s' for stage in MARKS), 'all, min']]
    rows += [
        [line['student'], *(f'{line["seconds"][stage]:.0f}' for stage in MARKS), f'{line["total"] / 60:.1f}']
        for line in found
    ]
    return markdown_table(rows)


def main() -> None:
    """Make the photos, distil each student, and write the numbers."""
    args = parse_args()
    if not (args.out / 'photos').is_dir():
        make_photos(args.out / 'photos', args.skimage)
    if not args.students:
        return
    before = environment()
    found = [measure(student, args) for student in args.students]
    settings = dict(epochs=args.epochs, image_size=args.image_size, threads=args.threads, photos=480)
    content = dict(settings=settings, students=found, environment=before)
    args.result.write_text(json.dumps(content, indent=1) + '\n')
    print(to_markdown(found))


if __name__ == '__main__':
    main()
