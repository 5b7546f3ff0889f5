"""Compare students of `r2kd-mm distill` with students trained without a teacher, on small folders of pictures.

python benchmarks/accuracy/own_data.py OUT --skimage SKIMAGE/data --fonts QTAWESOME/fonts --seeds 10-14

SKIMAGE and QTAWESOME are unpacked wheels of scikit-image 0.26.0 and qtawesome 1.4.2. Each run is one line of
OUT/results.jsonl; a second call resumes. ``--methods`` names methods, or candidates: a method with other settings. The
pictures and the students are described in docs/own_photos.md, "What was measured".
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

from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from small_folders import writers

from r2kd_mm.engine.seeding import SeededDataset
from r2kd_mm.networks import Inputs, NamedNetwork, find_network
from r2kd_mm.photos.config import Data, Recipe, adapted, classifier_run, distillation_run
from r2kd_mm.report.table import markdown_table
from r2kd_mm.runs import paired_difference, spread

CUTMIX = dict(type='CutMix', alpha=1.0)
WEIGHT = 'model.losses.loss_dist.loss_weight'
TEMPERATURE = 'model.losses.loss_dist.temperature'
CANDIDATES: dict[str, tuple[str, dict[str, Any]]] = {
    'dist x 1/4': ('dist', {WEIGHT: 1 / 4}),
    'dist, T 1': ('dist', {TEMPERATURE: 1.0}),
    'dist_light + cutmix': ('dist_light', {'model.augmentation': CUTMIX}),
    'kd, ce 1': ('kd', {'model.task_loss_weight': 1.0}),
    'kd + cutmix': ('kd', {'model.augmentation': CUTMIX}),
}
# Students: name, side of their images, further fields; a CNN, one with several activations and gates, a transformer
STUDENTS: dict[str, tuple[str, int, dict[str, Any]]] = {
    'resnet8': ('r2kd/cifar/resnet8', 16, {}),
    'vit': ('timm/test_vit', 16, dict(img_size=16, patch_size=4)),
    'efficientnet': ('timm/test_efficientnet', 32, {}),
}
TEACHER = ('timm/test_resnet', 32)
TEACHER_EPOCHS = 25  # on several times as many pictures
FLIPPED = ('crops', 'icons', 'two crops', 'two icons')  # the kinds whose pictures are mirrored in training
ALONE, MEAN = 'alone', 'mean'


class Remembered:
    """A cache of the training samples of a seed, which are the same for every method."""

    def __init__(self) -> None:
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


class Results:
    """Keeps a line for each run, with its accuracy and its CPU seconds, in a file ``results.jsonl``.

    Args:
        out: Folder of the measurement.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.file = out / 'results.jsonl'
        out.mkdir(parents=True, exist_ok=True)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """All lines."""
        return [json.loads(line) for line in self.file.read_text().splitlines()] if self.file.is_file() else []

    def __contains__(self, run: tuple) -> bool:
        return list(run) in [line['run'] for line in self.lines]

    def measure(self, run: tuple, cfg: dict[str, Any]) -> Path:
        """Train a run, write its line, and return its folder."""
        folder = self.out / 'runs' / '_'.join(map(str, run)).replace(' ', '').replace(',', '')
        begun = time.process_time()
        accuracy = train(cfg, folder)
        line = dict(run=run, accuracy=round(accuracy, 3), seconds=round(time.process_time() - begun, 1))
        print(line, flush=True)
        with self.file.open('a') as file:
            file.write(json.dumps(line) + '\n')
        return folder


def train(cfg: dict[str, Any], folder: Path) -> float:
    """Train a run and return its last accuracy in percent."""
    cfg['default_hooks'].pop('visualization')
    cfg['custom_hooks'] = [hook for hook in cfg['custom_hooks'] if hook['type'] != 'TeacherCheckHook']  # takes seconds
    cfg['default_hooks']['checkpoint'].update(interval=1000, save_best=None)
    cfg['train_cfg']['val_interval'] = cfg['train_cfg']['max_epochs']
    cfg['experiment_name'] = folder.name
    runner = Runner.from_cfg(Config({**cfg, 'work_dir': str(folder), 'log_level': 'ERROR'}))
    logging.disable(logging.CRITICAL)
    runner.train()
    return float(runner.message_hub.get_scalar('val/accuracy/top1').current())


def to_markdown(lines: Sequence[Mapping[str, Any]]) -> str:
    """Return a table of the mean accuracies and of the paired differences to the student alone.

    A pair is the same student and seed. The rows ``mean`` average the students of a seed: their interval covers the
    seeds, for these students.
    """
    found: dict[tuple[str, str], dict[str, dict[int, float]]] = {}
    for line in lines:
        data, network, method, seed = line['run']
        found.setdefault((data, method), {}).setdefault(network, {})[seed] = line['accuracy']
    rows = [
        ['pictures', 'student', 'method', 'alone, %', 'accuracy, %', 'minus alone, points [95 % interval]', 'seeds']
    ]
    for (data, method), accuracies in sorted(found.items()):
        alone = found.get((data, ALONE), {})
        pairs = {name: (accuracies[name], alone[name]) for name in sorted(accuracies.keys() & alone.keys())}
        if method == ALONE or not pairs:
            continue
        if len(pairs) > 1:
            values, baselines = zip(*pairs.values(), strict=True)
            pairs[MEAN] = mean_of_networks(values), mean_of_networks(baselines)
        for name, (values, baseline) in pairs.items():
            difference = paired_difference(values, baseline)
            if difference is None:
                continue
            shown = f'{difference.mean:+.2f}'
            if difference.low is not None and difference.high is not None:
                shown += f' [{difference.low:+.2f}, {difference.high:+.2f}]'
            common = values.keys() & baseline.keys()
            means = (f'{spread([part[seed] for seed in common]).mean:.2f}' for part in (baseline, values))
            rows.append([data, name, method, *means, shown, str(difference.count)])
    return markdown_table(rows)


def mean_of_networks(accuracies: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """Average the accuracies of a seed over the networks, for the seeds that all have."""
    seeds = set.intersection(*(set(runs) for runs in accuracies))
    return {seed: sum(runs[seed] for runs in accuracies) / len(accuracies) for seed in seeds}


def seeds(text: str) -> range:
    """Read ``3-5`` as 3, 4 and 5."""
    first, _, last = text.partition('-')
    return range(int(first), int(last or first) + 1)


def inputs(side: int) -> Inputs:
    """Return what a network gets."""
    return Inputs(side, (127.5,) * 3, (64.0,) * 3)


class Folder:
    """Pictures of a kind, and the teacher of the students that learn from them.

    Args:
        out: Folder of the measurement.
        kind: Name of the kind.
    """

    def __init__(self, out: Path, kind: str) -> None:
        self.kind = kind
        self.root = out / kind.replace(' ', '_')
        self.weights = out / 'teachers' / f'{self.root.name}.pth'
        self.flip = kind in FLIPPED

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return tuple(sorted(path.name for path in (self.root / 'train').iterdir()))

    def network(self, name: str, **fields: Any) -> NamedNetwork:
        """Return a network from random weights with a logit for each class."""
        with DefaultScope.overwrite_default_scope('r2kd_mm'):
            found = find_network(name, len(self.classes), 'none')
        return NamedNetwork(name, dict(found.config, **fields))

    def teacher_run(self) -> dict[str, Any]:
        """Config of the teacher's training."""
        name, side = TEACHER
        data = Data(str(self.root), self.classes, train='more', workers=0)
        return classifier_run(self.network(name), inputs(side), data, Recipe(TEACHER_EPOCHS, flip=self.flip))

    def student_run(self, student: str, method: str, seed: int, epochs: int) -> dict[str, Any]:
        """Config of a student's training."""
        name, side, fields = STUDENTS[student]
        pupil, data = self.network(name, **fields), Data(str(self.root), self.classes, workers=0)
        base, options = CANDIDATES.get(method, (method, {}))
        recipe = Recipe(epochs, flip=self.flip, options={**options, 'randomness.seed': seed})
        if method == ALONE:
            return classifier_run(pupil, inputs(side), data, recipe)
        teacher = adapted(self.network(TEACHER[0]).config, inputs(TEACHER[1]))
        return distillation_run(pupil, inputs(side), teacher, str(self.weights), base, data, recipe)


def main() -> None:
    """Measure what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('out', type=Path)
    parser.add_argument('--skimage', type=Path, required=True)
    parser.add_argument('--fonts', type=Path, required=True)
    parser.add_argument('--epochs', type=int, default=40)
    parser.add_argument('--seeds', type=seeds, default=range(2))
    parser.add_argument('--data', nargs='+', default=['digits', 'crops', 'glyphs 0', 'glyphs 0.25', 'icons'])
    parser.add_argument('--students', nargs='*', default=list(STUDENTS), choices=list(STUDENTS))
    parser.add_argument('--methods', nargs='+', default=[ALONE, 'dist_light'])
    args = parser.parse_args()

    results = Results(args.out)
    remembered = Remembered()
    folders = [Folder(args.out, kind) for kind in args.data]
    for folder in folders:
        if not folder.root.is_dir():
            writers(args.skimage, args.fonts)[folder.kind](folder.root)
        if not folder.weights.is_file():
            remembered.only(folder.kind, 'more')
            trained = results.measure((folder.kind, 'teacher', ALONE, 0), folder.teacher_run())
            folder.weights.parent.mkdir(parents=True, exist_ok=True)
            (trained / f'epoch_{TEACHER_EPOCHS}.pth').rename(folder.weights)
    for seed, folder, student, method in itertools.product(args.seeds, folders, args.students, args.methods):
        run = (folder.kind, student, method, seed)
        if run not in results:
            remembered.only(folder.kind, STUDENTS[student][1], seed)
            results.measure(run, folder.student_run(student, method, seed, args.epochs))
    print(to_markdown([line for line in results.lines if line['run'][-1] in args.seeds]))


if __name__ == '__main__':
    main()
