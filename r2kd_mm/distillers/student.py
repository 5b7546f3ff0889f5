"""Run an mmpretrain classifier as the student, bare or inside mmrazor algorithms; return its own losses and logits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from r2kd_mm.classifiers import classifier_logits, predicted_logits, rows_of
from r2kd_mm.distillers.algorithms import sub_networks
from r2kd_mm.distillers.features import Features
from r2kd_mm.distillers.objective import Batch
from r2kd_mm.distillers.views import AUGMENTED, CLEAN

_MAX_LANES = 16  # float32 numbers in the longest vector register of a CPU


class ClassifierStudent:
    """Student that is an mmpretrain classifier, bare or wrapped by mmrazor algorithms; it runs on the views of a batch.

    Args:
        architecture: The student.
        joint_views: If true, run the student once over both views together; if false, once a view.
        features: Records features on the clean images.
    """

    def __init__(self, architecture: nn.Module, joint_views: bool = False, features: Features | None = None) -> None:
        self.architecture = architecture
        self.joint_views = joint_views
        self.features = features

    def check_is(self, architecture: nn.Module) -> None:
        """Refuse a student that was put in the place of the one that is run here.

        Raises:
            RuntimeError: It is another module.
        """
        if architecture is not self.architecture:
            raise RuntimeError(
                f'the student was replaced by a {type(architecture).__name__} after the distiller was built, and '
                'would not be trained; build the distiller with it. Wrap the whole model for several processes: '
                "model_wrapper_cfg=dict(type='r2kd_mm.PortableDistributedDataParallel')"
            )

    def sub_networks(self) -> Iterator[tuple[str, float]]:
        """Select one sub-network after the other, and yield its name and share in the step.

        Yields one empty name where a step trains the student as it is.
        """
        choices = sub_networks(self.architecture) or {'': _as_it_is}
        for name, choose in choices.items():
            choose()
            yield name, 1 / len(choices)

    def __call__(self, batch: Batch, view: Tensor | None) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the student's own losses on the clean images by name, and its logits ``(N, C)`` by view.

        Its own losses are those of the images with a label.

        Args:
            batch: The clean images and their samples.
            view: The augmented view, if a loss acts on it.
        """
        clean = batch.images
        joined = torch.cat([clean, view]) if self.joint_views and view is not None else None
        shown = batch.labelled if joined is None else batch.labelled or slice(len(clean))
        classifier = unwrap_student(self.architecture)
        recording = nullcontext() if self.features is None else self.features.of_student(classifier)
        with (
            recorded_logits(logits_module(classifier), shown) as outputs,
            recording,
        ):
            task_losses = self.architecture(clean if joined is None else joined, batch.labelled_samples, mode='loss')
        logits = {CLEAN: outputs[-1][: len(clean)]}
        if view is not None:
            joint = joined is not None
            logits[AUGMENTED] = outputs[-1][len(clean) :] if joint else classifier_logits(self.architecture, view)
        return task_losses, logits


def _as_it_is() -> None:
    pass


def unwrap_student(architecture: Any) -> nn.Module:
    """Return the classifier inside an architecture, which may be an mmrazor algorithm, perhaps around another.

    Example:
        >>> algorithm, classifier = nn.Module(), nn.Module()
        >>> classifier.head, algorithm.architecture = nn.Identity(), classifier
        >>> unwrap_student(algorithm) is classifier
        True
    """
    while not hasattr(architecture, 'head') and hasattr(architecture, 'architecture'):
        architecture = architecture.architecture
    return architecture


def layer_depth(architecture: nn.Module, param_name: str) -> tuple[int, int]:
    """Return the depth of a parameter of a distiller in its student, and the number of depths, as mmpretrain counts.

    What is not of the backbone, such as a connector, is as deep as the head.

    Args:
        architecture: The student, perhaps wrapped.
        param_name: Name of the parameter in the distiller.

    Raises:
        ValueError: The network of the student has no depths.
    """
    classifier: Any = unwrap_student(architecture)
    while param_name.startswith('architecture.'):
        param_name = param_name.removeprefix('architecture.')
    try:
        return classifier.get_layer_depth(param_name)
    except (AttributeError, NotImplementedError) as error:
        raise ValueError(
            'LearningRateDecayOptimWrapperConstructor asks for the depth of each parameter, which '
            f'{type(getattr(classifier, "backbone", classifier)).__name__} does not tell; take a backbone of '
            'mmpretrain that does, such as VisionTransformer, SwinTransformer, BEiTViT, ConvNeXt or ResNet, or leave '
            'constructor out of optim_wrapper'
        ) from error


def logits_module(classifier: nn.Module) -> nn.Module:
    """Return the submodule whose output is the classifier's logits: the head, or for timm the network itself.

    Raises:
        TypeError: There is neither.

    Example:
        >>> classifier = nn.Module()
        >>> classifier.head = nn.Linear(4, 3)
        >>> logits_module(classifier)
        Linear(in_features=4, out_features=3, bias=True)
    """
    for name in ('head', 'model'):
        module = getattr(classifier, name, None)
        if isinstance(module, nn.Module):
            return module
    raise TypeError(
        f'the student {type(classifier).__name__} has no head, so it has no logits to distil; give an '
        'ImageClassifier with a head, or a TimmClassifier'
    )


def compile_backbone_(classifier: nn.Module) -> None:
    """Compile the backbone of a classifier in place, by ``torch.compile``; names and weights stay as they are.

    Raises:
        TypeError: It has none.
    """
    backbone = getattr(classifier, 'backbone', None)
    if not isinstance(backbone, nn.Module):
        raise TypeError(
            f'compile_student compiles the backbone of the student, and {type(classifier).__name__} has none; '
            'leave compile_student out'
        )
    backbone.compile()


def keep_channels_last_(network: nn.Module) -> None:
    """Keep the convolutions of a network in the channels-last memory format, in place.

    Some convolutions are left out on a CPU: those with a kernel of one pixel, a stride, and fewer than 16 input
    channels. There oneDNN's gradient of the weights writes past its memory, so that training crashes, hangs, or
    continues with other numbers overwritten (https://github.com/uxlfoundation/oneDNN/issues/6035, open in November
    2026; torch 2.13 has it). These few see their input in the default format, which is safe.
    """
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in the stubs
    for module in network.modules():
        if (
            isinstance(module, nn.Conv2d)
            and module.kernel_size == (1, 1)
            and max(module.stride) > 1
            and module.in_channels < _MAX_LANES
        ):
            # a weight in channels-last would have the convolution run so, whatever its input
            module.weight.data = module.weight.data.clone(memory_format=torch.contiguous_format)
            module.register_forward_pre_hook(_default_format_on_a_cpu)


def _default_format_on_a_cpu(_module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    (images,) = inputs
    return (images.contiguous() if images.device.type == 'cpu' else images,)


@contextmanager
def recorded_logits(module: nn.Module, shown: Sequence[int] | slice | None = None) -> Iterator[list[Tensor]]:
    """Collect the logits that ``module`` predicts by, in order, while the context is open.

    Args:
        module: The head or the network; see :func:`~r2kd_mm.classifiers.predicted_logits`.
        shown: Rows of the output that its caller sees; ``None`` for all.

    Raises:
        TypeError: The output has no logits, or nobody called ``module``.
    """
    logits: list[Tensor] = []

    def record(module: nn.Module, inputs: tuple, options: dict, output: Any) -> Any:
        logits.append(predicted_logits(module, inputs, options, output))
        return None if shown is None else rows_of(output, shown)

    handle = module.register_forward_hook(record, with_kwargs=True)
    try:
        yield logits
    finally:
        handle.remove()
    if not logits:
        raise TypeError(
            f'the student computes its loss without calling its {type(module).__name__}, so it shows no logits to '
            "distil; let the loss take the output of the head's forward"
        )
