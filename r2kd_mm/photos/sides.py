"""Find the networks of teachers and student, with image size and normalisation, and measure their FLOPs and latency."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from mmengine.config import ConfigDict
from torch import nn

from r2kd_mm.classifiers import classifier_logits
from r2kd_mm.cost import count_flops, measure_latency
from r2kd_mm.engine.classes import check_same_classes
from r2kd_mm.engine.cli import readable_message
from r2kd_mm.networks import FileNetwork, Inputs, NamedNetwork, find_network
from r2kd_mm.networks.files import is_file_network
from r2kd_mm.photos.config import adapted
from r2kd_mm.photos.teachers import AskedTeacher
from r2kd_mm.registry import MODELS
from r2kd_mm.teachers.build import build_teacher, check_same_inputs

DEFAULT_SIZE = 224  # where a collection states no size


@dataclass(frozen=True)
class Side:
    """Network on one side of a distillation: a teacher or the student.

    Args:
        network: The network, as found by its name.
        inputs: Size and normalisation of the images in its own training.
        num_classes: Number of logits.
    """

    network: NamedNetwork
    inputs: Inputs
    num_classes: int


@dataclass(frozen=True)
class Cost:
    """The cost of a network.

    Args:
        parameters: Number of parameters; ``None`` if a file does not state it.
        flops: Multiply-adds of one image; ``None`` of a network in a file.
        milliseconds: Median time of one image on this machine.
    """

    parameters: int | None
    flops: int | None
    milliseconds: float


@dataclass(frozen=True)
class Teacher(Side):
    """One teacher.

    Args:
        name: Name of its run, and among several teachers: ``'teacher'``, ``'teacher_2'`` and so on.
        asked: What was asked of it.
        logit_names: Names of its logits, where they are not the classes of the photos in their order.
    """

    name: str
    asked: AskedTeacher
    logit_names: list[str] | None

    @property
    def is_trained(self) -> bool:
        """Tell whether it knows the classes, so that it is not trained on the photos."""
        return self.network.is_trained or self.asked.ckpt is not None

    def config(self, classes: tuple[str, ...]) -> dict[str, Any]:
        """Return the config of the frozen teacher, without its initial weights.

        Args:
            classes: Classes of the photos.
        """
        fields = dict(classes=list(classes), network_classes=self.logit_names) if self.logit_names else {}
        within = find_network(self.asked.network, self.num_classes).config
        return adapted(_sized(within, self.inputs, self.network.inputs), self.inputs, **fields)


def find_teacher(name: str, asked: AskedTeacher, classes: tuple[str, ...], of_student: Inputs) -> Teacher:
    """Find a teacher.

    Args:
        name: Name of its run.
        asked: What is asked of it.
        classes: Classes of the photos.
        of_student: The images of the student, which it gets where its collection states none.

    Raises:
        ValueError: There is no such network, or what is asked of it does not go together.
        FileNotFoundError: A file is missing.
    """
    if asked.ckpt is not None and not Path(asked.ckpt).expanduser().is_file():
        raise FileNotFoundError(f'--teacher-ckpt: there is no file {asked.ckpt!r}')
    is_file = is_file_network(asked.network)
    if is_file and asked.ckpt is not None:
        raise ValueError(f'--teacher {asked.network} holds its weights; leave --teacher-ckpt out')
    if asked.classes is not None and not is_file and asked.ckpt is None:
        raise ValueError(
            '--teacher-classes names the classes of a trained teacher, so it needs --teacher-ckpt, or a file as the '
            '--teacher'
        )
    names = _lines(asked.classes) if asked.classes else None
    initial = 'none' if is_file or asked.ckpt is not None else asked.init
    side = find_side(asked.network, len(names or classes), initial, asked.image_size, of_student)
    found = side.network
    if is_file and found.inputs is None and asked.mean is None:
        raise ValueError(
            f'--teacher {asked.network} does not say how its images are normalised; give --teacher-mean and '
            '--teacher-std, of pixels from 0 to 255, and --teacher-image-size where it is not that of the student'
        )
    if asked.mean is not None and asked.std is not None:
        normalised = replace(side.inputs, mean=asked.mean, std=asked.std, to_rgb=True)
        side = replace(side, inputs=normalised)
    if names is None and found.classes is not None and found.classes != classes:
        names = list(found.classes)
        side = replace(side, num_classes=len(names))
    return Teacher(side.network, side.inputs, side.num_classes, name, asked, names)


def find_side(name: str, count: int, weights: str, size: int | None, other: Inputs | None) -> Side:
    """Find a network and the images that it gets.

    Args:
        name: Name of the network.
        count: Number of its logits.
        weights: What it starts from.
        size: Side of its images; ``None`` takes that of its collection.
        other: What it gets where its collection states nothing.
    """
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


def trained_teacher(teacher: Teacher, of_student: Inputs, classes: tuple[str, ...]) -> nn.Module:
    """Build a teacher that knows the classes, load its weights, and check it against student and photos.

    Args:
        teacher: With a file of weights, or a file itself.
        of_student: The images that the student gets.
        classes: Classes of the photos.

    Raises:
        ValueError: Weights do not fit, or are those of other classes or inputs.
    """
    within = build_teacher(adapted(teacher.network.config, teacher.inputs), teacher.asked.ckpt)
    check_same_inputs(within, MODELS.build(dict(type='ClsDataPreprocessor', **of_student.normalisation)))
    network = within.get_submodule('network')
    if teacher.asked.classes is None and not teacher.network.is_trained:
        check_same_classes(
            getattr(network, '_dataset_meta', {}).get('classes'),
            classes,
            owners=f'--teacher-ckpt {teacher.asked.ckpt!r} and the photos',
            remedy='name the classes of the teacher by --teacher-classes, or fine-tune it on the photos',
        )
    return network


def initial_network(side: Side, name: str, weights: str) -> nn.Module:
    """Build a network with the weights that it starts from.

    Raises:
        ValueError: They cannot be had.
    """
    try:
        network = MODELS.build(ConfigDict(side.network.config))
        if hasattr(network, 'init_weights'):
            network.init_weights()
    except Exception as error:  # whatever a collection raises where it has no connection
        if weights == 'none':
            raise
        source = 'its published weights' if weights == 'published' else f'the weights in {weights!r}'
        raise ValueError(
            f'{name} cannot start from {source}: {readable_message(error).splitlines()[0].rstrip(".")}. Give their '
            "file (--teacher-init, --student-init), or 'none' for random weights"
        ) from error
    return network


def cost_of(network: nn.Module, side: Side, name: str) -> Cost:
    """Show a network an image, and measure what that costs.

    Raises:
        ValueError: It does not take images of this size, or gives other logits than one for each class.
    """
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
