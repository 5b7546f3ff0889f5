"""Quantise a student to int8 as a ``torch.export`` graph; write it as ``model.pt2`` or as ExecuTorch's ``model.pte``.

The quantiser is ExecuTorch's XNNPACK quantiser. Weights have one scale per channel, activations one scale per tensor.
Both files contain the same graph.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from r2kd_mm.export.graphs import export_program, quietly, save_executorch, save_exported
from r2kd_mm.quantized import FakeQuantizedClassifier, converted, quantizer

if TYPE_CHECKING:
    from r2kd_mm.export.student import Student

CALIBRATION_BATCH = 32
ANNOTATION = 'quantization_annotation'  # what a quantiser says of a node
HELPERS = ('quantized_decomposed', 'sym_size', '_operator', 'assert')  # nodes that compute nothing


def observed(network: nn.Module, seen: Tensor | None) -> fx.GraphModule:
    """Return the graph of a network with folded batch norm and the range of each tensor on images ``(N, C, H, W)``."""
    assert seen is not None
    prepare = importlib.import_module('torchao.quantization.pt2e.quantize_pt2e').prepare_pt2e
    with quietly(), torch.no_grad():
        prepared = prepare(export_program(network, seen[:2]).module(), quantizer())
        for images in seen.split(CALIBRATION_BATCH):
            prepared(images)
    return prepared


def in_float32(prepared: fx.GraphModule) -> tuple[str, ...]:
    """List the operators of an observed graph that the quantiser left in float32."""
    nodes = [node for node in prepared.graph.nodes if _computes(node)]
    return tuple(sorted({_kind(node) for node in nodes if not getattr(node.meta.get(ANNOTATION), '_annotated', False)}))


def graph_worst_layers(student: Student, float32: Path, lowered: Path, seen: Tensor | None) -> dict[str, float]:
    """Return the signal to noise ratio of each layer on ``student.images``, in decibels, the worst first.

    The network is quantised again: its file has other names, and that of ExecuTorch has none.
    """
    before = observed(student.network, seen)
    layers = {node.name: _layer(node) for node in before.graph.nodes if _computes(node)}
    exact = _outputs(before, student.images)
    lossy = _outputs(converted(before), student.images)
    ratios = {name: _ratio(exact[name], lossy[name]) for name in layers if name in lossy}
    of_layers: dict[str, float] = {}  # of several operators of a layer, that of the worst
    for name in sorted(ratios, key=lambda name: ratios[name]):
        of_layers.setdefault(layers[name] or name, ratios[name])
    return of_layers


def _layer(node: fx.Node) -> str:
    stack = list(node.meta.get('nn_module_stack', {}).values())
    return stack[-1][0].removeprefix('classifier.') if stack else ''


def _ratio(exact: Tensor, lossy: Tensor) -> float:
    return float(20 * torch.log10(exact.norm() / (exact - lossy).norm()))


def exported_int8(student: Student, description: dict[str, Any], folder: Path, seen: Tensor | None) -> tuple[str, ...]:
    """Write ``model.pt2`` in int8; return the kinds of operators left in float32."""
    return _write(
        student, seen, lambda network: save_exported(export_program(network, student.images), description, folder)
    )


def executorch_int8(
    student: Student, description: dict[str, Any], folder: Path, seen: Tensor | None
) -> tuple[str, ...]:
    """Write ``model.pte`` in int8; return the kinds of operators left in float32."""
    return _write(student, seen, lambda network: save_executorch(network, student.images, folder))


def _write(student: Student, seen: Tensor | None, save: Callable[[nn.Module], None]) -> tuple[str, ...]:
    classifier = student.network.classifier
    if isinstance(classifier, FakeQuantizedClassifier):
        left = in_float32(classifier.model)
        save(classifier.converted())
    else:
        prepared = observed(student.network, seen)
        left = in_float32(prepared)
        save(converted(prepared))
    return left


def _outputs(network: fx.GraphModule, images: Tensor) -> dict[str, Tensor]:
    """Return what each operator of a graph gives, by the name of its node."""
    found: dict[str, Tensor] = {}

    class Recorder(fx.Interpreter):
        def run_node(self, node: fx.Node) -> Any:
            result = super().run_node(node)
            if _computes(node) and isinstance(result, Tensor):
                found[node.name] = result.float().clone()
            return result

    with torch.no_grad():
        Recorder(network).run(images)
    return found


def _kind(node: fx.Node) -> str:
    return str(node.target).removeprefix('aten.').split('.')[0].rstrip('_')


def _computes(node: fx.Node) -> bool:
    return node.op == 'call_function' and not any(helper in f'{node.target} {_module(node)}' for helper in HELPERS)


def _module(node: fx.Node) -> str:
    return getattr(node.target, '__module__', '') or ''
