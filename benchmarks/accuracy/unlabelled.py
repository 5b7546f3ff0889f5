"""Measure how much about 600 unlabelled digits raise the accuracy of a student distilled with 100 labelled digits.

python benchmarks/accuracy/unlabelled.py OUT --seeds 0-4

Each run is one line of OUT/results.jsonl; a second call resumes. Two teachers of the same architecture are compared:

- ``trained elsewhere``: trained on 500 other labelled digits, as if somebody else had trained it on these classes.
- ``100 labels``: trained on the 100 labelled digits alone, from random weights.

The labels of the 600 digits are never used. The table is in docs/own_photos.md, "Measured: photos without labels".
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import Any

from mmengine.registry import DefaultScope
from own_data import STUDENTS, TEACHER, Remembered, Results, inputs, seeds, to_markdown
from small_folders import write_digits

from r2kd_mm.networks import NamedNetwork, find_network
from r2kd_mm.photos.config import Data, Recipe, adapted, classifier_run, distillation_run

METHOD = 'dist_light'
EPOCHS = 60  # of `r2kd-mm distill`; 4 steps each with the labels alone, 7 with as many images without labels
LONGER = 105  # as many steps with the labels alone
ELSEWHERE = 50  # of each digit
SOURCES = {'trained elsewhere': ('elsewhere', 25), '100 labels': ('train', LONGER)}  # split and epochs of a teacher
CASES = {
    'alone': dict(epochs=EPOCHS),
    'alone, as many steps': dict(epochs=LONGER),
    'distilled': dict(epochs=EPOCHS),
    'distilled, unlabelled too': dict(epochs=EPOCHS),
}


class Digits:
    """The labelled digits, the unlabelled digits and the trained teachers, as files in one folder.

    Args:
        out: Folder of the measurement.
    """

    def __init__(self, out: Path) -> None:
        self.root, self.teachers = out / 'digits', out / 'teachers'
        if not self.root.is_dir():
            write_digits(self.root, train=10, val=60, more=200)  # the rest: 104 to 113 of each digit
            for label in range(10):
                (self.root / 'elsewhere' / str(label)).mkdir(parents=True)
                for index in range(ELSEWHERE):
                    picture = self.root / 'more' / str(label) / f'{index}.png'
                    picture.rename(self.root / 'elsewhere' / str(label) / picture.name)
            files = sorted(path.relative_to(self.root / 'more') for path in (self.root / 'more').rglob('*.png'))
            (self.root / 'unlabelled.txt').write_text('\n'.join(map(str, files)) + '\n')

    def data(self, **fields: Any) -> Data:
        """Return the labelled digits."""
        return Data(str(self.root), tuple(map(str, range(10))), workers=0, **fields)

    def checkpoint(self, source: str) -> Path:
        """Return the file of a teacher."""
        return self.teachers / f'{source.replace(" ", "_")}.pth'

    def train_teachers(self, results: Results) -> None:
        """Train the teachers that are missing."""
        self.teachers.mkdir(exist_ok=True)
        for source, (split, epochs) in SOURCES.items():
            if not self.checkpoint(source).is_file():
                recipe = Recipe(epochs, flip=False)
                cfg = classifier_run(network(TEACHER[0]), inputs(TEACHER[1]), self.data(train=split), recipe)
                folder = results.measure((source, 'teacher', 'alone', 0), cfg)
                (folder / f'epoch_{epochs}.pth').rename(self.checkpoint(source))

    def student_run(self, student: str, source: str, case: str, seed: int) -> dict[str, Any]:
        """Config of a student's training."""
        name, side, fields = STUDENTS[student]
        pupil = network(name, **fields)
        recipe = Recipe(flip=False, options={'randomness.seed': seed}, **CASES[case])
        if case.startswith('alone'):
            return classifier_run(pupil, inputs(side), self.data(), recipe)
        free = (str(self.root / 'more'), str(self.root / 'unlabelled.txt')) if 'unlabelled' in case else None
        teacher = adapted(network(TEACHER[0]).config, inputs(TEACHER[1]))
        weights = str(self.checkpoint(source))
        return distillation_run(pupil, inputs(side), teacher, weights, METHOD, self.data(unlabelled=free), recipe)


def network(name: str, **fields: Any) -> NamedNetwork:
    """Return a network with ten logits."""
    with DefaultScope.overwrite_default_scope('r2kd_mm'):
        found = find_network(name, 10)
    return NamedNetwork(name, dict(found.config, **fields))


def main() -> None:
    """Measure what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('out', type=Path)
    parser.add_argument('--seeds', type=seeds, default=range(5))
    parser.add_argument('--students', nargs='+', default=['resnet8', 'efficientnet'], choices=list(STUDENTS))
    args = parser.parse_args()

    results, remembered = Results(args.out), Remembered()
    digits = Digits(args.out)
    digits.train_teachers(results)
    for seed, student, case, source in itertools.product(args.seeds, args.students, CASES, SOURCES):
        run = (source, student, case, seed)
        if case.startswith('alone') and source != next(iter(SOURCES)):
            continue  # no teacher, so the same run
        if run not in results:
            remembered.only(case, student, seed)
            results.measure(run, digits.student_run(student, source, case, seed))
    lines = [line for line in results.lines if line['run'][1] != 'teacher' and line['run'][-1] in args.seeds]
    alone = [dict(line, run=['100 labels', *line['run'][1:]]) for line in lines if line['run'][2].startswith('alone')]
    print(to_markdown([*lines, *alone]))


if __name__ == '__main__':
    main()
