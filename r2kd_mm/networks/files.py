"""Load a trained network for use as a teacher, from a TorchScript or ONNX file or a folder of ``r2kd_mm.export``."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from r2kd_mm.classifiers import as_logits
from r2kd_mm.networks.inputs import Inputs
from r2kd_mm.registry import MODELS

DESCRIPTION = 'export.json'
TORCHSCRIPT, ONNX = ('.pt', '.pts', '.torchscript', '.jit'), '.onnx'
IN_FOLDERS = {'torchscript': 'model.pt', 'onnx': 'model.onnx'}
DIGEST = 32  # bytes


@MODELS.register_module()
class FileNetwork(nn.Module):
    """Trained classifier in a TorchScript or ONNX file; it can be a teacher, but cannot be trained.

    TorchScript runs on the device of the images. ONNX always runs on the CPU, by onnxruntime.

    Args:
        path: A TorchScript file, whose code is run, or an ONNX file.

    Raises:
        FileNotFoundError: The file does not exist.
        ImportError: onnxruntime is not installed.
        ValueError: The file is neither TorchScript nor ONNX, cannot be read, or has a fixed batch size.

    Example:
        >>> import tempfile
        >>> script = torch.jit.trace(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), torch.zeros(1, 3, 2, 2))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     script.save(f'{folder}/teacher.pt')
        ...     FileNetwork(f'{folder}/teacher.pt')(torch.zeros(2, 3, 2, 2)).shape
        torch.Size([2, 3])
    """

    is_init = True  # there is nothing that init_weights could do
    script: torch.jit.ScriptModule | None

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = str(path)
        content = _read(Path(path))
        # a network of ONNX has no tensors here; its teacher is known by them
        digest = hashlib.sha256(content).digest()
        self.register_buffer('digest', torch.tensor(list(digest), dtype=torch.uint8), persistent=True)
        # no submodule: TorchScript takes none of the hooks by which an engine watches one
        script = load_torchscript(path) if Path(path).suffix.lower() in TORCHSCRIPT else None
        if script is not None:
            script.eval()
            for parameter in script.parameters():
                parameter.requires_grad_(False)
        vars(self)['script'] = script
        self._session: Any = None
        stated = describe_file(Path(path))
        self.num_classes = None if stated is None else len(stated['classes'])
        self._dataset_meta = {} if stated is None else dict(classes=tuple(stated['classes']))
        if self.script is None:
            self._open()

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits ``(N, num_classes)`` for images as the network wants them."""
        if self.script is not None:
            return as_logits(self.script(images), self)
        if self._session is None:
            self._open()
        (given,) = self._session.get_inputs()
        try:
            found = self._session.run(None, {given.name: images.detach().float().cpu().numpy()})
        except Exception as error:  # onnxruntime has a class for each fault
            raise ValueError(
                f'{self.path!r} takes images {given.shape}, got {list(images.shape)}: {str(error).splitlines()[0]}'
            ) from error
        return as_logits(torch.from_numpy(found[0]).to(images.device, images.dtype), self)

    @property
    def num_parameters(self) -> int | None:
        """Number of its parameters; ``None`` of a network of ONNX."""
        return None if self.script is None else sum(parameter.numel() for parameter in self.script.parameters())

    def _open(self) -> None:
        if importlib.util.find_spec('onnxruntime') is None:
            raise ImportError(f"{self.path!r} needs the package onnxruntime: pip install 'r2kd_mm[export]'")
        onnxruntime: Any = importlib.import_module('onnxruntime')
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            self._session = onnxruntime.InferenceSession(self.path, options, providers=['CPUExecutionProvider'])
        except Exception as error:  # onnxruntime has a class for each fault
            raise ValueError(f'{self.path!r} is no network of ONNX: {str(error).splitlines()[0]}') from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1:
            raise ValueError(
                f'{self.path!r} has {len(inputs)} inputs and {len(outputs)} outputs; a teacher has one of images and '
                'one of logits'
            )
        if inputs[0].shape and isinstance(inputs[0].shape[0], int):
            raise ValueError(
                f'{self.path!r} takes batches of exactly {inputs[0].shape[0]}, and those of a training differ; export '
                'it for batches of any size (dynamic_shapes or dynamic_axes of torch.onnx.export)'
            )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> FileNetwork:
        super()._apply(fn, recurse)
        if self.script is not None:
            self.script._apply(fn)
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, '_session': None}  # a session cannot be copied


def is_file_network(name: str) -> bool:
    """Return whether a name of a network is a file of TorchScript or ONNX, or the folder of an export."""
    path = Path(name).expanduser()
    return path.suffix.lower() in (*TORCHSCRIPT, ONNX) or (path / DESCRIPTION).is_file()


def find_file(name: str) -> tuple[Path, bool]:
    """Return the file of a network, and whether it runs code.

    Args:
        name: A file, or the folder of an export.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The export has another format, or its description cannot be read.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        kind = _read_description(path)['format']
        if kind not in IN_FOLDERS:
            raise ValueError(
                f'{name!r} is an export in the format {kind}, and a teacher is read from {" or ".join(IN_FOLDERS)}; '
                'export it so too'
            )
        path /= IN_FOLDERS[kind]
    if not path.is_file():
        raise FileNotFoundError(f'there is no file {str(path)!r} of a network')
    return path.resolve(), path.suffix.lower() in TORCHSCRIPT


def describe_file(path: Path) -> dict[str, Any] | None:
    """Return the ``export.json`` of an export of ours, from the file or next to it; ``None`` of another network."""
    if path.with_name(DESCRIPTION).is_file():
        stated = _read_description(path.parent)
        if IN_FOLDERS.get(stated['format']) == path.name:  # and not of another file in the folder
            return stated
    if path.suffix.lower() in TORCHSCRIPT and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            held = next((name for name in archive.namelist() if name.endswith(f'/extra/{DESCRIPTION}')), None)
            return None if held is None else json.loads(archive.read(held))
    return None


def _read_description(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION
    try:
        stated = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise ValueError(f'{str(path)!r} is no description of an export: {error}') from error
    if not isinstance(stated, dict) or not {'format', 'input', 'preprocessing', 'classes'} <= stated.keys():
        raise ValueError(f'{str(path)!r} is no description of an export; export the network again, or take it away')
    return stated


def inputs_of_export(stated: Mapping[str, Any]) -> Inputs:
    """Return what the network of an export wants to see.

    Raises:
        ValueError: It takes grey images, or images that are not square; or it gives probabilities.
    """
    if stated.get('inside', {}).get('softmax'):  # exports of earlier versions do not say
        raise ValueError(
            'an export that teaches gives logits, and this one has softmax inside; export the network again without '
            '--with-softmax'
        )
    channels, height, width = stated['input']['shape'][1:]
    prepared = stated['preprocessing']
    if channels != 3 or height != width:
        raise ValueError(f'an export that teaches takes square images of 3 channels, got {channels, height, width}')
    found = [step['interpolation'] for step in prepared['transforms'] if step.get('interpolation')]
    kind = found[-1] if found and found[-1] in ('bicubic', 'nearest') else 'bilinear'
    rgb = prepared['channel_order'] == 'RGB'
    return Inputs(height, tuple(prepared['mean']), tuple(prepared['std']), rgb, kind, fixed=True)


def load_torchscript(path: str | Path) -> torch.jit.ScriptModule:
    """Read a network of TorchScript.

    Raises:
        ValueError: The file holds something else, such as a checkpoint.
    """
    try:
        return torch.jit.load(str(path), map_location='cpu')
    except RuntimeError as error:
        raise ValueError(
            f'{str(path)!r} is no network of TorchScript: {str(error).splitlines()[0].rstrip(".")}. Weights alone are '
            'given by --teacher-ckpt, next to the name of their network'
        ) from error


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise FileNotFoundError(f'there is no file {str(path)!r} of a network')
    return path.read_bytes()
