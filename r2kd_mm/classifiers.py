"""Get the logits, the number of classes and the normalisation of a classifier from any package."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

PROBABILITIES = (nn.Sigmoid, nn.Softmax)


def classifier_logits(model: nn.Module, inputs: Tensor) -> Tensor:
    """Return the logits ``(N, num_classes)`` of a classifier for preprocessed inputs.

    mmpretrain's classifiers are run in ``mode='tensor'``; another network, such as torchvision's, is called with the
    images alone. :func:`as_logits` lists the outputs that are accepted.

    Raises:
        TypeError: The network gives something else, such as a tuple of feature maps.

    Example:
        >>> classifier_logits(nn.Linear(4, 3), torch.zeros(2, 4)).shape
        torch.Size([2, 3])
    """
    return as_logits(model(inputs, mode='tensor') if takes_mode(model) else model(inputs), model)


def as_logits(output: Any, network: nn.Module) -> Tensor:
    """Find the logits ``(N, num_classes)`` in the output of a network, or of its head.

    Understood are a tensor; an object or dict with ``logits``, as of HuggingFace and of torchvision's GoogLeNet and
    Inception; and the pair of mmpretrain's Conformer, which predicts by the sum.

    Args:
        output: What the network or the head returned.
        network: The network, or the head.

    Raises:
        TypeError: It is something else, such as a tuple of feature maps.

    Example:
        >>> as_logits(dict(logits=torch.zeros(2, 3)), nn.Linear(4, 3)).shape
        torch.Size([2, 3])
    """
    logits = output
    if isinstance(output, Mapping):
        logits = output.get('logits', output)
    elif hasattr(output, 'logits'):
        logits = output.logits
    elif isinstance(output, tuple) and _is_of_mmpretrain(getattr(network, 'head', network), 'ConformerHead'):
        logits = sum(output)
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        raise TypeError(
            f'{type(network).__name__} must return logits of shape (N, num_classes), got {_describe(output)}; does the '
            'classifier have a head, and is it one for classes? Of several outputs nobody can tell which one predicts: '
            'wrap the network and return that one, or an object with the attribute logits'
        )
    return logits


def predicted_logits(head: nn.Module, inputs: tuple, options: Mapping[str, Any], output: Any) -> Tensor:
    """Return the logits that a head predicts by, where it may have been called for its loss.

    A head that is called with the labels, as ArcFace's is, gives other logits for its loss: with a margin. It is asked
    again without them.

    Args:
        head: The head, or a whole network.
        inputs: What it was called with, by position.
        options: What it was called with, by name.
        output: What it returned.

    Raises:
        TypeError: The output has no logits, or the head does not do without the labels.
    """
    logits = as_logits(output, head)
    arguments: dict[int | str, Any] = dict(enumerate(inputs))
    arguments.update(options.items())
    features = next(iter(arguments), None)
    labels = [name for name, value in arguments.items() if name != features and _is_label(value, logits)]
    if not labels:
        return logits
    others = [value for place, value in enumerate(inputs) if place not in labels]
    try:
        return as_logits(head.forward(*others, **{name: options[name] for name in options if name not in labels}), head)
    except TypeError as error:
        raise TypeError(
            f'{type(head).__name__} gives no logits without the labels ({error}), so what the student predicts is not '
            'known in training; give the labels a default of None in its forward'
        ) from error


def num_classes(model: nn.Module) -> int | None:
    """Return the number of classes that a classifier states, or ``None`` where it states none.

    >>> num_classes(nn.Linear(4, 3)) is None
    True
    """
    network = getattr(model, 'model', None)
    # mmpretrain, timm in it, a network as it is, and HuggingFace in mmpretrain or as it is
    parts = [(part, 'num_classes') for part in (getattr(model, 'head', None), network, model)]
    parts += [(getattr(part, 'config', None), 'num_labels') for part in (network, model)]
    for part, name in parts:
        count = getattr(part, name, None)
        if isinstance(count, int):
            return count
    return None


def normalisation(data_preprocessor: Any) -> dict[str, Any]:
    """Return the mean and standard deviation of each channel, in pixel units, and the channel order.

    The dict is empty where no normalisation is stated.
    """
    if not getattr(data_preprocessor, '_enable_normalize', False):
        return {}
    return dict(
        mean=[round(value, 3) for value in data_preprocessor.mean.flatten().tolist()],
        std=[round(value, 3) for value in data_preprocessor.std.flatten().tolist()],
        to_rgb=bool(getattr(data_preprocessor, 'to_rgb', False)),
    )


def rows_of(output: Any, rows: Sequence[int] | slice) -> Any:
    """Return the output of a network for some images of its batch, in the same form.

    >>> rows_of({'logits': torch.arange(6).reshape(3, 2)}, [0, 2])
    {'logits': tensor([[0, 1],
            [4, 5]])}
    """
    return tree_map_only(Tensor, lambda tensor: tensor[rows], output)


def takes_mode(network: nn.Module) -> bool:
    """Return whether a network wants ``mode='tensor'`` for its logits, as mmpretrain's classifiers do.

    Example:
        >>> takes_mode(nn.Linear(4, 3))
        False
    """
    kind: Any = type(getattr(network, '_orig_mod', network))  # behind torch.compile
    return _has_mode(kind)


def check_single_label(classifier: nn.Module, owner: str, trains: bool) -> None:
    """Refuse a classifier whose classes do not exclude each other: a softmax over them means nothing.

    Args:
        classifier: The classifier.
        owner: Who it is, for the message.
        trains: Whether it is trained by its own loss here.

    Raises:
        ValueError: It is for several labels an image, ends in probabilities, or is trained by a loss on sigmoids.

    Example:
        >>> check_single_label(nn.Sequential(nn.Linear(4, 3), nn.Sigmoid()), 'teacher', trains=False)
        Traceback (most recent call last):
        ...
        ValueError: the teacher ends in a Sigmoid, so it gives probabilities, and logit distillation takes a
        softmax over classes that exclude each other; give it a head of unnormalised scores with a softmax loss,
        such as LinearClsHead with CrossEntropyLoss
    """
    head = getattr(classifier, 'head', None)
    network = getattr(classifier, 'model', classifier)  # of timm or HuggingFace, or as it is
    config = getattr(network, 'config', None)
    own_loss = getattr(head, 'loss_module', getattr(classifier, 'loss_module', None))
    last = _last_layer(network if head is None else head)
    fault = None
    if (
        _is_of_mmpretrain(head, 'MultiLabelClsHead')
        or getattr(config, 'problem_type', None) == 'multi_label_classification'
    ):
        fault = f'predicts several labels an image by sigmoids ({type(head or classifier).__name__})'
    elif isinstance(last, PROBABILITIES):
        fault = f'ends in a {type(last).__name__}, so it gives probabilities'
    elif getattr(own_loss, 'use_sigmoid', False) and trains:
        fault = f'is trained by {type(own_loss).__name__} on sigmoids (use_sigmoid=True)'
    if fault is not None:
        raise ValueError(
            f'the {owner} {fault}, and logit distillation takes a softmax over classes that exclude each other; give '
            'it a head of unnormalised scores with a softmax loss, such as LinearClsHead with CrossEntropyLoss'
        )
    *_, registered_last = network.modules()
    warning = None
    if getattr(own_loss, 'use_sigmoid', False):
        warning = 'states a loss on sigmoids'
    elif isinstance(registered_last, PROBABILITIES):
        warning = f'has a {type(registered_last).__name__} as its last module, and must not return its probabilities'
    if warning is not None:
        message = f'The {owner} {warning}: what is distilled is the softmax of what it returns.'
        print_log(message, logger='current', level=logging.WARNING)


def check_same_classes(student: nn.Module, teacher: nn.Module) -> None:
    """Refuse a teacher that states another number of classes than the student.

    Raises:
        ValueError: The numbers differ.

    >>> student, teacher = nn.Module(), nn.Module()
    >>> student.num_classes, teacher.num_classes = 100, 10
    >>> check_same_classes(student, teacher)
    Traceback (most recent call last):
    ...
    ValueError: student and teacher must know the same classes, got num_classes=100 in the student and 10 in
    the teacher; set both heads to that of the data set
    """
    student_classes, teacher_classes = num_classes(student), num_classes(teacher)
    if None not in (student_classes, teacher_classes) and student_classes != teacher_classes:
        raise ValueError(
            f'student and teacher must know the same classes, got num_classes={student_classes} in '
            f'the student and {teacher_classes} in the teacher; set both heads to that of the data set'
        )


def _is_label(value: Any, logits: Tensor) -> bool:
    """Return whether an argument of a head holds the labels: class indices, soft labels or data samples."""
    if isinstance(value, Tensor):
        is_index = not (value.is_floating_point() or value.dtype == torch.bool) and value.shape[:1] == logits.shape[:1]
        return is_index or value.shape == logits.shape
    return isinstance(value, list) and bool(value) and _is_of_mmpretrain(value[0], 'DataSample')


def _is_of_mmpretrain(value: Any, name: str) -> bool:
    """Return whether a value is of the class ``name`` of mmpretrain, without importing mmpretrain."""
    return any(cls.__name__ == name and cls.__module__.startswith('mmpretrain.') for cls in type(value).__mro__)


def _last_layer(network: nn.Module) -> nn.Module:
    """The layer whose output a network of layers in a row returns; of another network, the network."""
    while isinstance(network, nn.Sequential) and len(network):
        network = network[-1]
    return network


@cache
def _has_mode(kind: Any) -> bool:
    return 'mode' in inspect.signature(kind.forward).parameters


def _describe(value: Any) -> str:
    if isinstance(value, Tensor):
        return f'a tensor of shape {tuple(value.shape)}'
    if isinstance(value, Mapping):
        return f'a dict with the keys {sorted(map(str, value))[:5]}'
    if isinstance(value, tuple | list):
        return f'a {type(value).__name__} of {len(value)}'
    return f'a {type(value).__name__}'
