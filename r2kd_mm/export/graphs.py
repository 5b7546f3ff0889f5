"""Convert a network to a ``torch.export`` graph; save and load it as ``model.pt2`` or ExecuTorch's ``model.pte``."""

from __future__ import annotations

import importlib
import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.export import ExportedProgram

DESCRIPTION = 'export.json'  # in every export: preprocessing and classes
BATCH = 'batch'
EXECUTORCH_BATCH = 32  # images in one call

Predict = Callable[['Tensor'], 'Tensor']  # images (N, C, H, W) to logits or probabilities (N, num_classes)


@contextmanager
def quietly() -> Iterator[None]:
    """Silence all warnings of the exporters, such as deprecated TorchScript; a user cannot act on them."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        yield


def export_program(network: nn.Module, images: Tensor) -> ExportedProgram:
    """Return the graph of a network for any number of images like these, ``(N, C, H, W)``; it keeps no image."""
    import torch

    with quietly(), torch.no_grad():
        return torch.export.export(
            network, (torch.zeros_like(images),), dynamic_shapes=({0: torch.export.Dim(BATCH)},), strict=False
        )


def save_exported(program: ExportedProgram, description: dict[str, Any], folder: Path) -> None:
    """Write ``model.pt2``."""
    import torch

    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            for key in ('stack_trace', 'from_node'):  # the sources of this machine, and up to half of the file
                node.meta.pop(key, None)
    with quietly():
        torch.export.save(program, folder / 'model.pt2', extra_files={DESCRIPTION: json.dumps(description)})


def describe_exported(description: dict[str, Any], folder: Path) -> None:
    """Write another description into ``model.pt2``."""
    save_exported(_read_exported(folder), description, folder)


def load_exported(folder: Path) -> Predict:
    """Read ``model.pt2``."""
    return _read_exported(folder).module()


def _read_exported(folder: Path) -> ExportedProgram:
    import torch

    importlib.import_module('torch.ao.quantization.fx._decomposed')  # the operators of int8
    with quietly():
        return torch.export.load(folder / 'model.pt2')


def save_executorch(network: nn.Module, images: Tensor, folder: Path) -> None:
    """Write ``model.pte`` for the kernels of XNNPACK; ExecuTorch plans the memory of as many images as it is shown."""
    partition = importlib.import_module('executorch.backends.xnnpack.partition.xnnpack_partitioner')
    lower = importlib.import_module('executorch.exir').to_edge_transform_and_lower
    shown = images[:1].expand(EXECUTORCH_BATCH, -1, -1, -1).contiguous()
    with quietly():
        lowered = lower(export_program(network, shown), partitioner=[partition.XnnpackPartitioner()]).to_executorch()
    (folder / 'model.pte').write_bytes(lowered.buffer)


def load_executorch(folder: Path) -> Predict:
    """Read ``model.pte``; the returned function takes any number of images."""
    import torch

    runtime = importlib.import_module('executorch.runtime').Runtime.get()
    method = runtime.load_program(folder / 'model.pte').load_method('forward')

    def predict(images: Tensor) -> Tensor:
        # the answer lies in memory that the next call writes to
        parts = [method.execute((part.contiguous(),))[0].clone() for part in images.split(EXECUTORCH_BATCH)]
        return torch.cat(parts)

    return predict
