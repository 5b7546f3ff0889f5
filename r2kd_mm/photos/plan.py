"""Plan a call of the command: the networks, their images, and a config file for each stage."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from torch import nn

from r2kd_mm.classifiers import classifier_logits
from r2kd_mm.cost import count_flops, measure_latency
from r2kd_mm.distillers.objective import needs_target
from r2kd_mm.engine.classes import check_same_classes
from r2kd_mm.engine.cli import readable_message
from r2kd_mm.networks import FileNetwork, Inputs, NamedNetwork, find_network
from r2kd_mm.networks.files import is_file_network
from r2kd_mm.photos.config import Data, Recipe, adapted, classifier_run, distillation_run, installed, write_config
from r2kd_mm.photos.folder import Photos
from r2kd_mm.photos.options import AUTO, Options
from r2kd_mm.photos.split import UNLABELLED_LIST
from r2kd_mm.registry import MODELS
from r2kd_mm.runs import Method, Run
from r2kd_mm.runs.result import has_result
from r2kd_mm.teachers.build import build_teacher, check_same_inputs

DEFAULT_SIZE = 224  # where a collection states no size
TEACHER, ALONE, DISTILLED = 'teacher', 'student_alone', 'student_distilled'
# By measurement, docs/own_photos.md. With two classes there is no ranking to learn
BEST_METHOD, WITH_TWO_CLASSES = 'dist_light', 'kd_light'
BYTES = 4 * 3 * 4  # of a weight in the checkpoints of a run: float32, two moments beside it, and up to four files


@dataclass(frozen=True)
class Side:
    """Teacher or student.

    Args:
        network: As it was found.
        inputs: The images that it gets in its own training.
        num_classes: Number of its logits.
    """

    network: NamedNetwork
    inputs: Inputs
    num_classes: int


@dataclass(frozen=True)
class Cost:
    """Hold the cost of a network.

    Args:
        parameters: Their number; ``None`` where a file does not say.
        flops: Multiply-adds of one image; ``None`` of a network in a file.
        milliseconds: Of one image on this machine, the median of some.
    """

    parameters: int | None
    flops: int | None
    milliseconds: float


@dataclass(frozen=True)
class Plan:
    """The stages of a call.

    Args:
        options: What was asked for.
        photos: The data.
        teacher: The teacher.
        student: The student.
        method: How the student learns.
        teacher_run: Trains the teacher; ``None`` where it is trained.
        student_runs: Train the student, alone and from the teacher.
    """

    options: Options
    photos: Photos
    teacher: Side
    student: Side
    method: str
    teacher_run: Run | None
    student_runs: tuple[Run, ...]

    @property
    def distilled(self) -> Run:
        """The first run of the distilled student, which is exported."""
        return next(run for run in self.student_runs if run.method.name == DISTILLED)


def make_plan(options: Options, photos: Photos) -> Plan:
    """Find both networks and write the config of each stage.

    Raises:
        ValueError: A network is unknown, or has no such weights.
        FileNotFoundError: A file is missing.
    """
    count = len(photos.classes)
    if options.teacher_ckpt is not None and not Path(options.teacher_ckpt).expanduser().is_file():
        raise FileNotFoundError(f'--teacher-ckpt: there is no file {options.teacher_ckpt!r}')
    if is_file_network(options.student):
        raise ValueError(
            f'--student {options.student} is a trained file, which can only teach; give the name of a network'
        )
    student = _side(options.student, count, options.student_init, options.image_size, None)
    teacher, names = _teacher(options, photos.classes, student.inputs)
    trained = teacher.network.is_trained or options.teacher_ckpt is not None
    teacher_count = teacher.num_classes

    method = options.method
    if method == AUTO:
        method = WITH_TWO_CLASSES if count == 2 else BEST_METHOD
    folder = options.out.resolve()
    runs = folder / 'runs'
    free = None
    if photos.unlabelled is not None:
        _refuse_labels(method)
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
    )
    of_teacher = replace(recipe, lr=options.teacher_lr, pretrained=options.teacher_init != 'none')

    def planned(name: str, cfg: Mapping[str, Any], says: str, seed: int = 0) -> Run:
        path = folder / 'configs' / f'{name}.py'
        again = f'python tools/train.py {path} --work-dir work_dirs/{name} trains it again with the same result.'
        write_config(cfg, path, [says, again])
        return Run(Method(name, str(path)), seed, runs / name / f'seed_{seed}')

    teacher_run, checkpoint = None, options.teacher_ckpt
    if checkpoint is not None:
        checkpoint = str(Path(checkpoint).expanduser().resolve())
    if not trained:
        cfg = classifier_run(teacher.network, teacher.inputs, data, of_teacher)
        says = (
            f'The teacher {options.teacher}, trained on {options.data.resolve()} from weights: {options.teacher_init}.'
        )
        teacher_run = planned(TEACHER, cfg, says)
        checkpoint = str(teacher_run.folder / f'epoch_{options.epochs}.pth')
    fields = dict(classes=list(photos.classes), network_classes=names) if names else {}
    within = find_network(options.teacher, teacher_count).config  # without initial weights
    taught = adapted(_sized(within, teacher.inputs, teacher.network.inputs), teacher.inputs, **fields)
    cfgs = {
        ALONE: (
            classifier_run(student.network, student.inputs, data, recipe),
            f'The student {options.student} alone, from weights: {options.student_init}.',
        ),
        DISTILLED: (
            distillation_run(student.network, student.inputs, taught, checkpoint, method, data, recipe),
            f'The student {options.student}, distilled from {options.teacher} by {method}.',
        ),
    }
    if not options.baseline:
        del cfgs[ALONE]
    student_runs = [
        planned(name, cfg, says, seed) for seed in range(options.seeds) for name, (cfg, says) in cfgs.items()
    ]
    return Plan(options, photos, teacher, student, method, teacher_run, tuple(student_runs))


def check_plan(plan: Plan) -> dict[str, Cost]:
    """Build both networks, load what they start from, and show them an image, before anything is trained.

    Returns:
        What teacher and student cost.

    Raises:
        ValueError: Weights do not fit or cannot be had, a network does not take its images, or the disk is too small.
    """
    costs = {}
    options = plan.options
    with DefaultScope.overwrite_default_scope('r2kd_mm'):
        if plan.teacher_run is None:
            config = adapted(plan.teacher.network.config, plan.teacher.inputs)
            within = build_teacher(config, options.teacher_ckpt)
            view = dict(type='ClsDataPreprocessor', **plan.student.inputs.normalisation)
            check_same_inputs(within, MODELS.build(view))
            teacher = within.get_submodule('network')
            if options.teacher_classes is None and not plan.teacher.network.is_trained:
                check_same_classes(
                    getattr(teacher, '_dataset_meta', {}).get('classes'),
                    plan.photos.classes,
                    owners='--teacher-ckpt and the photos',
                    remedy='name the classes of the teacher by --teacher-classes, or fine-tune it on the photos',
                )
        else:
            teacher = _initial(plan.teacher, options.teacher, options.teacher_init)
        costs[TEACHER] = _cost(teacher, plan.teacher, options.teacher)
        student = _initial(plan.student, options.student, options.student_init)
        costs[DISTILLED] = costs[ALONE] = _cost(student, plan.student, options.student)
    runs = [*([plan.teacher_run] if plan.teacher_run is not None else []), *plan.student_runs]
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


def _teacher(options: Options, classes: tuple[str, ...], of_student: Inputs) -> tuple[Side, list[str] | None]:
    """The teacher, and the names of its logits where they are not those of the photos."""
    is_file = is_file_network(options.teacher)
    if is_file and options.teacher_ckpt is not None:
        raise ValueError(f'--teacher {options.teacher} holds its weights; leave --teacher-ckpt out')
    if options.teacher_classes is not None and not is_file and options.teacher_ckpt is None:
        raise ValueError(
            '--teacher-classes names the classes of a trained teacher, so it needs --teacher-ckpt, or a file as the '
            '--teacher'
        )
    names = _lines(options.teacher_classes) if options.teacher_classes else None
    initial = 'none' if is_file or options.teacher_ckpt is not None else options.teacher_init
    side = _side(options.teacher, len(names or classes), initial, options.teacher_image_size, of_student)
    found = side.network
    if is_file and found.inputs is None and options.teacher_mean is None:
        raise ValueError(
            f'--teacher {options.teacher} does not say how its images are normalised; give --teacher-mean and '
            '--teacher-std, of pixels from 0 to 255, and --teacher-image-size where it is not that of the student'
        )
    if options.teacher_mean is not None and options.teacher_std is not None:
        normalised = replace(side.inputs, mean=options.teacher_mean, std=options.teacher_std, to_rgb=True)
        side = replace(side, inputs=normalised)
    if names is None and found.classes is not None and found.classes != classes:
        names = list(found.classes)
        side = replace(side, num_classes=len(names))
    return side, names


def _side(name: str, count: int, weights: str, size: int | None, other: Inputs | None) -> Side:
    found = find_network(name, count, weights)
    stated = found.inputs or other or Inputs(DEFAULT_SIZE)
    inputs = stated if size is None else replace(stated, size=size)
    return Side(replace(found, config=_sized(found.config, inputs, found.inputs)), inputs, count)


def _sized(config: Mapping[str, Any], inputs: Inputs, stated: Inputs | None) -> dict[str, Any]:
    """The config of a network of fixed size for images of another one, where its collection can build such."""
    sized = dict(config)
    if stated is not None and stated.fixed and inputs.size != stated.size and sized['type'] == 'TimmClassifier':
        sized['img_size'] = inputs.size
    return sized


def _initial(side: Side, name: str, weights: str) -> nn.Module:
    """A network with the weights that it starts from."""
    try:
        network = MODELS.build(ConfigDict(side.network.config))
        if hasattr(network, 'init_weights'):
            network.init_weights()
    except Exception as error:  # whatever a collection raises where it has no connection
        if weights == 'none':
            raise
        source = 'published' if weights == 'published' else f'in {weights!r}'
        raise ValueError(
            f'{name} cannot start from its weights {source}: {readable_message(error).splitlines()[0]}. Give their '
            "file (--teacher-init, --student-init), or 'none' for random weights"
        ) from error
    return network


def _cost(network: nn.Module, side: Side, name: str) -> Cost:
    size = side.inputs.size
    images = torch.zeros(2, len(side.inputs.mean), size, size)  # a file may take one image only
    network.eval()
    try:
        with torch.no_grad():
            logits = classifier_logits(network, images)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ValueError(
            f'{name} does not take images of {size} x {size} pixels: {readable_message(error).splitlines()[0]}; give '
            'another --image-size or --teacher-image-size'
        ) from error
    if len(logits) != len(images):
        raise ValueError(
            f'{name} gives {len(logits)} rows of logits for {len(images)} images, as a file that was traced for one '
            'batch size; write it for any'
        )
    if logits.shape[1] != side.num_classes:
        remedy = 'name them all by --teacher-classes' if side.network.is_trained else 'take another network'
        raise ValueError(f'{name} gives {logits.shape[1]} logits for {side.num_classes} classes; {remedy}')
    milliseconds = measure_latency(lambda batch: classifier_logits(network, batch), images[:1])
    if isinstance(network, FileNetwork):
        return Cost(network.num_parameters, None, milliseconds)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return Cost(parameters, count_flops(network, images[:1]), milliseconds)


def _lines(path: str) -> list[str]:
    if not Path(path).expanduser().is_file():
        raise FileNotFoundError(f'--teacher-classes: there is no file {path!r}; give a text file with one class a line')
    text = Path(path).expanduser().read_text(encoding='utf-8-sig')
    return [line.strip() for line in text.splitlines() if line.strip()]
