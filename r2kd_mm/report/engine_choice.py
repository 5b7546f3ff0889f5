"""Time teachers and student in each memory format on this machine, and print the options of the fastest variants.

If a training step uses two views of each image, such as clean and augmented, the teachers are timed in two ways: on
both views in one batch, and on one view after the other.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from mmengine.config import Config
from mmengine.runner import Runner
from torch import Tensor

from r2kd_mm.classifiers import classifier_logits
from r2kd_mm.engine.run_config import read_changed_config
from r2kd_mm.engine.wrapped_data import short_name
from r2kd_mm.report.table import markdown_table
from r2kd_mm.runs.networks import build_distiller
from r2kd_mm.teachers.engine import TeacherEngine

ROUNDS = 10
MARGIN = 0.03  # share of the time that a change must save
FORMATS = {True: 'channels_last', False: 'contiguous'}
JOINED = {True: 'views in one batch', False: 'view by view'}
Seconds = Mapping[Any, float]


def print_choice(cfg: Config) -> None:
    """Time each variant on a training batch; print all times, and the ``--cfg-options`` of the fastest variant.

    A training never chooses by itself: times vary, so the run would not be reproducible. Printed options become part of
    the command, so a resumed run and all runs of a comparison use the same variant.

    Args:
        cfg: Config of a distillation.

    Raises:
        ValueError: ``teacher_engine`` is ``'plain'``, which has no variants.
    """
    distiller: Any = build_distiller(cfg)
    engine = distiller.step.targets.engine
    if engine.is_plain:
        raise ValueError("teacher_engine='plain' leaves nothing to choose; set model.teacher_engine=exact or =fast")
    batch = next(iter(Runner.build_dataloader(cfg.train_dataloader, seed=0)))
    images = distiller.data_preprocessor(batch, training=False)['inputs']
    views = len(distiller.step.views.names)
    of_teachers = measure(teacher_variants(distiller, engine, [images, images.flip(3)][:views]))
    of_student = measure(student_variants(cfg, images))
    format_, joined = fastest(of_teachers, (engine.channels_last, engine.join_views))
    student = fastest(of_student, bool(cfg.model.get('channels_last', False)))
    rows = [['network', 'variant', 'ms a batch']]
    for (memory, join), seconds in of_teachers.items():
        split = f', {JOINED[join]}' if views > 1 else ''
        rows.append(['teachers', f'{FORMATS[memory]}{split}', f'{1000 * seconds:.1f}'])
    rows += [['student', FORMATS[memory], f'{1000 * seconds:.1f}'] for memory, seconds in of_student.items()]
    print(f'\n{tuple(images.shape)} images a view, {views} views; medians of {ROUNDS} rounds\n')
    print(markdown_table(rows))
    settings = dict(engine.settings, channels_last=format_, join_views=joined)
    if isinstance(read_changed_config(cfg.filename, {}).model.get('teacher_engine'), str):
        settings['_delete_'] = True  # the name of a preset cannot be merged with fields
    options = [f'model.teacher_engine.{name}={value}' for name, value in settings.items()]
    print('Give these options to this run, and to every run that it is compared with:')
    print(f'--cfg-options {" ".join(options)} model.channels_last={student}')


def teacher_variants(distiller: Any, engine: TeacherEngine, views: list[Tensor]) -> dict[Any, Callable[[], object]]:
    """Return a pass of all teachers over the views, for each memory format and split of the views."""
    variants: dict[Any, Callable[[], object]] = {}
    for memory in FORMATS:
        for join in JOINED if len(views) > 1 else (engine.join_views,):
            changed = TeacherEngine.from_config(dict(engine.settings, channels_last=memory, join_views=join))
            batches = [torch.cat(views)] if join else views
            variants[memory, join] = partial(_ask, changed, list(distiller.teachers.values()), batches)
    return variants


def _ask(engine: TeacherEngine, networks: list[Any], batches: list[Tensor]) -> None:
    for network in networks:
        for images in batches:
            engine.logits(network, images)


def student_variants(cfg: Config, images: Tensor) -> dict[Any, Callable[[], object]]:
    """Return a forward and backward pass of the student for each memory format."""
    amp = short_name(cfg.get('optim_wrapper', {}).get('type', '')) == 'AmpOptimWrapper'
    variants: dict[Any, Callable[[], object]] = {}
    for memory in FORMATS:
        changed = Config(cfg.to_dict())
        changed.model.channels_last = memory
        variants[memory] = partial(_train, build_distiller(changed).train().architecture, images, amp)
    return variants


def _train(student: Any, images: Tensor, amp: bool) -> None:
    with torch.autocast(images.device.type, enabled=amp):
        logits = classifier_logits(student, images)
    logits.float().square().mean().backward()
    student.zero_grad()


def measure(variants: Mapping[Any, Callable[[], object]]) -> dict[Any, float]:
    """Return the median seconds of each variant. They take turns, after one call each to warm up."""
    seconds: dict[Any, list[float]] = {name: [] for name in variants}
    for turn in range(ROUNDS + 1):
        for name, run in variants.items():
            begun = time.perf_counter()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn:
                seconds[name].append(time.perf_counter() - begun)
    return {name: statistics.median(taken) for name, taken in seconds.items()}


def fastest(seconds: Seconds, current: Any) -> Any:
    """Return the fastest variant, or the current one where the gain is below 3 %.

    >>> fastest({'a': 1.00, 'b': 0.98}, current='a')
    'a'
    >>> fastest({'a': 1.00, 'b': 0.90}, current='a')
    'b'
    """
    best = min(seconds, key=lambda name: seconds[name])
    return best if seconds[best] < (1 - MARGIN) * seconds[current] else current
