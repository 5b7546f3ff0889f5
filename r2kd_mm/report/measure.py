"""Ask trained networks again: about clean, augmented and corrupted validation images."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.device import get_device
from mmengine.runner import Runner, load_checkpoint
from torch import Tensor, nn

from r2kd_mm.corruptions import Corrupt
from r2kd_mm.datasets import NormalizeContrast
from r2kd_mm.distillers.student import unwrap_student
from r2kd_mm.engine.classes import classes_of
from r2kd_mm.engine.wrapped_data import data_preprocessor_of, innermost_datasets, short_name, short_types
from r2kd_mm.export.card import count_flops, measure_latency
from r2kd_mm.export.network import Logits
from r2kd_mm.export.student import PACKER
from r2kd_mm.registry import DATASETS, MODELS
from r2kd_mm.report.moved import model_with_teachers
from r2kd_mm.report.runs import RunGroup, TrainedRun
from r2kd_mm.report.views import Picture, augmented_view, is_bgr, spread_out, to_pixels, top_classes
from r2kd_mm.runs import accuracy, validation_logits
from r2kd_mm.teachers.build import load_weights_
from r2kd_mm.weights import forget_initial_weights_

VIEW_IMAGES = 512  # that are kept in memory, to make views of
SHOWN_IMAGES = 8
_TEACHER = 'teacher'  # beside the places of the students: the logits that they learned from

Ask = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Cost:
    """What one image costs.

    Args:
        parameters: Number of weights.
        flops: Multiply-adds, as mmengine.analysis counts.
        latency: Median time of a call with one image, in milliseconds, on this machine's processor.
    """

    parameters: int
    flops: int
    latency: float


@dataclass
class Teacher:
    """What taught a method: a network, or a mixture of several.

    Args:
        names: Of the networks.
        logits: What it says of the images, shape ``(images, classes)``.
        cost: Of the first network.
        corrupted: By corruption and severity: accuracy in percent.
    """

    names: tuple[str, ...]
    logits: Tensor
    cost: Cost
    corrupted: dict[tuple[str, int], float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """``teacher + pruned teacher``."""
        return mixture_name(self.names)


@dataclass
class Method:
    """What was measured of the runs of one method.

    Args:
        group: Its runs.
        students: Logits of the student of each run, shape ``(images, classes)``.
        cost: Of the student.
        teacher: What taught the students; ``None`` without a teacher.
        corrupted: By corruption and severity: accuracy of each student, in percent.
        clean_view: Logits of each teacher, and of their mixture, on the clean images of the views.
        augmented_view: Likewise, on the augmented view of those; empty without augmentation.
        pictures: Rows of pictures of the views; empty without augmentation.
        augmentation: The augmentation as text.
    """

    group: RunGroup
    students: list[Tensor]
    cost: Cost
    teacher: Teacher | None = None
    corrupted: dict[tuple[str, int], list[float]] = field(default_factory=dict)
    clean_view: dict[str, Tensor] = field(default_factory=dict)
    augmented_view: dict[str, Tensor] = field(default_factory=dict)
    pictures: dict[str, list[Picture]] = field(default_factory=dict)
    augmentation: str = ''

    @property
    def name(self) -> str:
        """What the method is called."""
        return self.group.name

    @property
    def seeds(self) -> list[int | None]:
        """Of its runs."""
        return [run.seed for run in self.group.runs]


@dataclass(frozen=True)
class Measurements:
    """Everything the page shows, other than what the runs logged themselves.

    Args:
        methods: In the order of the groups.
        labels: Of the images that were looked at, shape ``(images,)``.
        classes: Their names.
        data: What the images are, for captions.
        notes: What could not be measured, and why.
    """

    methods: list[Method]
    labels: Tensor
    classes: list[str]
    data: str
    notes: list[str]


@dataclass(frozen=True)
class _Networks:
    """The networks of a group, ready to be asked."""

    students: list[nn.Module]
    distiller: Any  # a LogitDistiller, or what has its teachers and teacher_logits; None without a teacher
    preprocessor: nn.Module


def measure(
    groups: Sequence[RunGroup],
    num_images: int,
    corruptions: Sequence[tuple[str, int]],
    report: Callable[[str], None] = print,
) -> Measurements:
    """Ask every student and every teacher.

    Args:
        groups: The runs.
        num_images: Look at so many validation images, drawn at random and the same each time.
        corruptions: Names and severities.
        report: Called with a line about what is done next.
    """
    notes: list[str] = []
    configs = [looked_at(group.config, num_images) for group in groups]
    dataset = DATASETS.build(copy.deepcopy(configs[0].val_dataloader.dataset))
    networks = []
    for group in groups:
        report(f'{group.name}: loading {len(group.runs)} students and the teachers')
        networks.append(_load_networks(group, notes))

    report(f'asking all networks about {len(dataset)} images')
    logits, labels = _ask_all(networks, configs)
    width = next(iter(logits[0].values())).shape[1]
    names = classes_of(dataset) or ()
    classes = [str(name) for name in (names if len(names) == width else range(width))]
    images = [_first_images(config) for config in configs]
    methods = [
        Method(
            group,
            students=[answers[str(place)] for place in range(len(group.runs))],
            cost=_cost(unwrap_student(loaded.students[0]), batch[:1]),
            teacher=_teacher(loaded, answers, batch[:1]),
        )
        for group, loaded, answers, (batch, _) in zip(groups, networks, logits, images)
    ]
    for method, loaded, config, (batch, view_labels) in zip(methods, networks, configs, images):
        if loaded.distiller is not None:
            _look_at_views(method, loaded, is_bgr(config, 'val_dataloader'), batch, view_labels, classes)

    for index, (name, severity) in enumerate(corruptions):
        if index % max(1, len(corruptions) // 5) == 0:
            report(f'corruption {index + 1} of {len(corruptions)}: {name}')
        corrupted, _ = _ask_all(networks, [corrupted_config(config, name, severity) for config in configs])
        for method, answers in zip(methods, corrupted):
            scores = {key: accuracy(values, labels) for key, values in answers.items()}
            if method.teacher is not None:
                method.teacher.corrupted[name, severity] = scores.pop(_TEACHER)
            method.corrupted[name, severity] = list(scores.values())
    data = f'{len(labels)} validation images of {short_types(configs[0].val_dataloader.dataset.to_dict())["type"]}'
    return Measurements(methods, labels, classes, data, notes)


def mixture_name(teachers: Iterable[str]) -> str:
    """What the mixture of these teachers is called: ``teacher + pruned teacher``."""
    return ' + '.join(name.replace('_', ' ') for name in teachers)


# ------------------------------------------------------------------------------------------------------------ networks
def _load_networks(group: RunGroup, notes: list[str]) -> _Networks:
    students = [_load_student(run) for run in group.runs]
    preprocessor = MODELS.build(data_preprocessor_of(group.config)).to(get_device())
    distiller = None
    if _was_untrained(group.config.model):
        notes.append(f'The teacher of {group.name} was random and is not kept, so what needs it is left out.')
    elif 'teacher' in group.config.model:
        try:
            distiller = _load_distiller(group.runs[0])
        except OSError as error:
            notes.append(f'The teacher of {group.name} is not here, so what needs it is left out: {error}')
    return _Networks(students, distiller, preprocessor)


def _was_untrained(model: Mapping[str, Any]) -> bool:
    """Whether the teacher's weights were those it was built with; those of an ensemble stand at its members."""
    is_one = 'members' not in (model.get('teacher') or {})
    return bool(model.get('allow_untrained_teacher')) and model.get('teacher_ckpt') is None and is_one


def _load_student(run: TrainedRun) -> nn.Module:
    model = copy.deepcopy(run.config.model)
    forget_initial_weights_(model)
    architecture = {'data_preprocessor': data_preprocessor_of(run.config), **model.get('architecture', model)}
    student = MODELS.build(architecture)
    load_weights_(student, str(run.checkpoint))
    return student.eval().to(get_device())


def _load_distiller(run: TrainedRun) -> Any:
    """The model of the run with its teachers; ``None`` where it has none that can be asked."""
    config = run.config
    model = model_with_teachers(run)
    forget_initial_weights_(model)
    fields = {'data_preprocessor': data_preprocessor_of(config), **model, 'replay': None, 'compile_student': False}
    if not config.model.get('replay'):  # another distiller than ours need not know these fields
        fields = {key: value for key, value in fields.items() if key in config.model or key == 'data_preprocessor'}
    model = MODELS.build(fields)
    # weights between teachers may have been learned
    load_checkpoint(model, str(run.checkpoint), strict=False, logger='silent')
    return model.to(get_device()) if getattr(model, 'teachers', None) else None


def _ask_all(networks: Sequence[_Networks], configs: Sequence[Config]) -> tuple[list[dict[str, Tensor]], Tensor]:
    """Logits of the networks of each group, by place of the run, or ``_TEACHER``, and the labels.

    Groups whose images are loaded and normalised alike are asked together.
    """
    together: dict[str, list[int]] = {}
    for place, config in enumerate(configs):
        together.setdefault(f'{config.val_dataloader} {data_preprocessor_of(config)}', []).append(place)
    answers: list[dict[str, Tensor]] = [{} for _ in networks]
    for places in together.values():
        config = copy.deepcopy(configs[places[0]])
        config.val_dataloader.pop('persistent_workers', None)
        asked = {
            f'{place}/{name}': _on_device(ask) for place in places for name, ask in _askable(networks[place]).items()
        }
        logits, labels = validation_logits(asked, config)
        for key, values in logits.items():
            group, name = key.split('/', 1)
            answers[int(group)][name] = values
    return answers, labels


def _askable(networks: _Networks) -> dict[str, Ask]:
    students: dict[str, Ask] = {str(place): Logits(student) for place, student in enumerate(networks.students)}
    return students if networks.distiller is None else {**students, _TEACHER: networks.distiller.teacher_logits}


def _on_device(ask: Ask) -> Callable[..., Tensor]:
    return lambda images, mode: ask(images.to(get_device())).float().cpu()  # called as a classifier is


# -------------------------------------------------------------------------------------------------------------- images
def looked_at(config: Config, num_images: int) -> Config:
    """The config with ``num_images`` of its validation images; all where there are fewer, or the set is a wrapped one.

    They are drawn at random, the same each time: an even spacing would miss classes where the labels are periodic.
    """
    config = copy.deepcopy(config)
    dataset = config.val_dataloader.dataset
    if innermost_datasets(dataset)[0] is not dataset:
        return config
    images = _positions(dataset)
    if len(images) > num_images:
        chosen = np.random.default_rng(0).choice(len(images), num_images, replace=False)
        dataset.indices = [images[place] for place in sorted(chosen.tolist())]
    return config


def _positions(dataset: ConfigDict) -> Sequence[int]:
    """Positions of the images of a data set in the whole that its ``indices`` take them from."""
    chosen = dataset.get('indices')
    if isinstance(chosen, Sequence):
        return chosen
    whole = {key: copy.deepcopy(value) for key, value in dataset.items() if key != 'indices'}
    everything = range(len(DATASETS.build(whole)))
    if chosen is None:
        return everything
    return everything[:chosen] if chosen >= 0 else everything[chosen:]


def corrupted_config(config: Config, name: str, severity: int) -> Config:
    """The config with images of the network's size corrupted, before anything evens them out."""
    config = copy.deepcopy(config)
    for dataset in innermost_datasets(config.val_dataloader.dataset):
        pipeline = dataset.pipeline
        kinds = [short_name(step['type']) for step in pipeline]
        places = [place for place, kind in enumerate(kinds) if kind in (NormalizeContrast.__name__, PACKER)]
        step = dict(type=Corrupt, name=name, severity=severity)
        dataset.pipeline = [*pipeline[: (place := min(places, default=len(pipeline)))], step, *pipeline[place:]]
    return config


def _first_images(config: Config) -> tuple[Tensor, Tensor]:
    """At most :data:`VIEW_IMAGES` normalised images of those looked at, and their labels."""
    config = looked_at(config, VIEW_IMAGES)
    preprocessor = MODELS.build(data_preprocessor_of(config))
    batches = [preprocessor(batch, training=False) for batch in Runner.build_dataloader(config.val_dataloader)]
    labels = [sample.gt_label for data in batches for sample in data['data_samples']]
    return torch.cat([data['inputs'] for data in batches]), torch.cat(labels)


@torch.no_grad()
def _look_at_views(
    method: Method, networks: _Networks, bgr: bool, images: Tensor, labels: Tensor, classes: Sequence[str]
) -> None:
    """Fill in what is said of the clean images and of their augmented view."""
    distiller, preprocessor = networks.distiller, networks.preprocessor
    images = images.to(get_device())
    method.clean_view.update(_teachers_say(distiller, images))
    augmentation = getattr(distiller, 'augmentation', None)
    if augmentation is None:
        return
    view = augmented_view(augmentation, images, distiller.teacher_logits, preprocessor)
    method.augmented_view.update(_teachers_say(distiller, view))
    method.augmentation = str(augmentation)
    shown = spread_out(labels, SHOWN_IMAGES)
    # a view may be of another image than that in its place (CutMixPick), so it has no label
    for row, batch, heads in (
        ('clean', images, [f'is {classes[int(labels[place])]}\n' for place in shown]),
        ('augmented', view, [''] * len(shown)),
    ):
        chosen = batch[[place for place in shown if place < len(batch)]]
        said = top_classes(distiller.teacher_logits(chosen).float().cpu(), classes)
        pixels = to_pixels(chosen, preprocessor, bgr)
        method.pictures[row] = [Picture(image, head + text) for image, head, text in zip(pixels, heads, said)]


def _teachers_say(distiller: Any, images: Tensor) -> dict[str, Tensor]:
    """Logits of each teacher, and where there are several, of their mixture."""
    batches = images.split(VIEW_IMAGES // 8)
    asks: dict[str, Ask] = {mixture_name([name]): Logits(teacher) for name, teacher in distiller.teachers.items()}
    if len(asks) > 1:
        asks[mixture_name(asks)] = distiller.teacher_logits
    return {name: torch.cat([ask(batch).float().cpu() for batch in batches]) for name, ask in asks.items()}


# ---------------------------------------------------------------------------------------------------------------- cost
def _teacher(networks: _Networks, answers: dict[str, Tensor], image: Tensor) -> Teacher | None:
    if networks.distiller is None:
        return None
    teachers = networks.distiller.teachers
    return Teacher(tuple(teachers), answers[_TEACHER], _cost(next(iter(teachers.values())), image))


def _cost(classifier: nn.Module, image: Tensor) -> Cost:
    network = Logits(copy.deepcopy(classifier).cpu()).eval()
    parameters = sum(weight.numel() for weight in network.parameters())
    return Cost(parameters, count_flops(network, image), measure_latency(network, image))
