"""Turn a name such as ``timm/resnet34`` into the config of a classifier with a given number of classes."""

from __future__ import annotations

import copy
import difflib
import importlib
import importlib.util
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from r2kd_mm.engine.cli import readable_message
from r2kd_mm.engine.run_config import read_changed_config
from r2kd_mm.networks.classifier import NetworkClassifier
from r2kd_mm.networks.files import FileNetwork, describe_file, find_file, inputs_of_export, is_file_network
from r2kd_mm.networks.inputs import Inputs
from r2kd_mm.zoo import NETWORKS, build_classifier, list_models

NONE, PUBLISHED = 'none', 'published'
ZOO = f'{build_classifier.__module__}.{build_classifier.__name__}'
SHOWN = 3  # close names in a message


@dataclass(frozen=True)
class NamedNetwork:
    """Result of a search by name: the config of a classifier, its image format and its published weights.

    Args:
        name: Name that the user gave.
        config: mmpretrain config of the classifier, with each ``type`` as a name.
        inputs: Images that the network expects; ``None`` if its collection does not state them.
        published: Source of the published weights; ``None`` if there are none.
        runs_code: Whether code of the user was run to find the network, or runs inside the network.
        is_trained: Whether the network comes fully trained and can only be a teacher.
        classes: Class names, if a trained network states them; otherwise ``None``.

    Example:
        >>> NamedNetwork('timm/resnet18', dict(type='TimmClassifier', model_name='resnet18')).published is None
        True
    """

    name: str
    config: dict[str, Any]
    inputs: Inputs | None = None
    published: str | None = None
    runs_code: bool = False
    is_trained: bool = False
    classes: tuple[str, ...] | None = None


def find_network(name: str, num_classes: int, weights: str = NONE) -> NamedNetwork:
    """Find a network and make the config of a classifier of ``num_classes`` classes.

    Args:
        name: ``timm/NAME``, ``mmpretrain/NAME``, ``torchvision/NAME``, ``hf/FOLDER_OR_ID``, ``r2kd/NAME`` of our zoo,
            a config file ``NAME.py``, or ``module:function``, which is called with ``num_classes`` and returns a
            network. Or a trained network: a file of TorchScript (``.pt``) or ONNX (``.onnx``), or the folder of an
            export of one of them. The config, the function and TorchScript run code.
        num_classes: Size of its head, which is new where the weights have another one.
        weights: What it starts from: ``'none'``, ``'published'``, or a checkpoint file of this architecture.

    Raises:
        ValueError: There is no such network, or it has no published weights.
        FileNotFoundError: The checkpoint or the config is missing.
        ImportError: The package of the collection is not installed.

    Example:
        >>> found = find_network('r2kd/cifar/resnet8', num_classes=5)
        >>> found.config, found.inputs.size
        ({'type': 'r2kd_mm.zoo.build_classifier', 'name': 'cifar/resnet8', 'num_classes': 5}, 32)
    """
    if weights not in (NONE, PUBLISHED) and not Path(weights.partition('#')[0]).expanduser().is_file():
        raise FileNotFoundError(
            f'there is no file {weights!r} of weights for {name!r}; give a checkpoint, {NONE!r} or {PUBLISHED!r}'
        )
    if is_file_network(name):
        if weights != NONE:
            raise ValueError(f'{name!r} holds a trained network, which starts from no other weights, got {weights!r}')
        return _of_file(name)
    if name.endswith('.py'):
        found = _of_config(name, num_classes)
    elif ':' in name and '/' not in name:
        found = _of_function(name, num_classes)
    else:
        library, _, rest = name.partition('/')
        if library not in LIBRARIES or not rest:
            close = difflib.get_close_matches(library, LIBRARIES, n=1)
            hint = f'did you mean {close[0]}/{rest or "NAME"}? ' if close else ''
            raise ValueError(
                f'a network is given as {", ".join(f"{known}/NAME" for known in LIBRARIES)}, a config file NAME.py, '
                f'module:function, or a trained file NAME.pt or NAME.onnx, got {name!r}. {hint}A timm name such as '
                'resnet18 is timm/resnet18'
            )
        found = LIBRARIES[library](rest, num_classes)
    return _with_weights(replace(found, name=name), weights)


def _with_weights(found: NamedNetwork, weights: str) -> NamedNetwork:
    """The network with a config that loads its initial weights."""
    if weights == NONE:
        return found
    config = copy.deepcopy(found.config)
    if weights != PUBLISHED and config['type'] == ZOO:
        config['checkpoint'] = weights
    elif weights != PUBLISHED:
        config['init_cfg'] = dict(type='Pretrained', checkpoint=weights)
    elif found.published is None:
        raise ValueError(
            f'no weights of {found.name!r} are published where its collection says so; give a checkpoint file of them, '
            f'or {NONE!r} to start from random ones'
        )
    elif config['type'] == 'TimmClassifier':
        config['pretrained'] = True
    elif config['type'] == 'HuggingFaceClassifier':
        config.update(pretrained=True, ignore_mismatched_sizes=True)
    else:
        config['init_cfg'] = dict(type='Pretrained', checkpoint=found.published)
    return replace(found, config=config)


# -------------------------------------------------------------------------------------------------- the collections
def _timm(name: str, num_classes: int) -> NamedNetwork:
    _require('timm', 'timm', "'r2kd_mm[photos]'")
    import timm
    from timm.models import get_pretrained_cfg, is_model

    architecture, _, tag = name.partition('.')
    if not is_model(architecture):
        raise _unknown('timm', name, [*timm.list_models(), *(timm.list_pretrained() if tag else ())])
    tags = [full.partition('.')[2] for full in timm.list_pretrained(f'{architecture}.*')]
    if tag and tag not in tags:
        raise _unknown('timm', name, [f'{architecture}.{tag}' for tag in tags] or [architecture])
    stated = get_pretrained_cfg(name, allow_unregistered=True)
    config = dict(type='TimmClassifier', model_name=name, num_classes=num_classes)
    if stated is None:
        return NamedNetwork(name, config)
    inputs = Inputs.of_unit_pixels(
        stated.input_size[-1], stated.mean, stated.std, stated.interpolation, stated.fixed_input_size
    )
    return NamedNetwork(name, config, inputs, str(stated.hf_hub_id or stated.url or '') or None)


def _mmpretrain(name: str, num_classes: int) -> NamedNetwork:
    from mmpretrain.apis import ModelHub
    from mmpretrain.apis import list_models as list_mmpretrain

    known = list_mmpretrain()  # which makes the hub read them
    if name not in known:
        raise _unknown('mmpretrain', name, known)
    entry = ModelHub.get(name)
    model = entry.config.model.to_dict()
    if model.get('type') != 'ImageClassifier' or not isinstance(model.get('head'), dict):
        raise ValueError(f'mmpretrain/{name} is a {model.get("type")} without a head for classes; take a classifier')
    return NamedNetwork(name, _classifier(model, num_classes), Inputs.of_config(entry.config), entry.weights or None)


def _torchvision(name: str, num_classes: int) -> NamedNetwork:
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise _unknown('torchvision', name, known)
    network = dict(type='torchvision.models.get_model', name=name, num_classes=num_classes)
    weights = models.get_model_weights(name).DEFAULT
    shown = weights.transforms()
    inputs = Inputs.of_unit_pixels(shown.crop_size[0], shown.mean, shown.std, shown.interpolation.value)
    return NamedNetwork(name, dict(type=NetworkClassifier.__name__, network=network), inputs, weights.url)


def _transformers(name: str, num_classes: int) -> NamedNetwork:
    _require('transformers', 'hf', 'transformers')
    from transformers import AutoConfig

    try:
        AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ValueError(
            f'there is no network hf/{name}: neither a folder of transformers with a config.json nor one that can be '
            f'downloaded ({readable_message(error).splitlines()[0]}); give a folder that save_pretrained wrote, or go '
            'online'
        ) from error
    config = dict(type='HuggingFaceClassifier', model_name=name, num_labels=num_classes)
    files = [path.name for path in Path(name).glob('*')] if Path(name).is_dir() else None
    has_weights = files is None or any(file.endswith(('.safetensors', '.bin')) for file in files)
    return NamedNetwork(name, config, _transformers_inputs(name), name if has_weights else None)


def _transformers_inputs(name: str) -> Inputs | None:
    """Read from its file what the image processor of transformers does: the class would need torchvision.

    Of a network that lies in no folder here, the class says it.
    """
    path = Path(name, 'preprocessor_config.json')
    if path.is_file():
        stated = json.loads(path.read_text())
    elif Path(name).is_dir():
        return None
    else:
        from transformers import AutoImageProcessor

        stated = AutoImageProcessor.from_pretrained(name).to_dict()
    size = stated.get('crop_size') or stated.get('size')
    side = max(size.values()) if isinstance(size, dict) else size
    if not side or not stated.get('do_normalize', True):
        return None
    names = {0: 'nearest', 1: 'lanczos', 2: 'bilinear', 3: 'bicubic'}  # PIL's numbers
    scale = stated.get('rescale_factor', 1 / 255) * 255
    mean, std = ([value / scale for value in stated[key]] for key in ('image_mean', 'image_std'))
    return Inputs.of_unit_pixels(int(side), mean, std, names.get(stated.get('resample', 2), 'bilinear'))


def _zoo(name: str, num_classes: int) -> NamedNetwork:
    if name not in NETWORKS:
        raise _unknown('r2kd', name, list_models())
    config = dict(type=ZOO, name=name, num_classes=num_classes)
    sizes = {'cifar': 32, 'tiny': 64, 'imagenet': 224}
    return NamedNetwork(name, config, Inputs(sizes[name.partition('/')[0]]))


# ------------------------------------------------------------------------------------------------- code of the user
def _of_config(path: str, num_classes: int) -> NamedNetwork:
    cfg = read_changed_config(path, {})
    model = cfg.to_dict().get('model') or {}
    model = model.get('architecture', model)  # of a distillation, the student
    if not model:
        raise ValueError(f'config {path!r} has no model; give one of a classifier')
    return NamedNetwork(path, _classifier(model, num_classes), Inputs.of_config(cfg), runs_code=True)


def _of_function(name: str, num_classes: int) -> NamedNetwork:
    module, _, function = name.partition(':')
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f'{name!r} cannot be imported ({error}); give module:function of a function that takes num_classes and '
            'returns a network, and set PYTHONPATH to where the module is'
        ) from error
    if not callable(found):
        raise ValueError(f'{name!r} is a {type(found).__name__}; expected a function or a class of a network')
    network = dict(type=f'{module}.{function}', num_classes=num_classes)
    return NamedNetwork(name, dict(type=NetworkClassifier.__name__, network=network), runs_code=True)


def _of_file(name: str) -> NamedNetwork:
    path, runs_code = find_file(name)
    stated = describe_file(path)
    return NamedNetwork(
        name,
        dict(type=FileNetwork.__name__, path=str(path)),
        None if stated is None else inputs_of_export(stated),
        runs_code=runs_code,
        is_trained=True,
        classes=None if stated is None else tuple(stated['classes']),
    )


# --------------------------------------------------------------------------------------------------------- helpers
def _classifier(model: dict[str, Any], num_classes: int) -> dict[str, Any]:
    """The config of a classifier with a head of another size, without the training of its published recipe."""
    model = _without_weights(model)
    for name in ('train_cfg', 'data_preprocessor', 'init_cfg'):
        model.pop(name, None)
    head = model.get('head')
    if not isinstance(head, dict):
        model['num_classes'] = num_classes
        return model
    head['num_classes'] = num_classes
    head['loss'] = dict(type='CrossEntropyLoss', loss_weight=1.0)
    head.pop('topk', None)
    return model


def _without_weights(config: Any) -> Any:
    """A copy of a config without the files of weights that its parts would start from."""
    if isinstance(config, (list, tuple)):
        return type(config)(map(_without_weights, config))
    if not isinstance(config, dict):
        return copy.deepcopy(config)
    kept = {name: _without_weights(value) for name, value in config.items() if name != 'pretrained'}
    initial = kept.get('init_cfg')
    several = initial if isinstance(initial, (list, tuple)) else [initial]
    random = [each for each in several if not (each and 'Pretrained' in str(each.get('type')))]
    if not random:
        del kept['init_cfg']
    elif len(random) < len(several):
        kept['init_cfg'] = random
    return kept


def _require(package: str, library: str, installed_by: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise ImportError(
            f'{library}/... needs the package {package}, which is not installed: pip install {installed_by}'
        )


def _unknown(library: str, name: str, known: Iterable[str]) -> ValueError:
    known = list(known)
    close = difflib.get_close_matches(name, known, n=SHOWN, cutoff=0.5)
    hint = f'did you mean {" or ".join(f"{library}/{other}" for other in close)}?' if close else ''
    return ValueError(f'there is no network {library}/{name}; {hint or f"{library} has {len(known)} others"}')


LIBRARIES: dict[str, Callable[[str, int], NamedNetwork]] = dict(
    timm=_timm, mmpretrain=_mmpretrain, torchvision=_torchvision, hf=_transformers, r2kd=_zoo
)
