"""Write and read exported students in each format, such as ONNX, and list the packages that each format needs.

Each function imports only the packages of its own format. So reading an ONNX export needs no package of other formats.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from r2kd_mm.export.graphs import (
    BATCH,
    DESCRIPTION,
    Predict,
    describe_exported,
    export_program,
    load_executorch,
    load_exported,
    quietly,
    save_executorch,
    save_exported,
)
from r2kd_mm.export.plain_mmpretrain import load_mmpretrain, write_mmpretrain

if TYPE_CHECKING:
    from r2kd_mm.export.student import Student

STACK_TRACE = 'pkg.torch.onnx.stack_trace'
FLOAT32, INT8 = 'float32', 'int8'
LOGITS, PROBABILITIES = 'logits', 'probabilities'  # what a network gives


@dataclass(frozen=True)
class Format:
    """Export format: the functions that write and read it, and the packages that they need.

    Args:
        write: Function that writes a student and the description of its input into an existing folder.
        load: Function that reads this folder and returns the network as a function of images.
        summary: One line for the help text.
        packages: Additional packages for reading.
        write_packages: Additional packages for writing.
        precisions: Precisions below float32, each with its additional packages for writing.
        describe: Replaces the description in the file of the network; of the formats with such precisions.

    Example:
        >>> FORMATS['onnx'].packages
        ('onnxruntime',)
    """

    write: Callable[[Student, dict[str, Any], Path], None]
    load: Callable[[Path], Predict]
    summary: str
    packages: tuple[str, ...] = ()
    write_packages: tuple[str, ...] = ()
    precisions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    describe: Callable[[dict[str, Any], Path], None] | None = None


def require_packages(name: str, to_write: bool = False, precision: str = FLOAT32) -> None:
    """Refuse a format whose packages are missing.

    Args:
        name: One of :data:`FORMATS`.
        to_write: The format will be written and read back, not only read.
        precision: ``'float32'`` or one of the format's ``precisions``.

    Raises:
        ImportError: A package is missing; the message names it and the extra that installs it.

    Example:
        >>> require_packages('torch')  # needs nothing more
    """
    form = FORMATS[name]
    needed = form.packages
    if to_write:
        needed += form.write_packages + form.precisions.get(precision, ())
    missing = [package for package in needed if importlib.util.find_spec(package) is None]
    if missing:
        extra = next((package for package in ('openvino', 'executorch', 'torchao') if package in missing), 'export')
        extra = {'torchao': 'executorch'}.get(extra, extra)
        raise ImportError(
            f'the format {name} needs {", ".join(missing)}, which is not installed; install the {extra} extra: '
            f"pip install 'r2kd_mm[{extra}]'"
        )


# ----------------------------------------------------------------------------------------------- a file of its own
def _write_network(student: Student, description: dict[str, Any], folder: Path, weights: str) -> None:
    from r2kd_mm.export.network import network_source

    classifier = student.network.classifier
    title = f'{type(getattr(classifier, "backbone", classifier)).__name__} for {len(student.classes)} classes.'
    shape, output = student.preprocessing.shape, description['output']['name']
    source = network_source(student.network, title, shape, len(student.classes), weights, output)
    (folder / 'network.py').write_text(source)


def _write_torch(student: Student, description: dict[str, Any], folder: Path) -> None:
    import torch

    from r2kd_mm.export.network import weights_of

    _write_network(student, description, folder, 'weights.pth')
    torch.save(dict(meta=description, state_dict=weights_of(student.network)), folder / 'weights.pth')


def _write_safetensors(student: Student, description: dict[str, Any], folder: Path) -> None:
    from r2kd_mm.export.network import weights_of

    save_file = importlib.import_module('safetensors.torch').save_file
    _write_network(student, description, folder, 'weights.safetensors')
    metadata = {DESCRIPTION: json.dumps(description)}  # the format allows text only
    save_file(weights_of(student.network), folder / 'weights.safetensors', metadata=metadata)


def _load_network(folder: Path, weights: str) -> Predict:
    specification = importlib.util.spec_from_file_location('exported_network', folder / 'network.py')
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    with _no_bytecode():
        specification.loader.exec_module(module)
    return module.load(str(folder / weights))


@contextmanager
def _no_bytecode() -> Iterator[None]:
    """Write no ``__pycache__`` into the folder of the export."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


# ------------------------------------------------------------------------------------------------- graphs of torch
def _write_torchscript(student: Student, description: dict[str, Any], folder: Path) -> None:
    import torch

    with quietly(), torch.no_grad():
        traced = torch.jit.trace(student.network, student.images)
        torch.jit.save(traced, folder / 'model.pt', _extra_files={DESCRIPTION: json.dumps(description)})
    _drop_debug_records(folder / 'model.pt')


def _drop_debug_records(path: Path) -> None:
    """Take out the places in the sources of this machine, which a network is loaded without."""
    whole = path.rename(path.with_suffix('.whole'))
    with zipfile.ZipFile(whole) as given, zipfile.ZipFile(path, 'w') as kept:  # stored, not compressed, as torch reads
        for entry in given.infolist():
            if not entry.filename.endswith('.debug_pkl'):
                kept.writestr(entry, given.read(entry))
    whole.unlink()


def _load_torchscript(folder: Path) -> Predict:
    import torch

    with quietly():
        return torch.jit.load(folder / 'model.pt', map_location='cpu')


def _write_exported(student: Student, description: dict[str, Any], folder: Path) -> None:
    save_exported(export_program(student.network, student.images), description, folder)


# ------------------------------------------------------------------------------------------------------------ ONNX
def write_onnx(student: Student, description: dict[str, Any], folder: Path) -> None:
    """Write ``model.onnx``."""
    import torch

    with quietly():
        program = torch.onnx.export(
            student.network,
            (student.images,),
            dynamo=True,
            verbose=False,
            input_names=['images'],
            output_names=[description['output']['name']],
            dynamic_shapes=({0: torch.export.Dim(BATCH)},),
        )
    assert program is not None
    drop_sources(program)
    program.model.metadata_props[DESCRIPTION] = json.dumps(description)
    program.save(folder / 'model.onnx')  # weights of more than 2 GB go to a second file


def drop_sources(program: Any) -> None:
    """Take the places in the sources of this machine out of what :func:`torch.onnx.export` returns."""
    for node in importlib.import_module('onnx_ir').traversal.RecursiveGraphIterator(program.model.graph):
        node.metadata_props.pop(STACK_TRACE, None)


def _describe_onnx(description: dict[str, Any], folder: Path) -> None:
    onnx = importlib.import_module('onnx')
    model = onnx.load(folder / 'model.onnx', load_external_data=False)
    onnx.helper.set_model_props(model, {DESCRIPTION: json.dumps(description)})
    onnx.save(model, folder / 'model.onnx')


def _load_onnx(folder: Path) -> Predict:
    import torch

    onnxruntime = importlib.import_module('onnxruntime')
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(folder / 'model.onnx', options, providers=['CPUExecutionProvider'])
    return lambda images: torch.from_numpy(session.run(None, {'images': images.numpy()})[0])


# -------------------------------------------------------------------------------------------------------- OpenVINO
def _write_openvino(student: Student, description: dict[str, Any], folder: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        write_onnx(student, description, Path(name))
        save_openvino(Path(name) / 'model.onnx', description, folder)


def save_openvino(model: Path, description: dict[str, Any], folder: Path, compress_to_fp16: bool = False) -> None:
    """Convert a file of ONNX to ``model.xml`` and ``model.bin`` in ``folder``."""
    openvino = importlib.import_module('openvino')
    converted = openvino.convert_model(model)
    converted.set_rt_info(json.dumps(description), [DESCRIPTION])
    openvino.save_model(converted, folder / 'model.xml', compress_to_fp16=compress_to_fp16)


def _describe_openvino(description: dict[str, Any], folder: Path) -> None:
    tree = ElementTree.parse(folder / 'model.xml')
    stated = tree.find(f'rt_info/{DESCRIPTION}')
    assert stated is not None
    stated.set('value', json.dumps(description))
    tree.write(folder / 'model.xml', xml_declaration=True)


def _load_openvino(folder: Path) -> Predict:
    import torch

    openvino = importlib.import_module('openvino')
    settings = {'INFERENCE_NUM_THREADS': torch.get_num_threads(), 'INFERENCE_PRECISION_HINT': 'f32'}
    network = openvino.Core().compile_model(folder / 'model.xml', 'CPU', settings)
    return lambda images: torch.from_numpy(network(images.numpy())[0])


# ------------------------------------------------------------------------------------------------------ ExecuTorch
def _write_executorch(student: Student, description: dict[str, Any], folder: Path) -> None:
    save_executorch(student.network, student.images, folder)


FORMATS = {
    'mmpretrain': Format(write_mmpretrain, load_mmpretrain, 'config and checkpoint of plain mmpretrain'),
    'torch': Format(
        _write_torch, lambda folder: _load_network(folder, 'weights.pth'), 'one Python file that needs torch alone'
    ),
    'safetensors': Format(
        _write_safetensors,
        lambda folder: _load_network(folder, 'weights.safetensors'),
        'the same, its weights as safetensors',
        ('safetensors',),
    ),
    'torchscript': Format(_write_torchscript, _load_torchscript, 'TorchScript, traced; Python and C++'),
    'exported': Format(
        _write_exported,
        load_exported,
        'torch.export, any batch size',
        precisions=dict(int8=('executorch', 'torchao')),
        describe=describe_exported,
    ),
    'onnx': Format(
        write_onnx,
        _load_onnx,
        'ONNX, any batch size',
        ('onnxruntime',),
        ('onnx', 'onnxscript'),
        dict(fp16=('scipy',), int8=('scipy', 'sympy')),
        _describe_onnx,
    ),
    'openvino': Format(
        _write_openvino,
        _load_openvino,
        'OpenVINO, any batch size',
        ('openvino',),
        ('onnx', 'onnxscript', 'onnxruntime'),
        dict(fp16=('scipy',), int8=('scipy', 'sympy')),
        _describe_openvino,
    ),
    'executorch': Format(
        _write_executorch,
        load_executorch,
        'ExecuTorch, by XNNPACK on CPUs of any kind',
        ('executorch',),
        ('torchao',),
        dict(int8=()),
    ),
}
