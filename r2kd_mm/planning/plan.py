"""Estimate what one training step of a config costs: FLOPs, memory, largest batch, and minimum time on a GPU."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from torch import nn

from r2kd_mm.distillers import LogitDistiller
from r2kd_mm.distillers.student import unwrap_student
from r2kd_mm.engine.run_config import read_changed_config
from r2kd_mm.planning.cards import Card, find_card, read_bytes
from r2kd_mm.planning.results import AS_CONFIGURED, MOST_IMAGES, Needs, Plan
from r2kd_mm.planning.step import SMALL_BATCH, PlannedStep
from r2kd_mm.teachers.store import RowFormat

ACCUMULATED = 4
SIZES = ('crop_size', 'scale', 'size')  # of the transforms that end with images of one size


def make_plan(
    config: str,
    options: Mapping[str, Any] | None = None,
    device: str | None = None,
    batch_size: int | None = None,
    image_size: int | None = None,
    memory: str | None = None,
    flops: float | None = None,
    bandwidth: float | None = None,
    num_images: int | None = None,
    only_config: bool = False,
) -> Plan:
    """Estimate the cost of a training step of a config, and of variants such as mixed precision.

    Args:
        config: Config file.
        options: New values by dotted key, as ``--cfg-options``.
        device: Name of a GPU, see :func:`~r2kd_mm.planning.find_card`.
        batch_size: Batch size; ``None`` takes the batch size of the config.
        image_size: Height and width in pixels; ``None`` takes the size that the training pipeline states.
        memory: Size of the GPU memory, such as ``'80GB'``; ``None`` takes the memory of ``device``.
        flops: Peak FLOP/s; give it with ``bandwidth`` instead of ``device``.
        bandwidth: Memory bandwidth in bytes per second.
        num_images: Number of training images, for the size of a replay.
        only_config: Estimate only the config itself, without variants.

    Raises:
        ValueError: The GPU is unknown or not in this machine, or the config trains nothing.
    """
    card = _card(device, flops, bandwidth)
    limit = read_bytes(memory) if memory else card.memory if card and card.memory else None
    cfg = read_changed_config(config, dict(options or {}))
    init_default_scope(cfg.get('default_scope', 'r2kd_mm'))
    MMLogger.get_current_instance().setLevel(logging.ERROR)
    image_size = image_size or _image_size(cfg)
    batch_size = batch_size or (cfg.get('train_dataloader') or {}).get('batch_size')
    if not batch_size:
        raise ValueError(f'{config} states no batch_size of a train_dataloader; give --batch-size')
    step = PlannedStep(cfg, image_size)
    needs = {AS_CONFIGURED: _needs(step, batch_size, limit)}
    notes = list(step.notes)
    if not only_config:
        for name, changed, images in _settings(cfg, step.model, batch_size):
            try:
                other = PlannedStep(changed, image_size)
                needs[name] = _needs(other, images, limit)
            except (RuntimeError, TypeError, ValueError, AttributeError) as error:
                reason = (str(error) or type(error).__name__).splitlines()[0]
                needs[name] = Needs(images, failure=f'not possible: {reason[:80]}')
    if cfg.model.get('replay'):
        notes.append(
            'The memory is that of the epochs that fill the replay; later epochs have no teachers, and are not planned'
        )
    notes += [
        'Memory is what PyTorch asks for; the CUDA context, the workspace of cuDNN and gaps in the memory come on top: '
        'leave 1 or 2 GB',
    ]
    if card:
        notes.append(
            'No step takes less time than its arithmetic at the peak. At the roofline, operators run one after the '
            'other and read and write memory; only caches and joined operators can be faster'
        )
    replay = _replay_bytes(cfg, step) if cfg.model.get('replay') else None
    return Plan(Path(config).stem, image_size, needs, card, limit, replay, num_images, notes)


def _card(device: str | None, flops: float | None, bandwidth: float | None) -> Card | None:
    if (flops is None) != (bandwidth is None):
        raise ValueError(f'--flops and --bandwidth belong together, got {flops} and {bandwidth}; give both')
    if device is not None and flops is not None:
        raise ValueError(f'--device {device} states flops and bandwidth already; give it or the two numbers')
    if flops is None or bandwidth is None:
        return None if device is None else find_card(device)
    if min(flops, bandwidth) <= 0:
        raise ValueError(
            f'--flops and --bandwidth are numbers above 0, such as 300e12 and 2e12, got {flops}, {bandwidth}'
        )
    return Card('a card of your own', 0, bandwidth, flops, flops, flops, flops)


def _image_size(cfg: Config) -> int:
    """Return the size of the images that the training pipeline makes."""
    dataset = (cfg.get('train_dataloader') or {}).get('dataset') or {}
    while 'pipeline' not in dataset and 'dataset' in dataset:
        dataset = dataset['dataset']
    for transform in reversed(dataset.get('pipeline') or []):
        for name in SIZES:
            size = transform.get(name)
            size = size[0] if isinstance(size, (list, tuple)) and len(set(size)) == 1 else size
            if isinstance(size, int) and not isinstance(size, bool):
                return size
    raise ValueError(f'the training pipeline of {cfg.filename} states no size of its images; give --image-size')


def _settings(cfg: Config, model: nn.Module, batch_size: int) -> Iterator[tuple[str, Config, int]]:
    """Yield what else can be set: its name, the config with it, and the images of one forward pass."""
    amp = {'optim_wrapper.type': 'r2kd_mm.AutocastOptimWrapper'}
    last = {'model.channels_last': True}
    changes: dict[str, dict] = {}
    kind = str(cfg.optim_wrapper.get('type'))
    if 'Autocast' not in kind and 'Amp' not in kind and 'constructor' not in cfg.optim_wrapper:
        changes['--amp'] = amp
    if isinstance(model, LogitDistiller) and not cfg.model.get('channels_last'):
        changes['channels_last'] = last
        if '--amp' in changes:
            changes['--amp, channels_last'] = {**amp, **last}
    names = _checkpointed(model)
    if names and not cfg.get('activation_checkpointing'):
        changes[f'activation_checkpointing of {len(names)} modules'] = dict(activation_checkpointing=names)
    for name, fields in changes.items():
        changed = copy.deepcopy(cfg)
        changed.merge_from_dict(fields)
        yield name, changed, batch_size
    count = cfg.optim_wrapper.get('accumulative_counts', 1)
    if count == 1 and batch_size % ACCUMULATED == 0 and batch_size // ACCUMULATED >= SMALL_BATCH:
        changed = copy.deepcopy(cfg)
        changed.optim_wrapper.accumulative_counts = ACCUMULATED
        yield f'accumulative_counts={ACCUMULATED}', changed, batch_size // ACCUMULATED


def _checkpointed(model: nn.Module) -> list[str]:
    """Return the stages of the student's backbone that a checkpoint can surround.

    MMEngine's checkpoints need an input with a gradient, so the stage that sees the images is left out.
    """
    student: Any = unwrap_student(getattr(model, 'architecture', model))
    stages, prefix = getattr(student, 'backbone', None), 'backbone'
    while isinstance(stages, nn.Module):
        children = [(name, child) for name, child in stages.named_children() if list(child.parameters())]
        if len(children) != 1:
            break
        prefix, stages = f'{prefix}.{children[0][0]}', children[0][1]
    else:
        return []
    if hasattr(model, 'architecture'):
        prefix = f'architecture.{prefix}'
    return [f'{prefix}.{name}' for name, child in children[1:] if len(list(child.children())) > 1]


def _needs(step: PlannedStep, batch_size: int, limit: float | None) -> Needs:
    """Trace the step, and search for the largest batch."""
    peaks: dict[int, float] = {}

    def peak(images: int) -> float:
        if images not in peaks:
            peaks[images] = max(step.trace(images).peak, step.preparation)
        return peaks[images]

    trace = step.trace(batch_size)
    peaks[batch_size] = max(trace.peak, step.preparation)
    by_part, most, operators = dict(trace.at_peak), dict(trace.most), trace.operators
    if step.accumulation > 1:  # what ran was two batches and one update
        operators = step.trace(batch_size, accumulation=1).operators
    needs = Needs(batch_size, peaks[batch_size], by_part, operators, most)
    return needs if limit is None else replace(needs, largest=largest_batch(peak, limit, batch_size))


def largest_batch(peak: Callable[[int], float], limit: float, start: int) -> int:
    """Return the largest batch, to 1 %, whose peak is within the limit; 0 if none is, at most :data:`MOST_IMAGES`.

    Args:
        peak: Maps a number of images to bytes.
        limit: In bytes.
        start: Where to begin.

    Example:
        >>> largest_batch(lambda images: 100 + 10 * images, limit=1000, start=8)
        90
    """
    if peak(SMALL_BATCH) > limit:
        return 0
    low, high = SMALL_BATCH, max(start, SMALL_BATCH + 1)
    while peak(high) <= limit:
        if high >= MOST_IMAGES:
            return MOST_IMAGES
        slope = (peak(high) - peak(low)) / (high - low)
        guess = int(high + (limit - peak(high)) / slope) + 1 if slope > 0 else MOST_IMAGES
        low, high = high, min(max(guess, high + 1), MOST_IMAGES)
    while high - low > max(1, low // 100):
        width = high - low
        between = low + int((limit - peak(low)) / (peak(high) - peak(low)) * width)
        # where the peak is no line, as with losses of all pairs, the middle is the better guess
        for guess in (between, between + max(1, between // 100), (low + high) // 2):
            if low < guess < high and high - low > width / 2:
                low, high = (guess, high) if peak(guess) <= limit else (low, guess)
    return low


def _replay_bytes(cfg: Config, step: PlannedStep) -> int:
    """Return the bytes of a replay store for one image."""
    replay = cfg.model.replay
    layout = RowFormat(step.num_classes, replay.get('dtype', 'float16'), replay.get('top_k')).layout
    views = len(step.model.step.views.names)
    return layout.itemsize * views * (cfg.get('train_cfg') or {}).get('cycle', 1)
