"""Load the trained networks of runs, and compute their logits on the validation images."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import DefaultScope, init_default_scope
from mmengine.runner import Runner
from torch import Tensor, nn

from r2kd_mm.engine.wrapped_data import data_preprocessor_of
from r2kd_mm.registry import MODELS
from r2kd_mm.runs.plan import Run, load_config
from r2kd_mm.runs.result import last_checkpoint
from r2kd_mm.teachers.build import load_weights_
from r2kd_mm.weights import forget_initial_weights_


def load_network(cfg: Config, checkpoint: str | Path) -> nn.Module:
    """Build the network that a run trains (the student of a distillation), and load its weights.

    Args:
        cfg: Config of the run; it is not changed.
        checkpoint: Path or URL of the weights.

    Returns:
        The classifier in eval mode, on the CPU.

    Raises:
        ValueError: The checkpoint belongs to another network.
        FileNotFoundError: The checkpoint does not exist.

    Example:
        >>> student = load_network(Config.fromfile('kd.py'), 'work_dirs/KD/seed_0/epoch_1.pth')
        >>> student.training, student.head.num_classes
        (False, 10)
    """
    model = copy.deepcopy(cfg.model)
    forget_initial_weights_(model)
    with _scope_of(cfg):
        network = MODELS.build({'data_preprocessor': data_preprocessor_of(cfg), **model.get('architecture', model)})
    load_weights_(network, str(checkpoint), logger='silent')
    return network.eval()


def build_distiller(cfg: Config) -> nn.Module:
    """Build the model of ``cfg`` as a Runner does, on the device of a Runner, with teachers in place of a replay.

    Example:
        >>> list(build_distiller(Config.fromfile('r2kd.py')).teachers)
        ['teacher', 'pruned_teacher']
    """
    init_default_scope(cfg.get('default_scope', 'r2kd_mm'))
    model = {name: value for name, value in cfg.model.items() if name != 'replay'}
    if model.get('data_preprocessor') is None:
        model['data_preprocessor'] = cfg.get('data_preprocessor')
    return MODELS.build(model).to(get_device())


def trained_student(run: Run) -> tuple[nn.Module, Config]:
    """Load the network of a finished run of a comparison, see :func:`load_network`, and the config of the run.

    Example:
        >>> from r2kd_mm.runs import Method
        >>> student, cfg = trained_student(Run(Method('KD', 'kd.py'), seed=0, folder=Path('work_dirs/KD/seed_0')))
        >>> student.head.num_classes, cfg.randomness.seed
        (10, 0)
    """
    cfg = load_config(run)
    return load_network(cfg, last_checkpoint(run)), cfg


@torch.no_grad()
def validation_logits(networks: Mapping[str, Callable[..., Tensor]], cfg: Config) -> tuple[dict[str, Tensor], Tensor]:
    """Return the logits ``(images, classes)`` of each network by its name, and the labels ``(images,)``.

    Args:
        networks: Classifiers in eval mode, or functions that are called like them. They share the normalisation of the
            config.
        cfg: Config with a ``val_dataloader``.

    Example:
        >>> cfg = Config.fromfile('kd.py')
        >>> student = load_network(cfg, 'work_dirs/KD/seed_0/epoch_1.pth')
        >>> logits, labels = validation_logits({'student': student}, cfg)
        >>> logits['student'].shape, labels.shape
        (torch.Size([1497, 10]), torch.Size([1497]))
    """
    with _scope_of(cfg):
        preprocessor = MODELS.build(data_preprocessor_of(cfg))
        dataloader = Runner.build_dataloader(cfg.val_dataloader)
    logits: dict[str, list[Tensor]] = {name: [] for name in networks}
    labels = []
    for batch in dataloader:
        data = preprocessor(batch, training=False)
        labels += [sample.gt_label for sample in data['data_samples']]
        for name, network in networks.items():
            logits[name].append(network(data['inputs'], mode='tensor'))
    return {name: torch.cat(parts) for name, parts in logits.items()}, torch.cat(labels)


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Top-1 accuracy in percent.

    >>> accuracy(torch.tensor([[2.0, 1.0], [0.0, 1.0]]), torch.tensor([0, 0]))
    50.0
    """
    return 100 * (logits.argmax(dim=1) == labels).float().mean().item()


def _scope_of(cfg: Config) -> AbstractContextManager:
    """Let the registries find the short names of a config, as the Runner does in a run."""
    return DefaultScope.overwrite_default_scope(cfg.get('default_scope') or 'r2kd_mm')
