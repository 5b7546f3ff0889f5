"""Write down what a checkpoint was made from."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import Dataset

from r2kd_mm.distillers.teacher import RECORD_KEY, normalisation
from r2kd_mm.hooks.checks import TEACHER_ACCURACIES
from r2kd_mm.registry import HOOKS

PACKAGES = ('r2kd_mm', 'torch', 'torchvision', 'numpy', 'mmengine', 'mmcv-lite', 'mmpretrain', 'mmrazor')
FINGERPRINT_SAMPLES = 1000


@HOOKS.register_module()
class RunRecordHook(Hook):
    """Put the origin of a run into its log and into ``checkpoint['meta']['r2kd_mm']``.

    Versions, commit of this package, seed, normalisation, a fingerprint of each data set, and the accuracies that
    :class:`~r2kd_mm.hooks.TeacherCheckHook` measured. MMEngine's own ``meta`` holds the full config beside it. A later
    distillation reads the normalisation, and MMEngine's ``dataset_meta`` with the classes, from its teacher's
    checkpoint and compares them with its own.
    """

    def before_train(self, runner: Runner) -> None:
        """Collect and log."""
        model = getattr(runner.model, 'module', runner.model)
        self.record: dict[str, Any] = dict(
            versions=dict(python=platform.python_version(), **{name: _version(name) for name in PACKAGES}),
            commit=_commit(),
            seed=runner.seed,
            normalisation=normalisation(model.data_preprocessor),
            train_data=fingerprint(runner.train_dataloader.dataset),
        )
        if runner.val_loop is not None:
            self.record['val_data'] = fingerprint(runner.val_dataloader.dataset)
        runner.logger.info('Origin of this run: ' + ', '.join(f'{key}={value}' for key, value in self.record.items()))

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add the record to the checkpoint."""
        accuracies = runner.message_hub.runtime_info.get(TEACHER_ACCURACIES, {})
        checkpoint['meta'][RECORD_KEY] = dict(self.record, teacher_accuracies=accuracies)


def fingerprint(dataset: Dataset) -> dict[str, Any]:
    """Number of images and classes of a data set, and a hash of what is where in it.

    Args:
        dataset: A data set of MMEngine's kind; of others only the number of images is known.

    Returns:
        ``images``, ``classes``, and ``sha256``: over the class names and, for up to 1000 samples at equal distances,
        the label and the path without the folder that the data lie in, or the pixels where there is no path.
    """
    classes = tuple(map(str, getattr(dataset, 'metainfo', {}).get('classes') or ()))
    digest = hashlib.sha256('\n'.join(classes).encode())
    if hasattr(dataset, 'get_data_info'):
        for index in np.linspace(0, len(dataset) - 1, min(len(dataset), FINGERPRINT_SAMPLES)).astype(int):
            info = dataset.get_data_info(int(index))
            root = str(getattr(dataset, 'data_root', '') or '')
            where = str(info['img_path']).removeprefix(root).lstrip('/') if 'img_path' in info else ''
            digest.update(f'{index} {info.get("gt_label")} {where}'.encode())
            digest.update(np.ascontiguousarray(info['img']).tobytes() if 'img' in info else b'')
    return dict(images=len(dataset), classes=len(classes), sha256=digest.hexdigest())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the checkout that this package is imported from, ``+`` behind it with uncommitted changes."""

    def git(*command: str) -> str:
        return subprocess.run(
            ['git', '-C', str(Path(__file__).parent), *command], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git('rev-parse', 'HEAD') + ('+' if git('status', '--porcelain', '--untracked-files=no', '.') else '')
    except (OSError, subprocess.CalledProcessError):  # no git, or installed without its history
        return None
