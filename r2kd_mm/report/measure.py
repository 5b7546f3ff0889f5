"""Run trained networks on clean, augmented and corrupted validation images; collect logits, accuracies and costs."""

from __future__ import annotations

import copy
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import DefaultScope
from mmengine.runner import load_checkpoint
from torch import Tensor, nn

from r2kd_mm.classifiers import classifier_logits
from r2kd_mm.cost import count_flops, measure_latency
from r2kd_mm.distillers.student import unwrap_student
from r2kd_mm.engine.classes import classes_of
from r2kd_mm.engine.wrapped_data import data_preprocessor_of, short_types
from r2kd_mm.moved import old_names
from r2kd_mm.registry import DATASETS, MODELS
from r2kd_mm.report.images import chosen_images, corrupted_config, first_images, looked_at
from r2kd_mm.report.measurements import Cost, MeasuredMethod, MeasuredTeacher, Measurements, WrongImage, mixture_name
from r2kd_mm.report.numbers import surest_errors
from r2kd_mm.report.teacher_files import model_with_teachers
from r2kd_mm.report.trained_runs import RunGroup, TrainedRun
from r2kd_mm.report.views import Picture, augmented_view, is_bgr, spread_out, to_pixels, top_classes
from r2kd_mm.runs import accuracy, load_network, validation_logits
from r2kd_mm.weights import forget_initial_weights_

__getattr__ = old_names(__name__)

VIEW_IMAGES = 512  # that are kept in memory, to make views of
SHOWN_IMAGES = 8
SHOWN_ERRORS = 12
TEXT_WIDTH = 24  # characters below an image
_TEACHER = 'teacher'  # next to the places of the students: the logits that they learned from

Ask = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class _Networks:
    """The networks of a group, ready to be asked."""

    students: list[nn.Module]
    distiller: Any  # a LogitDistiller, or what has its teachers and teacher_logits; None without a teacher
    preprocessor: nn.Module


@DefaultScope.overwrite_default_scope('r2kd_mm')
def measure(
    groups: Sequence[RunGroup],
    num_images: int,
    corruptions: Sequence[tuple[str, int]],
    report: Callable[[str], None] = print,
) -> Measurements:
    """Measure every student and every teacher on the validation images.

    Args:
        groups: Trained runs, by method.
        num_images: Number of validation images, drawn at random with a fixed seed.
        corruptions: Pairs of a corruption's name and severity.
        report: Function that gets each progress message; prints by default.

    Example:
        >>> from r2kd_mm.report import find_groups
        >>> found = measure(find_groups(['work_dirs']), num_images=100, corruptions=[('contrast', 3)])
        KD: loading the teachers and 1 student(s)
        R2KD: loading the teachers and 1 student(s)
        asking all networks about 100 images
        corruption 1 of 1: contrast
        >>> found.methods[0].students[0].shape
        torch.Size([100, 10])
    """
    notes: list[str] = []
    configs = [looked_at(group.config, num_images) for group in groups]
    dataset = DATASETS.build(copy.deepcopy(configs[0].val_dataloader.dataset))
    networks = []
    for group in groups:
        report(f'{group.name}: loading the teachers and {len(group.runs)} student(s)')
        networks.append(_load_networks(group, notes))

    report(f'asking all networks about {len(dataset)} images')
    logits, labels = _ask_all(networks, configs)
    width = next(iter(logits[0].values())).shape[1]
    names = classes_of(dataset) or ()
    classes = [str(name) for name in (names if len(names) == width else range(width))]
    images = [first_images(config, VIEW_IMAGES) for config in configs]
    methods = [
        MeasuredMethod(
            group,
            students=[answers[str(place)] for place in range(len(group.runs))],
            cost=_cost([unwrap_student(loaded.students[0])], batch[:1]),
            teacher=_teacher(loaded, answers, batch[:1]),
            errors=_errors(config, answers['0'], labels, classes),
        )
        for group, loaded, config, answers, (batch, _) in zip(groups, networks, configs, logits, images)
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


def _load_networks(group: RunGroup, notes: list[str]) -> _Networks:
    students = [load_network(run.config, run.checkpoint).to(get_device()) for run in group.runs]
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
    """Tell whether the teacher had random weights; the members of an ensemble name their own checkpoints."""
    is_one = 'members' not in (model.get('teacher') or {})
    return bool(model.get('allow_untrained_teacher')) and model.get('teacher_ckpt') is None and is_one


def _load_distiller(run: TrainedRun) -> Any:
    """Build the model of the run with its teachers; ``None`` where it has none that can be asked."""
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
    """Return the logits of the networks of each group, by place of the run or ``_TEACHER``, and the labels.

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
    students: dict[str, Ask] = {
        str(place): partial(classifier_logits, student) for place, student in enumerate(networks.students)
    }
    return students if networks.distiller is None else {**students, _TEACHER: networks.distiller.teacher_logits}


def _on_device(ask: Ask) -> Callable[..., Tensor]:
    return lambda images, mode: ask(images.to(get_device())).float().cpu()  # called as a classifier is


@torch.no_grad()
def _look_at_views(
    method: MeasuredMethod, networks: _Networks, bgr: bool, images: Tensor, labels: Tensor, classes: Sequence[str]
) -> None:
    """Add the predictions for the clean images and for their augmented view."""
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
    """Return the logits of each teacher, and of their mixture where there are several."""
    batches = images.split(VIEW_IMAGES // 8)
    asks: dict[str, Ask] = {
        mixture_name([name]): partial(classifier_logits, teacher) for name, teacher in distiller.teachers.items()
    }
    if len(asks) > 1:
        asks[mixture_name(asks)] = distiller.teacher_logits
    return {name: torch.cat([ask(batch).float().cpu() for batch in batches]) for name, ask in asks.items()}


def _teacher(networks: _Networks, answers: dict[str, Tensor], image: Tensor) -> MeasuredTeacher | None:
    if networks.distiller is None:
        return None
    teachers = networks.distiller.teachers
    return MeasuredTeacher(tuple(teachers), answers[_TEACHER], _cost(teachers.values(), image))


def _errors(config: Config, logits: Tensor, labels: Tensor, classes: Sequence[str]) -> list[WrongImage]:
    """Return the surest errors of a network on the validation images of a config."""
    places = surest_errors(logits, labels, SHOWN_ERRORS)
    if not places:
        return []
    preprocessor = MODELS.build(data_preprocessor_of(config))
    images, files = chosen_images(config, places)
    pixels = to_pixels(preprocessor(images, training=False)['inputs'], preprocessor, is_bgr(config, 'val_dataloader'))
    found = []
    for place, image, file in zip(places, pixels, files):
        probability, predicted = (value.item() for value in logits[place].double().softmax(dim=0).max(dim=0))
        names = classes[int(labels[place])], classes[int(predicted)]
        text = '\n'.join(textwrap.fill(line, TEXT_WIDTH) for line in (f'is {names[0]}', f'taken for {names[1]}'))
        picture = Picture(image, f'{text}\n{100 * probability:.0f} %')
        found.append(WrongImage(picture, file, *names, 100 * probability))
    return found


def _cost(classifiers: Iterable[nn.Module], image: Tensor) -> Cost:
    """Return the cost of all ``classifiers`` together, one after the other."""
    costs = []
    for classifier in classifiers:
        network = copy.deepcopy(classifier).cpu().eval()
        parameters = sum(weight.numel() for weight in network.parameters())
        latency = measure_latency(partial(classifier_logits, network), image)
        costs.append((parameters, count_flops(network, image), latency))
    return Cost(*map(sum, zip(*costs)))
