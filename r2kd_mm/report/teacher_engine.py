"""Run the same teachers in plain PyTorch and in the optimised ``TeacherEngine``; compare their logits and speed."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch import Tensor

from r2kd_mm import functional
from r2kd_mm.engine.run_config import read_changed_config
from r2kd_mm.runs.networks import build_distiller
from r2kd_mm.teachers.engine import TeacherEngine

REPETITIONS = 5


def load_config(args: argparse.Namespace) -> Config:
    """Read the config file given on the command line, and apply ``--cfg-options``.

    Raises:
        ValueError: The config has no teacher or no validation data.
    """
    cfg = read_changed_config(args.config, args.cfg_options)
    if not cfg.model.get('teacher'):
        raise ValueError(f'{args.config} has no model.teacher to check; give the config of a distillation')
    if not cfg.get('val_dataloader'):
        raise ValueError(f'{args.config} has no val_dataloader to take images from')
    init_default_scope(cfg.get('default_scope', 'r2kd_mm'))
    return cfg


def load_batches(cfg: Config, distiller: Any, count: int) -> list[Tensor]:
    """Load and preprocess the first ``count`` validation batches, each of shape ``(N, C, H, W)``."""
    loader = Runner.build_dataloader(cfg.val_dataloader, seed=0)
    return [distiller.data_preprocessor(batch)['inputs'] for batch in islice(loader, count)]


def compare(plain: Tensor, engine: Tensor) -> str:
    """Describe the agreement of two computations of the same logits, shape ``(N, num_classes)``."""
    same = functional.agreement(plain, engine)
    correlation = functional.pearson(plain, engine, dim=1)
    difference = (plain - engine).abs().max().item()
    return (
        f'  top-1 agreement      {same:.2f} % ({round(same / 100 * len(plain))} of {len(plain)} images)\n'
        f'  Pearson correlation  {correlation.mean().item():.6f} on average, {correlation.min().item():.6f} at least\n'
        f'  largest difference   {difference:.3g}, {difference / plain.abs().max().item():.3g} of the largest logit'
    )


def speed(plain: Callable[[], Tensor], engine: Callable[[], Tensor]) -> str:
    """Time both in turn after a warm-up, and describe their medians."""
    times: dict[str, list[float]] = dict(plain=[], engine=[])
    for _ in range(REPETITIONS):
        for name, run in dict(plain=plain, engine=engine).items():
            start = time.perf_counter()
            if run().is_cuda:
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    return (
        f'  median of {REPETITIONS} calls    {1000 * medians["plain"]:.2f} ms plain, '
        f'{1000 * medians["engine"]:.2f} ms by the engine: {medians["plain"] / medians["engine"]:.2f} times as fast'
    )


def check_teacher_engine(args: argparse.Namespace) -> None:
    """Build the teachers, run both ways, and report; ``tools/check_teacher_engine.py`` calls this."""
    cfg = load_config(args)
    plain = TeacherEngine.from_config('plain')
    engine = TeacherEngine.from_config(args.engine or cfg.model.get('teacher_engine', 'fast'))
    distiller: Any = build_distiller(cfg)
    batches = load_batches(cfg, distiller, args.batches)
    first = batches[0]
    print(f'{engine}\n{first.device}, torch {torch.__version__}, {torch.get_num_threads()} threads')
    print(f'{sum(map(len, batches))} images; speed on one batch of shape {tuple(first.shape)}')
    for name, network in distiller.teachers.items():
        print(f'{name} ({type(network).__name__})')
        if any(module.training for module in network.modules()):
            print('  runs as it is, because it is in train mode')
            continue
        logits = (torch.cat([run.logits(network, images) for images in batches]) for run in (plain, engine))
        print(compare(*logits))
        print(speed(partial(plain.logits, network, first), partial(engine.logits, network, first)))
