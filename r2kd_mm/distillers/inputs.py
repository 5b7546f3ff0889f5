"""Copy a student's batch augmentations to the distiller, which prepares the images for student and teacher."""

from __future__ import annotations

from typing import Any

from mmengine.logging import print_log
from torch import nn

from r2kd_mm.classifiers import normalisation, num_classes


def take_over_inputs_(data_preprocessor: Any, student: nn.Module) -> None:
    """Copy the student's batch augmentations into the distiller's data preprocessor; raise if other settings differ.

    mmpretrain's recipes give a classifier its own ``train_cfg.augments`` and ``data_preprocessor``. In a distillation
    the distiller prepares the images, not the classifier.

    Args:
        data_preprocessor: Preprocessor of the distiller; nothing happens if the student has the same one.
        student: The classifier.

    Raises:
        ValueError: The student states another normalisation, channel order or padding than the distiller, or both
            state batch augmentations, or those of the student cannot be taken over.
    """
    own = getattr(student, 'data_preprocessor', None)
    if own is None or own is data_preprocessor or data_preprocessor is None:
        return
    stated, given = _stated(own), _stated(data_preprocessor)
    different = {name: value for name, value in stated.items() if given.get(name) != value}
    if different:
        raise ValueError(
            f'architecture.data_preprocessor states {different}, and the data_preprocessor of the run '
            f'{ {name: given.get(name) for name in different} }; the latter prepares the images of student and '
            'teacher, so state all of it there, and leave it out of the architecture'
        )
    augments = getattr(own, 'batch_augments', None)
    if augments is None:
        return
    if getattr(data_preprocessor, 'batch_augments', augments) is not None:
        raise ValueError(
            f'architecture.train_cfg.augments cannot be taken over by the {type(data_preprocessor).__name__} of the '
            'run, which has batch_augments of its own or takes none; give them once, as batch_augments of a '
            'ClsDataPreprocessor in data_preprocessor'
        )
    data_preprocessor.batch_augments, data_preprocessor.to_onehot = augments, True
    data_preprocessor.num_classes = data_preprocessor.num_classes or own.num_classes or num_classes(student)
    print_log('The augments of architecture.train_cfg act on the images of student and teacher.', logger='current')


def _stated(data_preprocessor: nn.Module) -> dict[str, object]:
    """Return what a data preprocessor does beyond its defaults: normalisation, channel order, padding."""
    fields = dict(normalisation(data_preprocessor))
    if getattr(data_preprocessor, 'to_rgb', False):
        fields['to_rgb'] = True
    for name, default in (('pad_size_divisor', 1), ('pad_value', 0)):
        value = getattr(data_preprocessor, name, default)
        if value != default:
            fields[name] = value
    return fields
