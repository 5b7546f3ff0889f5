"""Write a network as one Python file that imports only torch and loads the exported weights.

:mod:`torch.fx` traces one forward pass through the classes of r2kd_mm, mmcv and mmpretrain, down to the layers of
``torch.nn``. So the file always matches these classes. This works for every network without control flow that depends
on the input.
"""

from __future__ import annotations

import inspect
import keyword
import re
import textwrap
from collections.abc import Callable, Iterable, Sequence

import torch
from mmpretrain.models.utils import channel_shuffle
from torch import Tensor, fx, nn

from r2kd_mm.engine.cli import readable_message

PLAIN_FUNCTIONS = ('torch.', '_operator.', 'builtins.')  # operators are written as +, * and so on
LINE_LENGTH = 120
FILE = '''"""{title}

Written by r2kd_mm; needs torch alone. The images are prepared as export.json says.

    network = load({weights!r})  # in eval mode
    {output} = network(images)  # {shape} to (N, {num_classes})
"""

{imports}


class Network(nn.Module):
    """The layers, under the names that the weights have."""

    def __init__(self) -> None:
        super().__init__()
{layers}

{forward}


def load(weights: str) -> Network:
    """The network with the weights of this file."""
    network = Network()
    network.load_state_dict({read})
    return network.eval()
'''


class ExportError(ValueError):
    """Error: a network cannot be exported in this format; the message names formats that work.

    Example:
        >>> class Branching(nn.Module):
        ...     def forward(self, images, mode):
        ...         return images if images.sum() > 0 else -images
        >>> network_source(Branching(), 'A branch.', (1, 8, 8), 10, 'weights.pth')
        Traceback (most recent call last):
        ...
        r2kd_mm.export.network.ExportError: this network cannot be written as a file of its own: its path ...
    """


class Logits(nn.Module):
    """Network from images ``(N, C, H, W)`` to logits ``(N, num_classes)``: a classifier and what is put around it.

    Args:
        classifier: mmpretrain classifier.
        normalise: Layer before it; ``None`` takes images that are normalised.
        softmax: Layer behind it, which makes probabilities of the logits; ``None`` gives the logits.
    """

    def __init__(
        self, classifier: nn.Module, normalise: nn.Module | None = None, softmax: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.classifier = classifier
        self.normalise = normalise
        self.softmax = softmax

    def forward(self, images: Tensor) -> Tensor:
        if self.normalise is not None:
            images = self.normalise(images)
        logits = self.classifier(images, mode='tensor')
        return logits if self.softmax is None else self.softmax(logits)


def normalisation_layer(mean: Sequence[float], std: Sequence[float]) -> nn.BatchNorm2d:
    """Return a layer that subtracts ``mean`` and divides by ``std``; every format has batch normalisation.

    Example:
        >>> normalisation_layer([1.0], [2.0])(torch.full((1, 1, 1, 1), 5.0)).item()
        2.0
    """
    layer = nn.BatchNorm2d(len(mean), eps=0.0, affine=False)
    layer.running_mean = torch.tensor(mean, dtype=torch.float32)
    layer.running_var = torch.tensor(std, dtype=torch.float64).square().float()
    return layer.eval()


def weights_of(network: Logits) -> dict[str, Tensor]:
    """Return the weights under the names that they have in the written ``Network``."""
    return {name.removeprefix('classifier.'): value.contiguous() for name, value in network.state_dict().items()}


def network_source(
    classifier: nn.Module, title: str, shape: tuple[int, ...], num_classes: int, weights: str, output: str = 'logits'
) -> str:
    """Write the Python code of a ``Network`` with the weight names of ``classifier``, and of a function ``load``.

    Args:
        classifier: mmpretrain classifier in eval mode, or a network of logits around one; it is not changed.
        title: First line of the file.
        shape: Shape of one image, ``(C, H, W)``, for the docstring of the file.
        num_classes: Number of classes, for the docstring of the file.
        weights: Name of the file with the weights. With the suffix ``.safetensors``, ``load`` reads that format, else a
            file of :func:`torch.save` with ``{'state_dict': ...}``.
        output: What the network gives, for the docstring of the file.

    Raises:
        ExportError: The path through the network depends on its input, or a layer or function is not torch's.

    Example:
        >>> from r2kd_mm.export import load_student
        >>> classifier = load_student('work_dirs/KD/seed_0/epoch_1.pth').network.classifier
        >>> source = network_source(classifier, 'Student for 10 digits.', (1, 8, 8), 10, 'weights.pth')
        >>> 'class Network(nn.Module):' in source
        True
    """
    graph, layers = _trace(classifier if isinstance(classifier, Logits) else Logits(classifier))
    forward = re.sub(r';  [\w, =]+ = None', '', graph.python_code('self').src)  # fx lets go of what is used up
    forward = re.sub(r'def forward\(.*', 'def forward(self, images: torch.Tensor) -> torch.Tensor:', forward.strip())
    safetensors = weights.endswith('.safetensors')
    return FILE.format(
        title=title,
        weights=weights,
        shape=str(('N', *shape)).replace("'", ''),
        num_classes=num_classes,
        output=output,
        imports='\n'.join(
            ['import torch', *(['from safetensors.torch import load_file'] * safetensors), 'from torch import nn']
        ),
        layers=textwrap.indent('\n'.join(_assignments(layers)), ' ' * 8),
        forward=textwrap.indent(_subscripted(forward), ' ' * 4),
        read='load_file(weights)' if safetensors else "torch.load(weights, weights_only=True)['state_dict']",
    )


def _trace(root: Logits) -> tuple[fx.Graph, dict[str, nn.Module]]:
    """Trace the calls from images to logits, and the torch layers that they use, by name."""
    try:
        # it asserts on the shape, which is not known here
        graph = fx.Tracer(autowrap_functions=(channel_shuffle,)).trace(root)
    except (fx.proxy.TraceError, TypeError, NotImplementedError) as error:
        raise _refusal(f'its path cannot be followed ({readable_message(error).splitlines()[0]})') from error
    layers = {}
    for node in graph.nodes:
        if node.target is channel_shuffle:
            node.target = nn.functional.channel_shuffle
            del node.meta['is_wrapped']  # else the code would wrap it again
        if node.op == 'call_function' and not _qualified_name(node.target).startswith(PLAIN_FUNCTIONS):
            raise _refusal(f'it calls {_qualified_name(node.target)}, which is not of torch')
        if node.op == 'get_attr':
            raise _refusal(f'it uses the weight {node.target.removeprefix("classifier.")!r} outside of a layer')
        if node.op == 'call_module':
            layer = root.get_submodule(node.target)
            if isinstance(layer, nn.Identity):
                node.replace_all_uses_with(node.args[0])
                graph.erase_node(node)
                continue
            node.target = node.target.removeprefix('classifier.')
            layers[node.target] = layer
        node.name = 'images' if node.op == 'placeholder' else node.name.removeprefix('classifier_')
    return graph, layers


def _assignments(layers: dict[str, nn.Module]) -> Iterable[str]:
    """Yield ``self.a.b = nn.Conv2d(...)`` for each layer, after the containers above it."""
    containers = set()
    for name, layer in layers.items():
        *parents, _ = parts = name.split('.')
        for depth in range(1, len(parents) + 1):
            container = '.'.join(parents[:depth])
            if container not in containers:
                containers.add(container)
                yield f'{_access(container)} = nn.ModuleDict()'
        line = f'{_access(".".join(parts))} = {_constructor(layer)}'
        yield line if len(line) <= LINE_LENGTH - 8 else line.replace('(', '(\n    ', 1)[:-1] + '\n)'


def _access(name: str) -> str:
    """Write the name ``a.0.b`` as ``self.a['0'].b``."""
    return 'self' + ''.join(
        f'.{part}' if part.isidentifier() and not keyword.iskeyword(part) else f'[{part!r}]' for part in name.split('.')
    )


def _subscripted(code: str) -> str:
    """Replace fx's ``getattr(self.a, "0")`` by ``self.a['0']``."""
    found = 1
    while found:  # from the inside out
        code, found = re.subn(r"""getattr\((self[\w.\[\]']*), "(\w+)"\)""", r"\1['\2']", code)
    return code


def _constructor(layer: nn.Module) -> str:
    """Write the call that builds ``layer``, without arguments that equal the defaults."""
    kind = type(layer)
    if getattr(nn, kind.__name__, None) is not kind:
        raise _refusal(f'its layer {kind.__name__} is not one of torch.nn')
    arguments = []
    for parameter in inspect.signature(kind).parameters.values():
        if parameter.name in ('device', 'dtype'):
            continue
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) or not hasattr(layer, parameter.name):
            raise _refusal(f'what its layer {kind.__name__} was built with is not known')
        value = getattr(layer, parameter.name)
        if parameter.name == 'bias':  # a weight in the layer, a switch in its constructor
            value = value is not None
        if parameter.default is parameter.empty:
            arguments.append(repr(value))
        elif value not in (parameter.default, (parameter.default, parameter.default)):  # one for height and width
            arguments.append(f'{parameter.name}={value!r}')
    return f'nn.{kind.__name__}({", ".join(arguments)})'


def _qualified_name(function: Callable) -> str:
    return f'{getattr(function, "__module__", None) or "torch"}.{function.__name__}'  # builtins of torch have no module


def _refusal(reason: str) -> ExportError:
    return ExportError(
        f'this network cannot be written as a file of its own: {reason}; take the format torchscript, exported or onnx'
    )
