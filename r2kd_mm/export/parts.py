"""Check that the config in a checkpoint names only networks, data sets and transforms, before these are built.

The config of an untrusted checkpoint could otherwise call any function.
"""

from __future__ import annotations

from typing import Any

from mmcv.transforms import BaseTransform
from mmengine.dataset import ClassBalancedDataset, RepeatDataset
from mmengine.utils import get_object_from_string  # what Registry.get falls back to
from mmpretrain.datasets import KFoldDataset
from mmrazor.registry import sub_model
from torch import nn
from torch.utils.data import Dataset

from r2kd_mm.zoo import build_classifier

# Parts that a config may build, besides networks, torch's data sets and transforms.
PARTS = (build_classifier, sub_model, ClassBalancedDataset, KFoldDataset, RepeatDataset)
PARTS_BY_NAME = ('torchvision.models.get_model',)  # not imported for its name


def check_parts(value: Any) -> None:
    """Raise if a ``type`` in a config is the path of anything but a network module, data set or transform."""
    if isinstance(value, dict):
        kind = value.get('type')
        if isinstance(kind, str) and '.' in kind:
            found = get_object_from_string(kind)
            is_part = isinstance(found, type) and issubclass(found, (nn.Module, Dataset, BaseTransform))
            if not (found is None or is_part or found in PARTS or kind in PARTS_BY_NAME):  # None: a name in a registry
                raise ValueError(
                    f'the config in the checkpoint is refused: it builds {kind!r}, which is no network, data set or '
                    'transform; if you trust it, give its config as a file by --config'
                )
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ():
        check_parts(item)
