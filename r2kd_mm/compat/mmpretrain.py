"""Fix faults of mmpretrain, such as lost weights of timm networks, wrong class names and swapped colours."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from r2kd_mm.compat.mmengine import saying_which_weights

if TYPE_CHECKING:
    from torch import Tensor, nn


def keep_wrapped_weights() -> None:
    """Let timm and HuggingFace networks save and load inside another module, and keep their pretrained weights.

    Upstream symptoms: no error. mmpretrain's wrappers remove ``model.`` from the names of their weights, but only if
    the wrapper is the outermost module. A distiller, an algorithm of mmrazor or a moving average (EMA) saves
    ``architecture.model.conv1.weight`` and does not load this name. Also, the Runner calls ``init_weights()`` before it
    trains, which initialises all weights again, even with ``pretrained=True``.
    """
    from mmpretrain.models import HuggingFaceClassifier, TimmClassifier
    from mmpretrain.models.peft import LoRAModel

    for wrapper in (TimmClassifier, HuggingFaceClassifier):
        if wrapper._remove_state_dict_prefix is not _leave_out_model:
            wrapper._remove_state_dict_prefix = staticmethod(_leave_out_model)
            wrapper._add_state_dict_prefix = _put_in_model
            wrapper.__init__ = _with_initialised_network(wrapper.__init__)
    LoRAModel._register_state_dict_hooks = _keep_weights_around_lora(LoRAModel._register_state_dict_hooks)


def _leave_out_model(_wrapper: nn.Module, weights: dict[str, Any], prefix: str, _metadata: dict) -> None:
    """Rename the weights of a wrapper in place; PyTorch ignores the return value of an inner module's hook."""
    for name in [name for name in weights if name.startswith(prefix)]:  # all of them, to keep their order
        weights[prefix + name[len(prefix) :].removeprefix('model.')] = weights.pop(name)


def _put_in_model(self: Any, weights: dict[str, Any], prefix: str, *_args: Any) -> None:
    """Rename weights in place to the names in the wrapper ``self``, also weights saved with ``model.``."""
    of_network = self.model.state_dict().keys()
    for name in [name for name in weights if name.startswith(prefix)]:
        own = name[len(prefix) :]
        is_named = own not in of_network and own.split('.')[0] in self._modules
        weights[f'{prefix}{own}' if is_named else f'{prefix}model.{own}'] = weights.pop(name)


def _with_initialised_network(upstream_init: Callable) -> Callable:
    @functools.wraps(upstream_init)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        upstream_init(self, *args, **kwargs)
        self.model.is_init = True  # BaseModule.init_weights skips this module

    return init


def _keep_weights_around_lora(upstream_register: Callable) -> Callable:
    """Save the modules around a ``LoRAModel``; its hook removes all weights that it does not save itself."""
    if getattr(upstream_register, '__wrapped__', None) is not None:
        return upstream_register

    @functools.wraps(upstream_register)
    def register(self: nn.Module) -> None:
        upstream_register(self)
        key, upstream_hook = self._state_dict_hooks.popitem()

        def hook(module: nn.Module, weights: dict[str, Any], prefix: str, metadata: dict) -> None:
            own = {name: weights[name] for name in weights if name.startswith(prefix)}
            kept = dict(own)
            upstream_hook(module, kept, prefix, metadata)
            for name in own.keys() - kept.keys():
                del weights[name]

        self._state_dict_hooks[key] = hook

    return register


def name_averaged_weights() -> None:
    """Log which weights of a checkpoint mmpretrain's ``EMAHook`` uses.

    See :func:`~r2kd_mm.compat.mmengine.keep_averaged_weights`.
    """
    from mmpretrain.engine import EMAHook

    if getattr(EMAHook.after_load_checkpoint, '__wrapped__', None) is None:
        EMAHook.after_load_checkpoint = saying_which_weights(EMAHook.after_load_checkpoint)


def keep_colours_of_pictures() -> None:
    """Give the pictures of mmpretrain's ``VisualizationHook`` the colours of their images, and one file each.

    Upstream symptom: red and blue of images from files are exchanged. Files of the same name in two folders overwrite
    each other's picture. So do images in memory, because a smaller last batch is counted from the start again.
    """
    from mmpretrain.engine import VisualizationHook

    if 'before_test_epoch' in vars(VisualizationHook):
        return

    def before_val_epoch(self: Any, runner: Any) -> None:
        if self.enable:
            _pictures().look_at(self, runner.val_dataloader)

    def before_test_epoch(self: Any, runner: Any) -> None:
        if self.enable:
            _pictures().look_at(self, runner.test_dataloader)

    def _draw_samples(self: Any, batch_idx: int, data_batch: dict, data_samples: Sequence, step: int = 0) -> None:
        if self.enable:
            _pictures().draw_samples(self, data_batch['inputs'], data_samples, step)

    VisualizationHook.before_val_epoch = before_val_epoch
    VisualizationHook.before_test_epoch = before_test_epoch
    VisualizationHook._draw_samples = _draw_samples


def _pictures() -> ModuleType:
    from r2kd_mm import pictures

    return pictures


def copy_batches_without_waiting() -> None:
    """Let mmpretrain's ``ClsDataPreprocessor`` copy images and labels to the device without waiting for the device.

    Upstream symptom: none but time. Each batch waits for the GPU twice, even from pinned memory.
    """
    from mmpretrain.models import ClsDataPreprocessor

    from r2kd_mm.devices import HOST_LIKE

    upstream_forward = ClsDataPreprocessor.forward
    if getattr(upstream_forward, '__wrapped__', None) is not None:
        return

    @functools.wraps(upstream_forward)
    def forward(self: Any, data: dict, training: bool = False) -> dict:
        if self.device.type not in HOST_LIKE:
            self._non_blocking = True
            _move_labels(data.get('data_samples'), self.device)
        return upstream_forward(self, data, training)

    ClsDataPreprocessor.forward = forward


def _move_labels(samples: Sequence | None, device: Any) -> None:
    """Move the labels of all samples as one tensor, and their scores as another."""
    import torch

    from r2kd_mm.devices import moved

    if not samples:
        return
    for name in ('gt_label', 'gt_score'):
        values: list[Tensor | None] = [getattr(sample, name, None) for sample in samples]
        if any(value is None or value.device.type != 'cpu' for value in values):
            continue
        parts = moved(torch.cat(values), device).split([len(value) for value in values])  # type: ignore[arg-type]
        for sample, part in zip(samples, parts):
            sample.set_field(part, name, dtype=torch.Tensor)


class MisnamedClasses(ValueError):
    """The classes of a data set have the names of other classes.

    Example:
        >>> from mmpretrain.datasets import CustomDataset
        >>> CustomDataset('data/imagenet/val', classes=['n00000001', 'n00000000', 'n00000002', 'n00000003'])
        Traceback (most recent call last):
        ...
        r2kd_mm.compat.mmpretrain.MisnamedClasses: the classes of CustomDataset are not in the order of its labels: ...
    """


def refuse_misnamed_classes() -> None:
    """Refuse a ``CustomDataset`` with ``classes`` in another order than its labels.

    Upstream symptom: an accuracy of 100 %, and every prediction has the name of another class. The labels follow the
    sorted folders or the annotation file, and the names follow the list in the config.
    """
    from mmpretrain.datasets import CustomDataset

    upstream_load = CustomDataset.load_data_list
    if getattr(upstream_load, '__wrapped__', None) is not None:
        return

    @functools.wraps(upstream_load)
    def load_data_list(self: Any) -> list[dict]:
        samples = upstream_load(self)
        if self.with_label and self.CLASSES is not None:
            names = (sample['img_path'].removeprefix(self.img_prefix).lstrip('/') for sample in samples)
            folders = {(sample['gt_label'], name.split('/')[0]) for sample, name in zip(samples, names) if '/' in name}
            _check_names(dict(folders), len(folders), self.CLASSES, type(self).__name__)
        return samples

    CustomDataset.load_data_list = load_data_list


def _check_names(folders: dict[int, str], num_pairs: int, classes: Sequence[str], owner: str) -> None:
    """Refuse ``classes`` that give a folder the name of another folder; skip folders without their own label.

    Args:
        folders: Folders by label.
        num_pairs: Number of pairs of a label and a folder.
        classes: Names by label.
        owner: Name of the data set for the message.
    """
    if len(folders) < num_pairs or len(set(folders.values())) < num_pairs:
        return
    places = {_comparable(folder): label for label, folder in folders.items()}
    for label, name in enumerate(classes):
        if places.get(_comparable(name), label) != label:
            right = [folders.get(place, classes[place]) for place in range(len(classes))]
            raise MisnamedClasses(
                f'the classes of {owner} are not in the order of its labels: label {label} is the folder '
                f'{folders.get(label)!r}, and classes calls it {name!r}; give classes={right}, or leave classes out'
            )


def _comparable(name: str) -> str:
    return re.sub(r'[\W_]+', ' ', name).strip().casefold()
