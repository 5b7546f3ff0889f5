"""Let ``tools/test.py`` test an exported network in place of a checkpoint, with the preprocessing of the export."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner
from mmpretrain.models.classifiers import BaseClassifier
from mmpretrain.structures import DataSample
from torch import Tensor

from r2kd_mm.engine.classes import check_same_classes, classes_of
from r2kd_mm.engine.wrapped_data import gives_bgr
from r2kd_mm.export.formats import DESCRIPTION
from r2kd_mm.export.predictor import Predictor


def is_export(path: str | os.PathLike) -> bool:
    """Return whether a path is the folder of an export: the folder holds ``export.json``."""
    return (Path(path) / DESCRIPTION).is_file()


class ExportedClassifier(BaseClassifier):
    """The network of an export as a classifier that a Runner can test; it runs on the CPU.

    Args:
        folder: Folder that :func:`~r2kd_mm.export.export_student` wrote. Code in it is run.
        data_preprocessor: Normalises the images.

    Raises:
        ImportError: A package that the format needs is missing.
    """

    predictor: Predictor

    def __init__(self, folder: str, data_preprocessor: dict | None = None) -> None:
        super().__init__(data_preprocessor=data_preprocessor)
        object.__setattr__(self, 'predictor', Predictor(folder))  # no part that is moved to another device
        self.num_classes = len(self.predictor.classes)

    def forward(
        self, inputs: Tensor, data_samples: list[DataSample] | None = None, mode: str = 'predict'
    ) -> list[DataSample]:
        """Return the probabilities and the most likely class of each image, ``(N, C, H, W)``."""
        probabilities = self.predictor.probabilities(inputs.float().cpu())
        samples = [DataSample() for _ in probabilities] if data_samples is None else data_samples
        for sample, row in zip(samples, probabilities):
            sample.set_pred_score(row).set_pred_label(row.argmax(dim=0, keepdim=True))
        return samples


def put_export_(cfg: Config, folder: str | os.PathLike) -> None:
    """Let a run test an export in the place of its network, with the preprocessing of the export.

    Args:
        cfg: Config of the run.
        folder: Folder of the export.

    Raises:
        ValueError: The run is started by a launcher, or has no test data.
    """
    if cfg.get('launcher', 'none') != 'none':
        raise ValueError(
            f'an export is scored by one process, got launcher={cfg.launcher!r}; start tools/test.py alone'
        )
    if not cfg.get('test_dataloader'):
        raise ValueError('the config has no test_dataloader; give one that says which data to score the export on')
    prepared = json.loads((Path(folder) / DESCRIPTION).read_text(encoding='utf-8'))['preprocessing']
    grey = prepared['channel_order'] == 'GRAY'
    flips = not grey and gives_bgr(cfg.test_dataloader, {}) != (prepared['channel_order'] == 'BGR')
    normalise: dict[str, Any] = dict(
        type='ClsDataPreprocessor', mean=list(prepared['mean']), std=list(prepared['std']), to_rgb=flips
    )
    cfg.model = dict(type=f'{__name__}.{ExportedClassifier.__name__}', folder=str(folder), data_preprocessor=normalise)
    cfg.load_from = None
    # of the training: an average of the weights, checks of a teacher
    cfg.custom_hooks = [hook for hook in cfg.get('custom_hooks') or () if 'DataCheckHook' in str(hook.get('type'))]


def check_test_data(runner: Runner) -> None:
    """Refuse data of other classes or of another size than those of the export.

    Raises:
        ValueError: They are.
    """
    predictor = runner.model.predictor
    dataset = runner.test_loop.dataloader.dataset
    check_same_classes(
        classes_of(dataset),
        predictor.classes,
        owners='the test data and the export',
        remedy='score it on data with the classes of its training',
    )
    given = tuple(dataset[0]['inputs'].shape)
    if given != predictor.preprocessing.shape:
        raise ValueError(
            f'the test data give images of shape {given} (channels, height, width), and the export takes '
            f'{predictor.preprocessing.shape}; give the config of its run'
        )
