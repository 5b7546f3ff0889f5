"""Predict the class of an image file with an exported network."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.registry import DefaultScope
from torch import Tensor

from r2kd_mm.export.formats import FORMATS, PROBABILITIES, require_packages
from r2kd_mm.export.graphs import DESCRIPTION
from r2kd_mm.export.preprocessing import Preprocessing


@dataclass(frozen=True)
class Prediction:
    """Predicted class with its probability.

    Args:
        name: Name of the class.
        index: Index of the class in the logits.
        probability: Softmax probability over all classes, in ``[0, 1]``.

    Example:
        >>> Prediction('tabby cat', index=281, probability=0.9).name
        'tabby cat'
    """

    name: str
    index: int
    probability: float


class Predictor:
    """Network of an export with its preprocessing.

    The formats ``mmpretrain``, ``torch`` and ``safetensors`` hold Python code, which is run. Only open exports that you
    trust.

    Args:
        folder: Folder that :func:`~r2kd_mm.export.export_student` wrote.

    Raises:
        FileNotFoundError: The folder is not an export.
        ImportError: A package that the format needs is missing.

    Example:
        >>> predictor = Predictor('exported')
        >>> found = predictor('data/cub200/images/001.Bird_1/Bird_1_0001_7.jpg', top=10)
        >>> sorted(prediction.name for prediction in found)
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9']
    """

    def __init__(self, folder: str | os.PathLike) -> None:
        description = Path(folder) / DESCRIPTION
        if not description.is_file():
            raise FileNotFoundError(
                f'{str(folder)!r} is no export: expected a folder with {DESCRIPTION}, as '
                'tools/model_converters/export_student.py writes it'
            )
        said = json.loads(description.read_text(encoding='utf-8'))
        self.preprocessing = Preprocessing.read(said['input']['shape'][1:], said['preprocessing'])
        self.classes = said['classes']
        self.gives_probabilities = said['output']['name'] == PROBABILITIES
        require_packages(said['format'])
        self.network = FORMATS[said['format']].load(Path(folder))

    @torch.no_grad()
    def probabilities(self, images: Tensor) -> Tensor:
        """Return the probabilities ``(N, num_classes)`` of images ``(N, C, H, W)`` as ``preprocessing`` gives them.

        Softmax is applied where it is not in the network.
        """
        given = self.network(images)
        return given if self.gives_probabilities else given.softmax(1)

    @torch.no_grad()
    def __call__(self, path: str | os.PathLike, top: int = 5) -> list[Prediction]:
        """Return the ``top`` most likely classes of an image file, the most likely first; all if there are fewer.

        Raises:
            RunStopped: The image is broken.
            ValueError: ``top`` is less than 1.
        """
        if top < 1:
            raise ValueError(f'top must be at least 1, got {top}')
        with DefaultScope.overwrite_default_scope('r2kd_mm'):
            images = self.preprocessing(path)[None]
        probabilities = self.probabilities(images)[0]
        values, indices = probabilities.topk(min(top, len(self.classes)))
        return [
            Prediction(self.classes[index], index, value) for value, index in zip(values.tolist(), indices.tolist())
        ]
