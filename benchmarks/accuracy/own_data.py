"""Measure the recipe for photos of one's own: optimizers and methods on small folders of pictures, over seeds.

python benchmarks/accuracy/own_data.py OUT --skimage FOLDER

FOLDER is `skimage/data` of an installed or unpacked scikit-image, whose pictures it ships with their licences. Each run
is one line of OUT/results.jsonl; a second call resumes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

PICTURES = (
    'astronaut.png', 'brick.png', 'chelsea.png', 'coffee.png', 'color.png', 'grass.png', 'gravel.png', 'ihc.png',
    'hubble_deep_field.jpg', 'motorcycle_left.png', 'retina.jpg', 'rocket.jpg',
)  # fmt: skip
SIDE = 16
OPTIMIZERS = {
    'adamw 2e-3': dict(lr=2e-3),
    'sgd 0.05, no limit': dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=5e-4, no_limit=True),
    'adamw 5e-4': dict(lr=5e-4),
    'sgd 0.05': dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=5e-4),
}
METHODS = ('alone', 'r2kd', 'kd', 'dist', 'kd+cutmix')
STUDENTS = {'resnet8': dict(type='r2kd_mm.zoo.build_classifier', name='cifar/resnet8')}
TEACHER = dict(type='r2kd_mm.zoo.build_classifier', name='cifar/resnet20')


def write_pictures(root: Path, source: Path, train: int, val: int) -> None:
    """Cut crops from the left part of each picture to train on, and from the right part to measure on."""
    rng = np.random.default_rng(0)
    for name in PICTURES:
        picture = Image.open(source / name).convert('RGB')
        width, height = picture.size
        for split, (left, right), count in (
            ('train', (0, width // 2), train),
            ('val', (width // 2, width), val),
        ):
            folder = root / split / name.partition('.')[0]
            folder.mkdir(parents=True)
            for index in range(count):
                side = int(rng.uniform(0.12, 0.3) * min(width // 2, height))
                x, y = int(rng.integers(left, right - side)), int(rng.integers(0, height - side))
                crop = picture.crop((x, y, x + side, y + side)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
                crop.save(folder / f'{index}.png')


def write_digits(root: Path, train: int, val: int) -> None:
    """Write the digits of scikit-learn as pictures."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    for label in range(10):
        images = digits.images[digits.target == label]
        for split, part in (('train', images[:train]), ('val', images[train : train + val])):
            folder = root / split / str(label)
            folder.mkdir(parents=True)
            for index, image in enumerate(part):
                pixels = Image.fromarray((image * 255 / 16).astype(np.uint8))
                pixels.resize((SIDE, SIDE), Image.Resampling.BILINEAR).convert('RGB').save(folder / f'{index}.png')


def train(cfg: dict[str, Any], folder: Path) -> float:
    """Train a run and return its last accuracy in percent."""
    from mmengine.config import Config
    from mmengine.runner import Runner

    cfg['default_hooks']['checkpoint'].update(interval=1000, save_best=None)
    cfg['default_hooks'].pop('visualization')
    cfg['train_cfg']['val_interval'] = cfg['train_cfg']['max_epochs']
    runner = Runner.from_cfg(Config({**cfg, 'work_dir': str(folder), 'log_level': 'ERROR'}))
    logging.disable(logging.CRITICAL)
    runner.train()
    return runner.val()['accuracy/top1']


def to_markdown(lines: list[dict[str, Any]]) -> str:
    """Return a table with a row for each method: its accuracies by seed, and the mean paired difference to none."""
    from r2kd_mm.report.table import markdown_table

    found: dict[tuple, dict[int, float]] = {}
    for line in lines:
        *row, seed = line['run']
        found.setdefault(tuple(row), {})[seed] = line['accuracy']
    rows = [['data', 'network', 'optimizer', 'method', 'accuracy by seed, %', 'minus alone, mean']]
    for row, by_seed in found.items():
        alone = found.get((*row[:3], 'alone'), {})
        common = sorted(by_seed.keys() & alone.keys())
        mean = sum(by_seed[seed] - alone[seed] for seed in common) / len(common) if common else None
        shown = '' if mean is None or row[3] == 'alone' else f'{mean:+.2f}'
        rows.append([*row, ', '.join(f'{by_seed[seed]:.2f}' for seed in sorted(by_seed)), shown])
    return markdown_table(rows)


def main() -> None:
    """Measure what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('out', type=Path)
    parser.add_argument('--skimage', type=Path, required=True)
    parser.add_argument('--epochs', type=int, default=60)
    parser.add_argument('--seeds', type=int, default=2)
    args = parser.parse_args()

    from r2kd_mm.networks import Inputs, NamedNetwork
    from r2kd_mm.photos.config import Data, Recipe, classifier_run, distillation_run

    roots = {name: args.out / name for name in ('digits', 'pictures')}
    if not roots['pictures'].is_dir():
        write_pictures(roots['pictures'], args.skimage, train=30, val=50)
        write_digits(roots['digits'], train=20, val=60)
    results = args.out / 'results.jsonl'
    done = {tuple(json.loads(line)['run']) for line in results.read_text().splitlines()} if results.is_file() else set()
    inputs = Inputs(SIDE, (127.5,) * 3, (64.0,) * 3)

    def note(run: tuple, accuracy: float, seconds: float) -> None:
        with results.open('a') as file:
            file.write(json.dumps(dict(run=run, accuracy=accuracy, seconds=round(seconds, 1))) + '\n')

    for optimizer, seed, data_name, student in itertools.product(OPTIMIZERS, range(args.seeds), roots, STUDENTS):
        classes = tuple(sorted(path.name for path in (roots[data_name] / 'train').iterdir()))
        data = Data(str(roots[data_name]), classes, workers=0)
        teacher = NamedNetwork('teacher', dict(TEACHER, num_classes=len(classes)))
        pupil = NamedNetwork(student, dict(STUDENTS[student], num_classes=len(classes)))
        weights = args.out / 'teachers' / f'{data_name}.pth'
        flip = data_name == 'pictures'
        if not weights.is_file():
            cfg = classifier_run(teacher, inputs, data, Recipe(2 * args.epochs, flip=flip, lr=2e-3))
            begun = time.monotonic()
            accuracy = train(cfg, args.out / 'runs' / 'teacher' / data_name)
            note((data_name, 'teacher', 'adamw 2e-3', 'alone', 0), accuracy, time.monotonic() - begun)
            last = args.out / 'runs' / 'teacher' / data_name / f'epoch_{2 * args.epochs}.pth'
            weights.parent.mkdir(parents=True, exist_ok=True)
            weights.write_bytes(last.read_bytes())
        for method in METHODS:
            run = (data_name, student, optimizer, method, seed)
            if run in done:
                continue
            settings = dict(OPTIMIZERS[optimizer])
            limit = not settings.pop('no_limit', False)
            recipe = Recipe(args.epochs, flip=flip, lr=settings['lr'])
            if method == 'alone':
                cfg = classifier_run(pupil, inputs, data, recipe)
            else:
                base = method.partition('+')[0]
                cfg = distillation_run(pupil, inputs, teacher.config, str(weights), base, data, recipe)
                if method.endswith('+cutmix'):
                    cfg['model']['augmentation'] = dict(type='CutMix', alpha=1.0)
            if 'type' in settings:
                cfg['optim_wrapper']['optimizer'] = settings
            if not limit:
                cfg['optim_wrapper'].pop('clip_grad')
            cfg['randomness'] = dict(seed=seed)
            name = f'{data_name}_{student}_{optimizer}_{method}_{seed}'.replace(' ', '_').replace(',', '')
            cfg['experiment_name'] = name
            begun = time.monotonic()
            note(run, train(cfg, args.out / 'runs' / name), time.monotonic() - begun)
    print(to_markdown([json.loads(line) for line in results.read_text().splitlines()]))


if __name__ == '__main__':
    main()
