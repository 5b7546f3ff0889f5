"""Prune copies of a trained classifier by several pruners and amounts; compare predictions with the original's."""

from __future__ import annotations

import argparse
import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import init_default_scope
from torch import nn

from r2kd_mm.classifiers import classifier_logits
from r2kd_mm.engine import AtomicLocalBackend
from r2kd_mm.engine.fileio import check_writable
from r2kd_mm.engine.run_config import read_changed_config
from r2kd_mm.engine.wrapped_data import data_preprocessor_of
from r2kd_mm.environment import environment
from r2kd_mm.pruning import ChannelPruner, MagnitudePruner, NMPruner, Pruner, PruningReport, RandomPruner
from r2kd_mm.registry import DATASETS, MODELS, build_component
from r2kd_mm.report.pruned import PrunedTeacher, judge, plot_pruned_teachers, pruned_to_csv, pruned_to_markdown
from r2kd_mm.report.views import View
from r2kd_mm.runs import load_network, validation_logits
from r2kd_mm.teachers.build import RECORD_KEY

PRUNERS: dict[str, Callable[..., Pruner]] = {
    'magnitude': MagnitudePruner,
    'global': partial(MagnitudePruner, scope='global'),
    'random': RandomPruner,
    'channels': ChannelPruner,
}
N_OF_M = re.compile(r'(\d+):(\d+)')
DEFAULT_PRUNERS = ('magnitude', 'global', 'random', '2:4', 'channels')
R2KD_DEFAULT = ('magnitude', 0.1)


def plan(names: Sequence[str], amounts: Sequence[float]) -> list[tuple[str, float, Pruner]]:
    """List the copies to make, as (name, amount, pruner): one per amount, but a single one for an N:M pruner.

    Raises:
        ValueError: A pruner is unknown, or an amount is out of range.
    """
    copies: list[tuple[str, float, Pruner]] = []
    for name in dict.fromkeys(names):
        pattern = N_OF_M.fullmatch(name)
        if pattern:
            pruner = NMPruner(*map(int, pattern.groups()))
            copies.append((name, pruner.amount, pruner))
        elif name in PRUNERS:
            copies += [(name, amount, PRUNERS[name](amount=amount)) for amount in sorted(set(amounts))]
        else:
            raise ValueError(f'there is no pruner {name!r}; give some of {", ".join(PRUNERS)}, or N:M such as 2:4')
    return copies


def load_classifier(args: argparse.Namespace) -> tuple[nn.Module, Config]:
    """Load the trained classifier in eval mode, and the config.

    Raises:
        ValueError: The config has no validation data, or the checkpoint is that of another network.
    """
    cfg = read_changed_config(args.config, args.cfg_options)
    if not cfg.get('val_dataloader'):
        raise ValueError(f'{args.config} has no val_dataloader to take images from')
    init_default_scope(cfg.get('default_scope', 'r2kd_mm'))
    return load_network(cfg, args.checkpoint).to(get_device()), cfg


def look(
    classifier: nn.Module, copies: list[tuple[str, float, nn.Module, PruningReport]], view: View, cfg: Config
) -> tuple[PrunedTeacher, list[PrunedTeacher]]:
    """Return the logits of the classifier and of its pruned copies for the validation images, in one pass."""
    networks = [classifier, *(network for *_, network, _ in copies)]
    asked = {str(place): partial(view.ask, network) for place, network in enumerate(networks)}
    logits, true_labels = validation_logits(asked, cfg)
    full_logits, *of_copies = logits.values()
    keeps_labels = view.augmentation is None or view.augmentation.keeps_labels
    labels = true_labels if keeps_labels else None
    judged = partial(judge, full_logits=full_logits, labels=labels)
    return judged('none', 0.0, 0.0, full_logits), [
        judged(name, amount, report.sparsity, of_copy) for (name, amount, _, report), of_copy in zip(copies, of_copies)
    ]


def prepared(pruner: Pruner, cfg: Config) -> Pruner:
    """Tell a pruner of channels the size of the images."""
    if not isinstance(pruner, ChannelPruner):
        return pruner
    return replace(pruner, image_size=DATASETS.build(cfg.val_dataloader.dataset)[0]['inputs'].shape[-1])


def save(pruned: nn.Module, pruner: Pruner, path: Path) -> None:
    """Write a checkpoint with the pruned weights, and with the normalisation and classes of the network."""
    buffer = io.BytesIO()
    known = dict(dataset_meta=pruned._dataset_meta, **{RECORD_KEY: dict(normalisation=pruned._normalisation)})
    torch.save(dict(meta=dict(pruner=str(pruner), **known), state_dict=pruned.state_dict()), buffer)
    AtomicLocalBackend().put(buffer.getvalue(), path)


@torch.no_grad()
def prune_teacher(args: argparse.Namespace) -> None:
    """Load, prune, measure and write; ``tools/prune_teacher.py`` calls this with its arguments."""
    names = args.pruners or [name for name in DEFAULT_PRUNERS if not (args.save and name == 'channels')]
    planned = plan(names, args.amounts)
    if args.save and 'channels' in names:
        raise ValueError('weights without channels do not fit the config of the network; --save needs other --pruners')
    augmentation: Any = None
    if args.augmented is not None:
        augmentation = build_component(dict(type=args.augmented), 'augmentation', 'r2kd_mm.augmentations')
    classifier, cfg = load_classifier(args)
    preprocessor = MODELS.build(data_preprocessor_of(cfg))
    view = View(augmentation, partial(classifier_logits, classifier), preprocessor, get_device())

    copies, pruners, left_out = [], [], {}
    for name, amount, pruner in planned:
        try:
            copies.append((name, amount, *prepared(pruner, cfg)(classifier)))
            pruners.append(pruner)
        except ValueError as error:
            if args.pruners:
                raise
            left_out[name] = f'{name} is left out: {error}'
    check_writable(args.out, 'folder', '--out')  # before minutes of measuring
    full, pruned = look(classifier, copies, view, cfg)
    table = pruned_to_markdown(full, pruned, R2KD_DEFAULT)
    shown = 'validation images' if args.augmented is None else f'{args.augmented} views of the validation images'
    files = AtomicLocalBackend()
    files.put_text(table, args.out / 'table.md')
    files.put_text(pruned_to_csv(full, pruned), args.out / 'table.csv')
    rows = [asdict(row) for row in (full, *pruned)]
    content = dict(images=shown, checkpoint=args.checkpoint, rows=rows, environment=environment())
    files.put_text(json.dumps(content, indent=2) + '\n', args.out / 'table.json')
    title = f'{Path(args.config).stem} after pruning, on the {shown}'
    plot_pruned_teachers(args.out / 'pruned.png', full, pruned, title, R2KD_DEFAULT[1])
    if args.save:
        for pruner, (name, amount, network, report) in zip(pruners, copies):
            path = args.out / f'{name.replace(":", "-")}_{amount:g}.pth'
            save(network, pruner, path)
            print(f'{path}: {pruner}\n{report}\n')
    print(f'{table}\nOn the {shown}; an ensemble is 0.7 of the full teacher and 0.3 of the copy.')
    print('\n'.join([*left_out.values(), f'Written to {args.out}.']))
