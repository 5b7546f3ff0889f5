"""What a trained network says about the validation set: logits, accuracy, and how its classes go together."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor, nn

from r2kd_mm.checkpoint import select_weights
from r2kd_mm.engine.wrapped_data import data_preprocessor_of
from r2kd_mm.registry import MODELS
from r2kd_mm.runs.runs import Run, last_checkpoint, load_config
from r2kd_mm.weights import forget_initial_weights_


def trained_student(run: Run) -> tuple[nn.Module, Config]:
    """The network that a finished run trained (of a distillation, the student), in eval mode, and the run's config."""
    cfg = load_config(run)
    forget_initial_weights_(cfg.model)
    student = MODELS.build({'data_preprocessor': data_preprocessor_of(cfg), **cfg.model.get('architecture', cfg.model)})
    checkpoint = CheckpointLoader.load_checkpoint(last_checkpoint(run), map_location='cpu', logger='silent')
    student.load_state_dict(select_weights(checkpoint))  # beside them, a distiller may have learned weights of its own
    return student.eval(), cfg


@torch.no_grad()
def validation_logits(networks: Mapping[str, Callable[..., Tensor]], cfg: Config) -> tuple[dict[str, Tensor], Tensor]:
    """Logits ``(images, classes)`` of each network by its name, and the labels ``(images,)``.

    Args:
        networks: Classifiers in eval mode, or what is called like them, which share the normalisation of the config.
        cfg: Config with a ``val_dataloader``.
    """
    preprocessor = MODELS.build(data_preprocessor_of(cfg))
    logits: dict[str, list[Tensor]] = {name: [] for name in networks}
    labels = []
    for batch in Runner.build_dataloader(cfg.val_dataloader):
        data = preprocessor(batch, training=False)
        labels += [sample.gt_label for sample in data['data_samples']]
        for name, network in networks.items():
            logits[name].append(network(data['inputs'], mode='tensor'))
    return {name: torch.cat(parts) for name, parts in logits.items()}, torch.cat(labels)


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Top-1 accuracy in percent."""
    return 100 * (logits.argmax(dim=1) == labels).float().mean().item()
