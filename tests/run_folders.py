"""Write folders like those of finished runs without training: random weights and invented logs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from exports import write_checkpoint
from mmengine.config import Config
from toolbox import ROOT

R2KD = 'r2kd/r2kd_res14_res6_digits.py'
ALONE = 'supervised/res6_digits.py'
TEACHER = 'supervised/res14_digits.py'
EPOCHS = 200
ACCURACIES = {100: 40.0, 200: 60.0}  # by epoch, plus the seed


def write_teacher(folder: Path) -> Path:
    """Checkpoint of a random teacher."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    return write_checkpoint(folder / 'teacher.pth', TEACHER)


def write_run(folder: Path, config: str = ALONE, seed: int = 0, **changes: Any) -> Path:
    """A run of ``configs/<config>`` with ``seed`` and ``changes``; returns its folder."""
    logs = folder / '20261121_120000' / 'vis_data'
    logs.mkdir(parents=True)
    cfg = Config.fromfile(ROOT / 'configs' / config)
    cfg.merge_from_dict({'randomness.seed': seed, 'train_cfg.max_epochs': EPOCHS, 'val_dataloader.batch_size': 100})
    cfg.merge_from_dict({'val_dataloader.dataset.indices': 100, **changes})
    cfg.dump(logs / 'config.py')
    torch.manual_seed(seed)
    write_checkpoint(folder / f'epoch_{EPOCHS}.pth', config, **changes)
    (folder / 'last_checkpoint').write_text(f'/moved/since/epoch_{EPOCHS}.pth')
    rows = [dict(loss=3.0 / step + seed, lr=0.1, epoch=step, iter=5 * step, step=5 * step) for step in (1, 100, 200)]
    rows += [{'accuracy/top1': value + seed, 'step': epoch} for epoch, value in ACCURACIES.items()]
    (logs / 'scalars.json').write_text(''.join(json.dumps(row) + '\n' for row in rows))
    return folder
