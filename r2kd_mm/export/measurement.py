"""Measure how a lower precision (int8 or fp16) changes accuracy, file size and latency of an exported network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from r2kd_mm.cost import measure_latency
from r2kd_mm.export.formats import FLOAT32, INT8

MAX_DROP = 1.0  # points
SCORED_IMAGES = 2000
LATENCY_BATCHES = (1, 32)
# Calibration images are of another kind if a channel's mean, or the logarithm of its standard deviation, is this far
# from that of validation images; the mean in units of their standard deviation.
OTHER_KIND = 0.5


@dataclass(frozen=True)
class Accuracy:
    """Top-1 accuracy of one network, with its confidence interval.

    Args:
        top1: Top-1 accuracy in percent.
        low: Lower end of the 95 % Wilson interval for this number of images, in percent.
        high: Upper end of this interval, in percent.
    """

    top1: float
    low: float
    high: float


@dataclass(frozen=True)
class Measurement:
    """The changes by a lower precision, measured on validation images.

    Args:
        num_images: Number of images.
        accuracy: By precision.
        agreement: Share of images that both networks call the same, in percent.
        bytes: Size of the files of the network, by precision.
        milliseconds: Median time of a call on this machine, by precision and number of images; without float32, if
            there is no such network.
        in_float32: Kinds of operators that were left in float32, where that is known.
        notes: What the user should know.
    """

    num_images: int
    accuracy: Mapping[str, Accuracy]
    agreement: float
    bytes: Mapping[str, int]
    milliseconds: Mapping[str, Mapping[int, float]]
    in_float32: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def has_float32(self) -> bool:
        """Tell whether a network in float32 was exported too; a student with fake quantisation has none."""
        return FLOAT32 in self.milliseconds

    def drop(self, precision: str) -> float:
        """Return how many points of accuracy a precision costs."""
        return self.accuracy[FLOAT32].top1 - self.accuracy[precision].top1

    def describe(self) -> dict[str, Any]:
        """Return all fields, as in ``export.json``."""
        return asdict(self)


def measure(
    precision: str,
    predict: Mapping[str, Callable[[Tensor], Tensor]],
    batches: Iterable[tuple[Tensor, Tensor]],
    sizes: Mapping[str, int],
    **found: Any,
) -> Measurement:
    """Compare a network of lower precision with that of float32.

    Args:
        precision: The lower one.
        predict: Normalised images ``(N, C, H, W)`` to logits ``(N, num_classes)``, by precision.
        batches: Images and their classes ``(N,)``.
        sizes: Bytes of the files, by precision.
        found: Further fields of :class:`Measurement`.
    """
    from r2kd_mm.runs.statistics import wilson_interval

    right = dict.fromkeys(predict, 0)
    count = same = 0
    images = torch.empty(0)
    with torch.no_grad():
        for images, labels in batches:
            classes = {name: network(images).argmax(1) for name, network in predict.items()}
            count += len(labels)
            same += int((classes[FLOAT32] == classes[precision]).sum())
            for name, predicted in classes.items():
                right[name] += int((predicted == labels).sum())
    accuracy = {
        name: Accuracy(100 * number / count, *(100 * bound for bound in wilson_interval(number, count)))
        for name, number in right.items()
    }
    shown = {size: images[:1].expand(size, -1, -1, -1).contiguous() for size in LATENCY_BATCHES}
    milliseconds = {
        name: {size: measure_latency(network, batch) for size, batch in shown.items()}
        for name, network in predict.items()
    }
    return Measurement(count, accuracy, 100 * same / count, sizes, milliseconds, **found)


def refusal(measured: Measurement, precision: str, max_drop: float, worst: Sequence[str]) -> str:
    """Say that a network lost too much, and which layers lose most, where that is known."""
    before, after = measured.accuracy[FLOAT32].top1, measured.accuracy[precision].top1
    layers = f' The layers that lose most: {", ".join(worst)}.' if worst else ''
    calibrate = 'images like those of training by --calibration-images, ' if precision == INT8 else ''
    return (
        f'{precision} costs {before - after:.2f} points of accuracy: {after:.2f} % instead of {before:.2f} on '
        f'{measured.num_images} images, and --max-drop allows {max_drop:g}; nothing was written.{layers} Give '
        f'{calibrate}another --precision or format, or accept the loss by --max-drop'
    )


def other_kind(calibration: Tensor, validation: Tensor) -> str | None:
    """Say how calibration images differ from validation images; ``None`` where they are alike.

    >>> other_kind(torch.zeros(2, 1, 2, 2), torch.tensor([0.0, 1, 2, 3]).view(1, 1, 2, 2))
    'the images for calibration are of another kind than those of validation: channel 0 has mean 0.0 and deviation 0.0 \
there, 1.5 and 1.3 here'
    """
    for channel in range(calibration.shape[1]):
        there, here = calibration[:, channel], validation[:, channel]
        shift = (there.mean() - here.mean()).abs() / here.std()
        stretch = (there.std() / here.std()).log().abs()
        if shift > OTHER_KIND or stretch > OTHER_KIND:
            return (
                f'the images for calibration are of another kind than those of validation: channel {channel} has mean '
                f'{there.mean():.1f} and deviation {there.std():.1f} there, {here.mean():.1f} and {here.std():.1f} here'
            )
    return None
