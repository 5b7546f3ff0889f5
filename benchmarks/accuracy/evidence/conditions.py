"""Measure accuracy on hard images, augmented images, unseen fonts and corrupted images, for students of ``run.py``.

The script evaluates the last checkpoint of every finished run, and the teacher, on test images; it trains nothing. An
image is hard if the teacher's class distribution has a high entropy. Augmented images are made by AutoAugment, which
keeps their labels.
"""

import r2kd_mm  # isort: skip  # noqa: F401  first, because it cures what the Runner meets when it starts

import copy
import json
import sys
from collections.abc import Mapping, Sequence
from functools import partial

import torch
from grid import QUESTIONS
from mmengine.config import Config
from run import answer_folder, parse_args, plan_students, plan_teachers
from torch import Tensor, nn

from r2kd_mm.augmentations import AutoAugment
from r2kd_mm.classifiers import classifier_logits
from r2kd_mm.corruptions import FAMILIES
from r2kd_mm.engine import AtomicLocalBackend, clear_errors
from r2kd_mm.engine.resume import POINTER
from r2kd_mm.environment import environment
from r2kd_mm.functional import entropy
from r2kd_mm.registry import MODELS
from r2kd_mm.report.images import corrupted_config
from r2kd_mm.report.table import format_difference, format_spread, markdown_table
from r2kd_mm.report.views import View
from r2kd_mm.runs import (
    Run,
    State,
    look_at,
    paired_difference,
    spread,
    trained_student,
    validation_logits,
)

SEVERITY = 3  # of 5
CORRUPTED_IMAGES = 1000
BINS = ('easiest third', 'middle third', 'hardest third')
AUGMENTED = 'augmented'
AUGMENTATION = AutoAugment('svhn')
TEACHER = 'teacher'
# Method to condition to seed to accuracy in percent
Accuracies = dict[str, dict[str, dict[int, float]]]


def measure(runs: Sequence[Run], teacher_run: Run) -> Accuracies:
    """Measure the accuracy of every run and of the teacher under every condition; the teacher is listed with seed 0."""
    networks: dict[tuple[str, int], nn.Module] = {}
    for run in runs:
        networks[run.method.name, run.seed], _ = trained_student(run)
    networks[TEACHER, 0], cfg = trained_student(teacher_run)
    cfg.val_dataloader = cfg.test_dataloader
    found: Accuracies = {method: {} for method, _ in networks}

    def look(condition: str, data: Config, bins: Sequence[str] = (), augmented: bool = False) -> None:
        logits, labels = _ask(networks, data, augmented)
        parts = dict(zip(bins, entropy(logits[TEACHER, 0]).argsort().tensor_split(len(BINS))))
        for (method, seed), answers in logits.items():
            correct = (answers.argmax(dim=1) == labels).double()
            found[method].setdefault(condition, {})[seed] = 100 * correct.mean().item()
            for part, images in parts.items():
                found[method].setdefault(part, {})[seed] = 100 * correct[images].mean().item()

    look('test', cfg, BINS)
    look(AUGMENTED, cfg, [f'{AUGMENTED}, {part}' for part in BINS], augmented=True)
    look('unseen fonts', _of_images(cfg, split='shifted'))
    for family, names in FAMILIES.items():
        each: dict[str, dict[int, list[float]]] = {}
        for name in names:
            look(name, _of_images(corrupted_config(cfg, name, SEVERITY), size=CORRUPTED_IMAGES))
            for method, conditions in found.items():
                for seed, value in conditions.pop(name).items():
                    each.setdefault(method, {}).setdefault(seed, []).append(value)
        for method, by_seed in each.items():
            found[method][family] = {seed: sum(values) / len(values) for seed, values in by_seed.items()}
    return found


def _ask(
    networks: Mapping[tuple[str, int], nn.Module], cfg: Config, augmented: bool = False
) -> tuple[dict[tuple[str, int], Tensor], Tensor]:
    if not augmented:
        return validation_logits(networks, cfg)
    teacher = partial(classifier_logits, networks[TEACHER, 0])
    view = View(AUGMENTATION, teacher, MODELS.build(cfg.data_preprocessor))
    return validation_logits({key: partial(view.ask, network) for key, network in networks.items()}, cfg)


def _of_images(cfg: Config, **dataset: str | int) -> Config:
    """Change the validation images of the config."""
    cfg = copy.deepcopy(cfg)  # Config.copy() shares what is nested
    cfg.val_dataloader.dataset.update(dataset)
    return cfg


def to_table(found: Accuracies, baseline: str) -> str:
    """Format the mean accuracy over seeds, and below it the paired difference to the baseline."""
    conditions = list(found[baseline])
    lines = [['method', *conditions]]
    for method, by_condition in found.items():
        spreads = [spread(list(by_condition[condition].values())) for condition in conditions]
        lines.append([method, *map(format_spread, spreads)])
    for method, by_condition in found.items():
        if method in (baseline, TEACHER):
            continue
        differences = [paired_difference(by_condition[name], found[baseline][name]) for name in conditions]
        lines.append([f'{method} - {baseline}', *map(format_difference, differences)])
    return markdown_table(lines)


def main() -> None:
    """Measure what is finished; write ``conditions.md`` and ``conditions.json`` next to the table of the question."""
    args = parse_args(__doc__)
    with clear_errors():
        folder, baseline = args.runs / args.scale, QUESTIONS[args.question].baseline
        teachers = plan_teachers(args)
        if any(state is not State.FINISHED for state in look_at(teachers.values()).values()):
            sys.exit(f'no finished teacher in {str(folder)!r}; train it and the students by run.py {args.question}')
        runs = plan_students(args, teachers)
        finished = [run for run, state in look_at(runs).items() if state is State.FINISHED]
        if not any(run.method.name == baseline for run in finished):
            sys.exit(f'no run of {baseline!r} is finished in {str(folder)!r}; train it first by run.py')
        for run in finished:
            if not (run.folder / POINTER).is_file():
                sys.exit(
                    f'{run} is recorded without its weights; delete {str(run.folder)!r} and its record to train it'
                )
        with torch.no_grad():
            found = measure(finished, next(iter(teachers.values())))
        out = answer_folder(args)
        out.mkdir(parents=True, exist_ok=True)
        table = to_table(found, baseline)
        content = dict(
            augmentation=str(AUGMENTATION),
            severity=SEVERITY,
            corrupted_images=CORRUPTED_IMAGES,
            accuracy=found,
            environment=environment(),
        )
        AtomicLocalBackend().put_text(json.dumps(content, indent=2) + '\n', out / 'conditions.json')
        (out / 'conditions.md').write_text(table)
        print(f'\n{table}\nwritten to {out}: conditions.md and conditions.json')


if __name__ == '__main__':
    main()
