"""Measure the recipe for photos of one's own on small folders of pictures: does a student fall below the student alone?

python benchmarks/accuracy/own_data.py OUT --skimage SKIMAGE/data --fonts QTAWESOME/fonts --seeds 10-14

SKIMAGE and QTAWESOME are unpacked wheels of scikit-image 0.26.0 and qtawesome 1.4.2. Each run is one line of
OUT/results.jsonl; a second call resumes. ``--methods`` names methods, or candidates: a method with other settings. The
docs say which kinds of pictures and which students: docs/own_photos.md, "What was measured".
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

CUTMIX = dict(type='CutMix', alpha=1.0)
CANDIDATES: dict[str, tuple[str, dict[str, Any]]] = {
    'dist x 0.25': ('dist', {'model.losses.loss_dist.loss_weight': 0.25}),
    'dist x 0.06': ('dist', {'model.losses.loss_dist.loss_weight': 1 / 16}),
    'dist, T 1': ('dist', {'model.losses.loss_dist.temperature': 1.0}),
    'dist + cutmix': ('dist', {'model.augmentation': CUTMIX}),
    'kd, ce 1': ('kd', {'model.task_loss_weight': 1.0}),
    'kd + cutmix': ('kd', {'model.augmentation': CUTMIX}),
    'kd, ce 1 + cutmix': ('kd', {'model.task_loss_weight': 1.0, 'model.augmentation': CUTMIX}),
    'r2kd x 0.25': (
        'r2kd',
        {'model.losses.loss_value.loss_weight': 0.5, 'model.losses.loss_rank.loss_weight': 0.5},
    ),
    'r2kd, no view': ('r2kd', {'model.augmentation': None}),
}  # fmt: skip
# Students: name, side of their images, further fields; a CNN, one with several activations and gates, a transformer
STUDENTS: dict[str, tuple[str, int, dict[str, Any]]] = {
    'resnet8': ('r2kd/cifar/resnet8', 16, {}),
    'vit': ('timm/test_vit', 16, dict(img_size=16, patch_size=4)),
    'efficientnet': ('timm/test_efficientnet', 32, {}),
}
TEACHER = ('timm/test_resnet', 32)
TEACHER_EPOCHS = 25  # on several times as many pictures
FLIPPED = ('crops', 'icons')  # the kinds whose pictures are mirrored in training
ALONE = 'alone'


class Remembered:
    """Keeps the training samples of a seed, which are the same for every method, instead of drawing them again."""

    def __init__(self) -> None:
        from r2kd_mm.engine.seeding import SeededDataset

        self.key: tuple | None = None
        self.samples: dict[tuple, Any] = {}
        draw = SeededDataset.__getitem__

        def remembered(dataset: SeededDataset, index: int) -> Any:
            key = (int(index), getattr(index, 'epoch', 0), getattr(index, 'copy', 0))
            if key not in self.samples:
                self.samples[key] = draw(dataset, index)
            return self.samples[key]

        SeededDataset.__getitem__ = remembered  # type: ignore[method-assign]

    def only(self, *key: Any) -> None:
        """Forget the samples of another key: folder, side of the images, seed."""
        if key != self.key:
            self.key, self.samples = key, {}


def train(cfg: dict[str, Any], folder: Path) -> float:
    """Train a run and return its last accuracy in percent."""
    from mmengine.config import Config
    from mmengine.runner import Runner

    cfg['default_hooks'].pop('visualization')
    cfg['default_hooks']['checkpoint'].update(interval=1000, save_best=None)
    cfg['train_cfg']['val_interval'] = cfg['train_cfg']['max_epochs']
    cfg['experiment_name'] = folder.name
    runner = Runner.from_cfg(Config({**cfg, 'work_dir': str(folder), 'log_level': 'ERROR'}))
    logging.disable(logging.CRITICAL)
    runner.train()
    return float(runner.message_hub.get_scalar('val/accuracy/top1').current())


def to_markdown(lines: Sequence[Mapping[str, Any]]) -> str:
    """Return a table with a row for each method: its mean accuracy, and the paired difference to the student alone."""
    from r2kd_mm.report.table import markdown_table
    from r2kd_mm.runs import paired_difference, spread

    found: dict[tuple[str, str, str], dict[int, float]] = {}
    for line in lines:
        *row, seed = line['run']
        found.setdefault(tuple(row), {})[seed] = line['accuracy']
    rows = [['pictures', 'network', 'method', 'accuracy, %', 'minus alone, points [95 % interval]', 'seeds']]
    for (data, network, method), by_seed in sorted(found.items()):
        difference = None if method == ALONE else paired_difference(by_seed, found.get((data, network, ALONE), {}))
        shown = ''
        if difference is not None:
            shown = f'{difference.mean:+.2f}'
            if difference.low is not None and difference.high is not None:
                shown += f' [{difference.low:+.2f}, {difference.high:+.2f}]'
        rows.append([data, network, method, f'{spread(list(by_seed.values())).mean:.2f}', shown, str(len(by_seed))])
    return markdown_table(rows)


def seeds(text: str) -> range:
    """Read ``3-5`` as 3, 4 and 5."""
    first, _, last = text.partition('-')
    return range(int(first), int(last or first) + 1)


def main() -> None:
    """Measure what is missing, and print the table."""
    from small_folders import writers

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('out', type=Path)
    parser.add_argument('--skimage', type=Path, required=True)
    parser.add_argument('--fonts', type=Path, required=True)
    parser.add_argument('--epochs', type=int, default=40)
    parser.add_argument('--seeds', type=seeds, default=range(2))
    parser.add_argument('--data', nargs='+', default=['digits', 'crops', 'glyphs 0', 'glyphs 0.25', 'icons'])
    parser.add_argument('--students', nargs='*', default=list(STUDENTS), choices=list(STUDENTS))
    parser.add_argument('--methods', nargs='+', default=[ALONE, 'dist'])
    args = parser.parse_args()

    from mmengine.registry import DefaultScope

    from r2kd_mm.networks import Inputs, NamedNetwork, find_network
    from r2kd_mm.photos.config import Data, Recipe, adapted, classifier_run, distillation_run

    writing = writers(args.skimage, args.fonts)
    results = args.out / 'results.jsonl'
    args.out.mkdir(parents=True, exist_ok=True)
    done = {tuple(json.loads(line)['run']) for line in results.read_text().splitlines()} if results.is_file() else set()

    def note(run: tuple, cfg: dict[str, Any]) -> Path:
        folder = args.out / 'runs' / '_'.join(map(str, run)).replace(' ', '').replace(',', '')
        begun = time.process_time()
        accuracy = train(cfg, folder)
        line = dict(run=run, accuracy=round(accuracy, 3), seconds=round(time.process_time() - begun, 1))
        print(line, flush=True)
        with results.open('a') as file:
            file.write(json.dumps(line) + '\n')
        return folder

    def normalised(side: int) -> Inputs:
        return Inputs(side, (127.5,) * 3, (64.0,) * 3)

    remembered = Remembered()
    for kind in args.data:
        root = args.out / kind.replace(' ', '_')
        if not root.is_dir():
            writing[kind](root)
        classes = tuple(sorted(path.name for path in (root / 'train').iterdir()))
        flip = kind in FLIPPED
        name, side = TEACHER
        with DefaultScope.overwrite_default_scope('r2kd_mm'):
            teacher = find_network(name, len(classes), 'none')
        weights = args.out / 'teachers' / f'{root.name}.pth'
        if not weights.is_file():
            data = Data(str(root), classes, train='more', workers=0)
            remembered.only(root, 'more')
            cfg = classifier_run(teacher, normalised(side), data, Recipe(TEACHER_EPOCHS, flip=flip))
            folder = note((kind, 'teacher', ALONE, 0), cfg)
            weights.parent.mkdir(parents=True, exist_ok=True)
            (folder / f'epoch_{TEACHER_EPOCHS}.pth').rename(weights)
        for seed, student, method in itertools.product(args.seeds, args.students, args.methods):
            if (kind, student, method, seed) in done:
                continue
            name, side, fields = STUDENTS[student]
            found = find_network(name, len(classes), 'none')
            pupil = NamedNetwork(student, dict(found.config, **fields))
            data = Data(str(root), classes, workers=0)
            remembered.only(root, side, seed)
            base, options = CANDIDATES.get(method, (method, {}))
            recipe = Recipe(args.epochs, flip=flip, options={**options, 'randomness.seed': seed})
            if method == ALONE:
                cfg = classifier_run(pupil, normalised(side), data, recipe)
            else:
                taught = adapted(teacher.config, normalised(TEACHER[1]))
                cfg = distillation_run(pupil, normalised(side), taught, str(weights), base, data, recipe)
            note((kind, student, method, seed), cfg)
    print(to_markdown([json.loads(line) for line in results.read_text().splitlines()]))


if __name__ == '__main__':
    main()
