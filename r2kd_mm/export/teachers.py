"""Export the frozen teachers of a distillation as ONNX files, and write a config that distils from these files."""

from __future__ import annotations

import copy
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.runner import Runner
from torch import Tensor, nn

from r2kd_mm.classifiers import classifier_logits
from r2kd_mm.engine.wrapped_data import short_name
from r2kd_mm.export.formats import FLOAT32, drop_sources, quietly, require_packages
from r2kd_mm.export.network import ExportError
from r2kd_mm.export.quantization import quantise_onnx
from r2kd_mm.functional import agreement, pearson
from r2kd_mm.networks.files import FileNetwork
from r2kd_mm.runs.networks import build_distiller
from r2kd_mm.teachers.targets import MAIN_MEMBER

PRECISIONS = (FLOAT32, 'int8')
CORRELATION, TOP1 = 0.999, 99.0  # the least of int8: mean over images; percent of images
DIFFERENCE = 1e-4  # the most of float32, of the largest logit
REPETITIONS = 5
CONFIG = 'config.py'


@dataclass(frozen=True)
class ExportedTeacher:
    """Exported teacher: the ONNX file, and how far it differs from the original network.

    Attributes:
        path: The ONNX file.
        correlation: Pearson correlation between the logits of network and file for an image, averaged over images.
        top1: Percent of the images for which network and file predict the same class.
        difference: Largest absolute difference between two logits, divided by the largest logit.
        milliseconds: Time per batch of the network (in the teacher engine of the config), and of the file.

    Example:
        >>> ExportedTeacher(Path('teacher.onnx'), 0.9995, 99.6, 0.05, milliseconds=(14.0, 6.5)).top1
        99.6
    """

    path: Path
    correlation: float
    top1: float
    difference: float
    milliseconds: tuple[float, float]


def export_teachers(
    cfg: Config, out: Path, precision: str = FLOAT32, num_images: int = 512
) -> dict[str, ExportedTeacher]:
    """Write each frozen network of a distillation to ``out``, pruned copies too, and ``config.py`` that reads them.

    ONNX Runtime computes them on the CPU. With ``int8`` the last linear layer stays in float32, because the rank term
    would learn the ties between coarse logits. The range of each layer is that of ``num_images`` images to train on,
    clean ones and those of the augmented view. As many others show whether the file says what the network says.

    Args:
        cfg: Config of a distillation, with the checkpoint of its teacher.
        out: Folder to make.
        precision: ``'float32'`` or ``'int8'``.
        num_images: Images to calibrate on, at least 2.

    Returns:
        Name to file, in the order of the ensemble.

    Raises:
        ExportError: A file disagrees with its network; or the config matches features, learns the weights of its
            teachers, or replays them.
        FileExistsError: There is such a folder.
        ImportError: ONNX Runtime, or a package that writes ONNX files, is not installed.

    Example:
        >>> done = export_teachers(Config.fromfile('r2kd.py'), Path('teachers'), num_images=60)
        >>> list(done), done['teacher'].top1
        (['teacher', 'pruned_teacher'], 100.0)
    """
    require_packages('onnx', to_write=True, precision=precision)
    _refuse(cfg)
    if out.exists():
        raise FileExistsError(f'{str(out)!r} exists already; give another folder, or delete it')
    distiller: Any = build_distiller(cfg)
    weighting = distiller.step.targets.weighting
    if not weighting.is_fixed:
        raise ExportError(f'{type(weighting).__name__} weights the teachers image by image; leave weighting out')
    images = _images(cfg, distiller, 2 * num_images)
    calibrated, checked = images[: len(images) // 2], images[len(images) // 2 :]
    batch = images[: 2 * cfg.train_dataloader.batch_size]
    done = {}
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as name:
        folder = Path(name) / out.name
        folder.mkdir()
        for member, network in distiller.teachers.items():
            if any(module.training for module in network.modules()):
                raise ExportError(f'{member} is in train mode, where a batch decides its logits; set its mode to eval')
            path = folder / f'{member}.onnx'
            with quietly():
                write_teacher(network, calibrated, path, precision)
            done[member] = _compare(distiller, member, path, checked, batch)
            _check(done[member], member, precision)
        files = {member: str(out / f'{member}.onnx') for member in done}
        learning_from(cfg, files, weighting.shares.tolist()).dump(folder / CONFIG)
        folder.rename(out)
    return {member: replace(teacher, path=out / teacher.path.name) for member, teacher in done.items()}


def _refuse(cfg: Config) -> None:
    for field in ('features', 'replay'):
        if cfg.model.get(field):
            raise ExportError(f'model.{field} needs the teacher itself, and a file has its logits only; leave it out')


def _images(cfg: Config, distiller: Any, count: int) -> Tensor:
    """Return ``count`` images of training as the teachers see them, clean ones and augmented ones in turn."""
    loader = dict(cfg.train_dataloader, num_workers=0, persistent_workers=False)
    found: list[Tensor] = []
    views = distiller.step.views
    for batch in Runner.build_dataloader(loader, seed=0):
        clean = distiller.data_preprocessor(batch, training=True)['inputs']
        seen = views(clean, views.names, lambda images: distiller.step.targets.ask('teacher', images))
        found += [image for images in zip(*seen.values()) for image in images]
        if len(found) >= count:
            break
    return torch.stack(found[:count]).cpu()


class _Logits(nn.Module):
    """Network of any library, from normalised images to logits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return classifier_logits(self.network, images)


def write_teacher(network: nn.Module, images: Tensor, path: Path, precision: str = FLOAT32) -> None:
    """Write a network as an ONNX file for batches of any size, unchecked.

    Args:
        network: Classifier in eval mode.
        images: Images ``(N, C, H, W)`` that ``int8`` is calibrated on, at least 2.
        path: The file.
        precision: ``'float32'`` or ``'int8'``.

    Example:
        >>> write_teacher(build_distiller(Config.fromfile('kd.py')).teachers['teacher'], torch.zeros(2, 1, 8, 8),
        ...               Path('one.onnx'))
        >>> FileNetwork('one.onnx')(torch.zeros(5, 1, 8, 8)).shape
        torch.Size([5, 10])
    """
    program = torch.onnx.export(
        _Logits(copy.deepcopy(network)).cpu().eval(),  # the network itself stays on its device
        (images[:2],),
        dynamo=True,
        verbose=False,
        input_names=['images'],
        output_names=['logits'],
        dynamic_shapes=({0: torch.export.Dim('batch')},),
    )
    assert program is not None
    drop_sources(program)
    program.save(path)
    if precision != FLOAT32:
        quantise_onnx(path, images, _last_linear_layer, operators=('Conv', 'Gemm', 'MatMul'))


def _last_linear_layer(graph: Any) -> list[str]:
    makers = {output: node for node in graph.node for output in node.output}
    node = makers[graph.output[0].name]
    while node.op_type not in ('Gemm', 'MatMul'):
        node = next(makers[name] for name in node.input if name in makers)
    return [node.name]


def _compare(distiller: Any, member: str, path: Path, images: Tensor, batch: Tensor) -> ExportedTeacher:
    network = FileNetwork(str(path))
    device = next(iter(distiller.parameters())).device

    def ask(images: Tensor) -> Tensor:
        return distiller.step.targets.ask(member, images.to(device)).cpu()

    plain = torch.cat([ask(part) for part in images.split(len(batch))])
    file = torch.cat([network(part) for part in images.split(len(batch))])
    return ExportedTeacher(
        path,
        pearson(plain, file, dim=1).mean().item(),
        agreement(plain, file),
        ((plain - file).abs().max() / plain.abs().max()).item(),
        _milliseconds(lambda: ask(batch), lambda: network(batch)),
    )


def _milliseconds(*actions: Callable[[], object]) -> Any:
    times: list[list[float]] = [[] for _ in actions]
    for turn in range(REPETITIONS + 1):
        for action, taken in zip(actions, times):
            begun = time.perf_counter()
            action()
            if turn:  # the first warms up
                taken.append(1000 * (time.perf_counter() - begun))
    return tuple(map(statistics.median, times))


def _check(done: ExportedTeacher, member: str, precision: str) -> None:
    if precision == FLOAT32:
        if not done.difference <= DIFFERENCE:  # NaN too
            raise ExportError(
                f'the file of {member} differs from its network by {done.difference:.1e} of the largest logit, and '
                f'{DIFFERENCE:.0e} is allowed'
            )
    elif not (done.correlation >= CORRELATION and done.top1 >= TOP1):
        raise ExportError(
            f'{member} in int8 is not the same teacher: the correlation of its logits is {done.correlation:.4f} (at '
            f'least {CORRELATION} is needed), and {done.top1:.2f} % of the images keep their class (at least '
            f'{TOP1:.0f} %); take --precision float32, or calibrate on more images'
        )


def learning_from(cfg: Config, files: Mapping[str, str], shares: Sequence[float]) -> Config:
    """Return the config with files in the place of its teachers.

    Args:
        cfg: Config of the distillation; left as it is.
        files: Name of each teacher to its file.
        shares: Shares of the teachers in the mixed logits.

    Example:
        >>> learning_from(Config.fromfile('kd.py'), dict(teacher='teacher.onnx'), [1.0]).model.teacher
        {'type': 'r2kd_mm.FileNetwork', 'path': 'teacher.onnx'}
    """
    changed = copy.deepcopy(cfg)
    model = changed.model
    teachers = {name: dict(type='r2kd_mm.FileNetwork', path=path) for name, path in files.items()}
    members = {name: dict(teacher=teacher, weight=share) for (name, teacher), share in zip(teachers.items(), shares)}
    single = len(members) == 1
    model.teacher = teachers[MAIN_MEMBER] if single else dict(type='r2kd_mm.TeacherEnsemble', members=members)
    for field in ('teacher_ckpt', 'pruner', 'teacher_weight', 'pruned_teacher_mode', 'weighting'):
        model.pop(field, None)
    if short_name(model.type) == 'R2KD':  # which prunes a teacher of its own
        model.type = 'r2kd_mm.LogitDistiller'
        if model.get('losses') is None:
            model.setdefault('augmentation', dict(type='r2kd_mm.CutMix', alpha=1.0))
            model.losses = dict(
                loss_value=dict(type='r2kd_mm.CorrelationDistanceLoss'), loss_rank=dict(type='r2kd_mm.RankDistanceLoss')
            )
    return changed
