"""Convert an exported network to int8 or fp16.

The conversion is done by ONNX Runtime, OpenVINO, torchao or ExecuTorch; each is imported only where it is used.
"""

from __future__ import annotations

import ast
import importlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from r2kd_mm.export.formats import save_openvino, write_onnx
from r2kd_mm.export.graphs import quietly
from r2kd_mm.export.pt2e import executorch_int8, exported_int8, graph_worst_layers

if TYPE_CHECKING:
    from r2kd_mm.export.student import Student

WORST_LAYERS = 5
# ONNX Runtime looks for channels along axis 1; the weights of these operators have one axis.
ONLY_AXIS = dict.fromkeys(('BatchNormalization', 'InstanceNormalization', 'LayerNormalization'), 0)


# ------------------------------------------------------------------------------------------------------------ ONNX
def onnx_int8(student: Student, description: dict[str, Any], folder: Path, seen: Tensor | None) -> tuple[str, ...]:
    """Quantise ``model.onnx`` in place to int8: weights per channel, activations per tensor.

    Weights use 7 bits. With 8 bits, the sum of two products overflows on processors without VNNI instructions (see ONNX
    Runtime's page on quantisation). So the same file would predict differently on different machines.
    """
    assert seen is not None
    quantise_onnx(folder / 'model.onnx', seen, lambda graph: _nodes_at_the_ends(graph, student))
    return onnx_in_float32(folder)


def quantise_onnx(
    path: Path, images: Tensor, in_float32: Callable[[Any], list[str]], operators: Sequence[str] | None = None
) -> None:
    """Quantise an ONNX file in place to int8, as :func:`onnx_int8` describes.

    Args:
        path: The file.
        images: Images ``(N, C, H, W)`` from which each layer takes its range.
        in_float32: Function from the graph to the names of the nodes that stay in float32.
        operators: Types of the operators to quantise, such as ``'Conv'``; ``None`` takes all that ONNX Runtime can.
    """
    onnx, quantization = importlib.import_module('onnx'), importlib.import_module('onnxruntime.quantization')
    prepare = importlib.import_module('onnxruntime.quantization.shape_inference').quant_pre_process
    prepared = path.with_suffix('.prepared.onnx')
    with quietly():
        prepare(path, prepared)
        quantization.quantize_static(
            prepared,
            path,
            calibration_reader(images),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=operators,
            per_channel=True,
            reduce_range=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            nodes_to_exclude=in_float32(onnx.load(prepared, load_external_data=False).graph),
            extra_options=dict(QDQOpTypePerChannelSupportToAxis=ONLY_AXIS),
        )
    prepared.unlink()


def onnx_fp16(student: Student, description: dict[str, Any], folder: Path, seen: Tensor | None) -> tuple[str, ...]:
    """Convert ``model.onnx`` in place to half precision; images and logits stay in float32."""
    onnx = importlib.import_module('onnx')
    convert = importlib.import_module('onnxruntime.transformers.float16').convert_float_to_float16
    with quietly():
        given = onnx.load(folder / 'model.onnx')
        model = convert(given, keep_io_types=True, node_block_list=_nodes_at_the_ends(given.graph, student))
        if student.network.softmax is not None:
            _drop_rounding(model.graph)
    onnx.save(model, folder / 'model.onnx')
    return ()


def _nodes_at_the_ends(graph: Any, student: Student) -> list[str]:
    """Name the nodes of normalisation and softmax in the network, which stay in float32.

    Eight bits cannot hold pixels and normalised pixels alike, and probabilities of eight bits do not sum to 1.
    """
    first, last = graph.input[0].name, graph.output[0].name
    normalise = [node.name for node in graph.node if first in node.input] if student.network.normalise else []
    softmax = [node.name for node in graph.node if last in node.output] if student.network.softmax else []
    return normalise + softmax


def _drop_rounding(graph: Any) -> None:
    """Give the probabilities as softmax computes them, in float32; the converter rounds them to half precision."""
    makers = {output: node for node in graph.node for output in node.output}
    to_float32 = makers[graph.output[0].name]
    to_float16 = makers[to_float32.input[0]]
    makers[to_float16.input[0]].output[0] = graph.output[0].name
    for cast in (to_float32, to_float16):
        graph.node.remove(cast)


def onnx_in_float32(folder: Path) -> tuple[str, ...]:
    """List the operators of a quantised ``model.onnx`` that compute in float32 on no quantised input."""
    graph = importlib.import_module('onnx').load(folder / 'model.onnx', load_external_data=False).graph
    quantised = {output for node in graph.node if node.op_type == 'DequantizeLinear' for output in node.output}
    kinds = {
        node.op_type
        for node in graph.node
        if node.op_type not in ('QuantizeLinear', 'DequantizeLinear') and not quantised.intersection(node.input)
    }
    return tuple(sorted(kinds))


def onnx_worst_layers(float32: Path, quantised: Path, images: Tensor) -> dict[str, float]:
    """Return the signal to noise ratio of each layer between two ``model.onnx``, in decibels, the worst first."""
    debug = importlib.import_module('onnxruntime.quantization.qdq_loss_debug')
    prepare = importlib.import_module('onnxruntime.quantization.shape_inference').quant_pre_process
    with tempfile.TemporaryDirectory() as name, quietly():
        shown = Path(name)
        prepare(float32 / 'model.onnx', shown / 'prepared.onnx')
        tensors = []
        for model in (shown / 'prepared.onnx', quantised / 'model.onnx'):
            debug.modify_model_output_intermediate_tensors(model, shown / 'shown.onnx')
            tensors.append(debug.collect_activations(str(shown / 'shown.onnx'), calibration_reader(images)))
        errors = debug.compute_activation_error(debug.create_activation_matching(tensors[1], tensors[0]))
    ratios = {layer: error['xmodel_err'] for layer, error in errors.items() if 'xmodel_err' in error}
    layers = _layers(float32 / 'model.onnx')
    of_layers: dict[str, float] = {}  # of several tensors of a layer, that of the worst
    for tensor in sorted(ratios, key=lambda tensor: ratios[tensor]):
        of_layers.setdefault(layers.get(tensor) or tensor, ratios[tensor])
    return of_layers


def _layers(model: Path) -> dict[str, str]:
    """Return the name of the layer that gives each tensor, as ``torch.onnx`` writes it into the file."""
    layers: dict[str, str] = {}
    for node in importlib.import_module('onnx').load(model, load_external_data=False).graph.node:
        for entry in node.metadata_props:
            if entry.key == 'pkg.torch.onnx.name_scopes':
                scopes = ['', *ast.literal_eval(entry.value)]  # from the network down to the call
                layers.update(dict.fromkeys(node.output, scopes[-2].removeprefix('classifier.')))
    return layers


def calibration_reader(images: Tensor) -> Any:
    """Return what gives ONNX Runtime one of the images ``(N, C, H, W)`` after the other."""

    class Reader(importlib.import_module('onnxruntime.quantization').CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.images = iter(images.split(1))

        def get_next(self) -> dict[str, Any] | None:
            image = next(self.images, None)
            return None if image is None else {'images': image.numpy()}

    return Reader()


# -------------------------------------------------------------------------------------------------------- OpenVINO
def openvino_int8(student: Student, description: dict[str, Any], folder: Path, seen: Tensor | None) -> tuple[str, ...]:
    """Write ``model.xml`` from the student that was quantised as ONNX."""
    with tempfile.TemporaryDirectory() as name:
        write_onnx(student, description, Path(name))
        left = onnx_int8(student, description, Path(name), seen)
        save_openvino(Path(name) / 'model.onnx', description, folder)
    return left


def openvino_fp16(student: Student, description: dict[str, Any], folder: Path, seen: Tensor | None) -> tuple[str, ...]:
    """Write ``model.xml`` with weights in half precision."""
    with tempfile.TemporaryDirectory() as name:
        write_onnx(student, description, Path(name))
        save_openvino(Path(name) / 'model.onnx', description, folder, compress_to_fp16=True)
    return ()


@dataclass(frozen=True)
class Converter:
    """Way to a lower precision.

    Args:
        convert: Function that replaces the network of float32 in a folder, and returns the kinds of operators that it
            left in float32, where that is known. For int8 it gets images ``(N, C, H, W)`` to train on, from which it
            takes the range of each layer.
        worst_layers: Function that returns the signal to noise ratio of each layer, the worst first. It gets the
            student, the folders of float32 and of the lower precision, and the images.
    """

    convert: Callable[[Student, dict[str, Any], Path, Tensor | None], tuple[str, ...]]
    worst_layers: Callable[[Student, Path, Path, Tensor | None], dict[str, float]] | None = None

    def name_worst_layers(self, student: Student, float32: Path, lowered: Path, seen: Tensor | None) -> list[str]:
        """Name the :data:`WORST_LAYERS` layers that lose most, where that is known."""
        if self.worst_layers is None:
            return []
        ratios = self.worst_layers(student, float32, lowered, seen)
        return [f'{layer} ({ratio:.0f} dB)' for layer, ratio in list(ratios.items())[:WORST_LAYERS]]


CONVERTERS: dict[tuple[str, str], Converter] = {  # by format and precision
    ('exported', 'int8'): Converter(exported_int8, graph_worst_layers),
    ('executorch', 'int8'): Converter(executorch_int8, graph_worst_layers),
    ('onnx', 'int8'): Converter(
        onnx_int8, lambda student, float32, lowered, seen: onnx_worst_layers(float32, lowered, student.images)
    ),
    ('onnx', 'fp16'): Converter(onnx_fp16),
    ('openvino', 'int8'): Converter(openvino_int8),
    ('openvino', 'fp16'): Converter(openvino_fp16),
}
