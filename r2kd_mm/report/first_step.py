"""Draw the first training batch of a config, clean and augmented, with the predictions of its teacher if trained."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from r2kd_mm.augmentations import ViewContext
from r2kd_mm.engine import AtomicLocalBackend, unwrapped_model
from r2kd_mm.engine.classes import classes_of
from r2kd_mm.engine.run_config import load_run_config
from r2kd_mm.report.figures import draw_pictures
from r2kd_mm.report.style import to_png
from r2kd_mm.report.views import Picture, is_bgr, to_pixels, top_classes

IN_A_ROW = 8


class Seen(Exception):
    """Exception that ends the run as soon as the first batch is captured."""


class FirstStep(Hook):
    """Keep the images of the first step, as the student gets them, and end the run."""

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Preprocess the batch as the step would, and let the model make its view."""
        model: Any = unwrapped_model(runner)
        data = model.data_preprocessor(data_batch, training=True)
        self.clean, self.view = data['inputs'], None
        self.labels = [sample.gt_label for sample in data['data_samples']]
        if getattr(model, 'augmentation', None) is not None:
            model.step.views.augmentation = partial(self._keep, model.augmentation)
            model.loss(**data)
        raise Seen

    def _keep(self, augmentation: Callable, images: Tensor, context: ViewContext) -> Tensor:
        self.view = augmentation(images, context)
        raise Seen


def prepare(cfg: Config) -> bool:
    """Remove what the first batch does not need from the config.

    Returns:
        Whether there is a checkpoint of the teacher.

    Raises:
        FileNotFoundError: There is none, and the augmentation asks the teacher.
    """
    cfg.custom_hooks = []
    cfg.log_level = 'ERROR'
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    cfg.test_dataloader = cfg.test_cfg = cfg.test_evaluator = None
    if cfg.model.get('replay'):
        print('the views of a replay have draws of their own; those shown are of the same run without it')
        cfg.model.replay = None
    checkpoint = cfg.model.get('teacher_ckpt')
    if checkpoint is None:  # those of an ensemble stand at its members
        return isinstance(cfg.model.get('teacher'), dict) and 'members' in cfg.model.teacher
    if '://' in checkpoint or Path(checkpoint).is_file():
        return True
    if 'CutMixPick' in str(cfg.model.get('augmentation')):
        raise FileNotFoundError(
            f"CutMixPick picks images by the teacher's predictions, and its checkpoint {checkpoint!r} is not here; "
            'give it by --cfg-options model.teacher_ckpt=PATH'
        )
    print(f'without predictions of the teacher, whose checkpoint {checkpoint!r} is not here')
    cfg.model.teacher_ckpt = None
    cfg.model.allow_untrained_teacher = True
    return False


@torch.no_grad()
def make_rows(runner: Runner, seen: FirstStep, num: int, ask_teacher: bool) -> dict[str, list[Picture]]:
    """Collect the images with their labels, their views, and the predictions of the teacher for both."""
    model: Any = unwrapped_model(runner)
    bgr = is_bgr(runner.cfg, 'train_dataloader')
    names = classes_of(runner.train_dataloader.dataset) or ()
    labels = [int(label) for label in seen.labels if label.numel() == 1]
    heads = [f'is {names[label] if label < len(names) else label}' for label in labels] or [''] * len(seen.clean)
    views = {'clean': (seen.clean, heads)}
    if seen.view is not None:
        views['augmented'] = (seen.view, [''] * len(seen.view))
    rows = {}
    for start in range(0, min(num, len(seen.clean)), IN_A_ROW):
        chosen = slice(start, min(start + IN_A_ROW, num))
        for name, (images, texts) in views.items():
            texts = texts[chosen]
            if ask_teacher:
                logits = model.teacher_logits(images[chosen]).float().cpu()
                count = logits.shape[1]
                said = top_classes(logits, names if len(names) == count else list(map(str, range(count))))
                texts = [f'{text}\n{words}'.strip() for text, words in zip(texts, said)]
            pixels = to_pixels(images[chosen], model.data_preprocessor, bgr)
            rows[f'{name}, from {start + 1}'] = [Picture(*parts) for parts in zip(pixels, texts)]
    return rows


def browse_augmentations(args: argparse.Namespace) -> None:
    """Start the run, stop it in its first step, and draw; ``tools/browse_augmentations.py`` calls this."""
    with tempfile.TemporaryDirectory() as folder:
        cfg = load_run_config(
            argparse.Namespace(
                config=args.config,
                cfg_options=args.cfg_options,
                work_dir=folder,
                launcher='none',
                local_rank=0,
                no_pin_memory=False,
            )
        )
        ask_teacher = prepare(cfg)
        runner, seen = Runner.from_cfg(cfg), FirstStep()
        runner.register_hook(seen, priority='VERY_LOW')
        try:
            runner.train()
        except Seen:
            rows = make_rows(runner, seen, args.num, ask_teacher)
        AtomicLocalBackend().put(to_png(partial(draw_pictures, rows)), args.out)
        shown = min(args.num, len(seen.clean))
        print(f'wrote {args.out}: {shown} of the {len(seen.clean)} images of the first step, seed {runner.seed}')
