"""Plan a call of ``r2kd-mm distill``: find the networks, write the config files, and try out each network."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmengine.registry import DefaultScope

from r2kd_mm.distillers import R2KD
from r2kd_mm.distillers.objective import needs_target
from r2kd_mm.networks.files import is_file_network
from r2kd_mm.photos.config import Data, Recipe, classifier_run, distillation_run, installed, write_config
from r2kd_mm.photos.folder import Photos
from r2kd_mm.photos.options import AUTO, Options
from r2kd_mm.photos.sides import Cost, Side, Teacher, cost_of, find_side, find_teacher, initial_network, trained_teacher
from r2kd_mm.photos.split import UNLABELLED_LIST
from r2kd_mm.photos.teachers import MAIN
from r2kd_mm.registry import MODELS
from r2kd_mm.runs import Method, Run
from r2kd_mm.runs.result import has_result

TEACHER, ALONE, DISTILLED = MAIN, 'student_alone', 'student_distilled'
BEST_METHOD = 'dist_light'  # by measurement, docs/own_photos.md
BYTES = 4 * 3 * 4  # of a weight in the checkpoints of a run: float32, with its two moments, in up to four files


@dataclass(frozen=True)
class Plan:
    """Plan of a call of ``r2kd-mm distill``: photos, networks, and the runs that train teachers and students.

    Args:
        options: Options that the user gave.
        photos: Photos to train and to validate on.
        teachers: Teachers with their images.
        student: Student with its images.
        method: Name of the distillation method.
        teacher_runs: Runs that train the teachers that are not trained yet.
        student_runs: Runs that train the student, alone and with the teachers.
    """

    options: Options
    photos: Photos
    teachers: tuple[Teacher, ...]
    student: Side
    method: str
    teacher_runs: tuple[Run, ...]
    student_runs: tuple[Run, ...]

    @property
    def distilled(self) -> Run:
        """The first run of the distilled student, which is exported."""
        return next(run for run in self.student_runs if run.method.name == DISTILLED)


def make_plan(options: Options, photos: Photos) -> Plan:
    """Find all networks and write the config of each stage.

    Raises:
        ValueError: A network is unknown, or has no such weights.
        FileNotFoundError: A file is missing.
    """
    count = len(photos.classes)
    if is_file_network(options.student):
        raise ValueError(
            f'--student {options.student} is a trained file, which can only teach; give the name of a network'
        )
    student = find_side(options.student, count, options.student_init, options.image_size, None)
    names = [TEACHER, *(f'{TEACHER}_{number}' for number in range(2, len(options.teachers) + 1))]
    teachers = tuple(
        find_teacher(name, asked, photos.classes, student.inputs) for name, asked in zip(names, options.teachers)
    )

    method = BEST_METHOD if options.method == AUTO else options.method
    if len(teachers) > 1 and installed(f'methods/{method}')['model']['type'] == R2KD.__name__:
        raise ValueError(
            f'--method {method} learns from one teacher and its pruned copy, got {len(teachers)} teachers; give one '
            f'--teacher, or another --method such as {BEST_METHOD}'
        )
    folder = options.out.resolve()
    runs = folder / 'runs'
    free = None
    if photos.unlabelled is not None:
        _refuse_labels(method)
        if options.replay is not None:
            raise ValueError(
                '--replay needs images that come again in every round, and photos without labels come in passes of '
                'their own; leave --replay out, or take these photos away'
            )
        free = str(photos.unlabelled.root.resolve()), str(folder / 'data' / UNLABELLED_LIST)
    data = Data(
        str(photos.root.resolve()),
        photos.classes,
        photos.train,
        photos.val,
        options.workers,
        free,
        options.unlabelled_share,
    )
    recipe = Recipe(
        options.epochs,
        options.batch_size,
        options.lr,
        options.student_init != 'none',
        options.flip,
        options.amp,
        options.loggers,
        processes=options.processes,
    )

    def planned(name: str, cfg: Mapping[str, Any], says: str, seed: int = 0) -> Run:
        path = folder / 'configs' / f'{name}.py'
        train = f'python tools/train.py {path}'
        if options.processes > 1:
            train = f'bash tools/dist_train.sh {path} {options.processes}'
        write_config(cfg, path, [says, f'{train} --work-dir work_dirs/{name} trains it again with the same result.'])
        return Run(Method(name, str(path)), seed, runs / name / f'seed_{seed}', options.processes)

    teacher_runs: list[Run] = []
    members: dict[str, dict[str, Any]] = {}
    for teacher in teachers:
        asked, checkpoint = teacher.asked, teacher.asked.ckpt
        if checkpoint is not None:
            checkpoint = str(Path(checkpoint).expanduser().resolve())
        if not teacher.is_trained:
            of_teacher = replace(recipe, lr=asked.lr, pretrained=asked.init != 'none')
            cfg = classifier_run(teacher.network, teacher.inputs, data, of_teacher)
            says = f'The teacher {asked.network}, trained on {options.data.resolve()} from weights: {asked.init}.'
            teacher_runs.append(planned(teacher.name, cfg, says))
            checkpoint = str(teacher_runs[-1].folder / f'epoch_{options.epochs}.pth')
        members[teacher.name] = dict(teacher=teacher.config(photos.classes), teacher_ckpt=checkpoint)
    taught_by, checkpoint = members[TEACHER]['teacher'], members[TEACHER]['teacher_ckpt']
    if len(members) > 1:
        taught_by, checkpoint = dict(type='TeacherEnsemble', members=members), None
    replay = None if options.replay is None else (str(folder / 'teacher_logits'), options.replay)
    cfgs = {
        ALONE: (
            classifier_run(student.network, student.inputs, data, recipe),
            f'The student {options.student} alone, from weights: {options.student_init}.',
        ),
        DISTILLED: (
            distillation_run(student.network, student.inputs, taught_by, checkpoint, method, data, recipe, replay),
            f'The student {options.student}, distilled from {_joined(options)} by {method}.',
        ),
    }
    if not options.baseline:
        del cfgs[ALONE]
    student_runs = [
        planned(name, cfg, says, seed) for seed in range(options.seeds) for name, (cfg, says) in cfgs.items()
    ]
    return Plan(options, photos, teachers, student, method, tuple(teacher_runs), tuple(student_runs))


def check_plan(plan: Plan) -> dict[str, Cost]:
    """Build all networks, load what they start from, and show them an image, before anything is trained.

    Returns:
        What teachers and student cost, by the name of the run.

    Raises:
        ValueError: Weights do not fit or cannot be had, a network does not take its images, or the disk is too small.
    """
    costs = {}
    options = plan.options
    with DefaultScope.overwrite_default_scope('r2kd_mm'):
        for teacher in plan.teachers:
            name = teacher.asked.network
            if teacher.is_trained:
                network = trained_teacher(teacher, plan.student.inputs, plan.photos.classes)
            else:
                network = initial_network(teacher, name, teacher.asked.init)
            costs[teacher.name] = cost_of(network, teacher, name)
        network = initial_network(plan.student, options.student, options.student_init)
        costs[DISTILLED] = costs[ALONE] = cost_of(network, plan.student, options.student)
    runs = (*plan.teacher_runs, *plan.student_runs)
    needed = sum(BYTES * (costs[run.method.name].parameters or 0) for run in runs if not has_result(run))
    options.out.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(options.out).free
    if free < needed:
        raise ValueError(
            f'--out {str(options.out)!r} has {free / 1e9:.1f} GB free, and the checkpoints and exports need about '
            f'{needed / 1e9:.1f} GB; give another folder'
        )
    return costs


def _refuse_labels(method: str) -> None:
    """Refuse a method whose losses need the labels of all images."""
    with DefaultScope.overwrite_default_scope('r2kd_mm'):
        losses = {name: MODELS.build(loss) for name, loss in installed(f'methods/{method}')['model']['losses'].items()}
    needing = [name for name, loss in losses.items() if needs_target(loss)]
    if needing:
        raise ValueError(
            f'--method {method} needs labels ({", ".join(needing)}), and there are photos without; take another '
            'method, or take these photos away'
        )


def _joined(options: Options) -> str:
    return ' and '.join(teacher.network for teacher in options.teachers)
