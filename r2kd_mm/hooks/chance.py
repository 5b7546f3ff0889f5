"""Warn once if the validation accuracy after the first training steps is no better than random guessing."""

from __future__ import annotations

import numpy as np
from mmengine.hooks import EMAHook, Hook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner

from r2kd_mm.classifiers import num_classes
from r2kd_mm.distillers.student import unwrap_student
from r2kd_mm.engine import unwrapped_model
from r2kd_mm.hooks.guessing import chance_limit
from r2kd_mm.registry import HOOKS

ACCURACY = 'accuracy/top1'
CLIP = 'optim_wrapper.clip_grad=dict(max_norm=5.0)'  # that of schedules/own_data.py
SPANS = 3  # of a moving average, after which 5 % of the initial weights are left


@HOOKS.register_module()
class ChanceCheckHook(Hook):
    """Hook that warns once if the accuracy is still at chance level after ``steps`` steps, and suggests remedies.

    A training that collapses in its first steps has finite losses and runs to the end. The hook checks the first
    validation after ``steps`` steps, or the last validation of a shorter run. It adds no cost to training steps. The
    accuracy of always predicting the most frequent class counts as guessing too. If the moving average (``EMAHook``)
    is validated, the hook waits until the initial weights make up only 5 % of the average.

    Args:
        steps: Number of iterations before the check, at least 1.

    Example:
        >>> default_hooks = dict(chance=dict(type='ChanceCheckHook', steps=200))  # in a config
        >>> HOOKS.build(default_hooks['chance']).steps
        200
    """

    def __init__(self, steps: int = 200) -> None:
        if steps < 1:
            raise ValueError(f'steps must be at least 1, got {steps}')
        self.steps = steps
        self._looked = True

    def before_train(self, runner: Runner) -> None:
        """Find the number of steps after which the accuracy is looked at."""
        momenta = [
            hook.ema_model.momentum for hook in runner.hooks if isinstance(hook, EMAHook) and hook.evaluate_on_ema
        ]
        steps = max([self.steps, *(round(SPANS / momentum) for momentum in momenta if momentum > 0)])
        self._due = min(steps, runner.max_iters)
        self._looked = False

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Warn if it is time and the accuracy is that of guessing."""
        accuracy = (metrics or {}).get(ACCURACY)
        if accuracy is None or self._looked or runner.iter < self._due:
            return
        self._looked = True
        classes = num_classes(unwrap_student(unwrapped_model(runner)))
        if classes is None:
            return
        dataset = runner.val_dataloader.dataset
        limit = max(chance_limit(classes, len(dataset)), _share_of_largest_class(dataset))
        if accuracy > limit + 1e-4:
            return
        rate = max(rate for rates in runner.optim_wrapper.get_lr().values() for rate in rates)
        clip = '' if _limits_gradient(runner.optim_wrapper) else f'limit the gradient ({CLIP}), '
        runner.logger.warning(
            f'After {runner.iter} steps the accuracy is {accuracy:.2f} % on {len(dataset)} images, no better than '
            f'guessing among {classes} classes (up to {limit:.2f} %): the training has collapsed, or has not begun to '
            f'learn. Lower the learning rate (now {rate:g}), {clip}warm up for longer, or check that '
            'the labels are right'
        )


def _limits_gradient(optim_wrapper: OptimWrapper | OptimWrapperDict) -> bool:
    """Tell whether all optimizers of a run limit the gradient."""
    wrappers = optim_wrapper.values() if isinstance(optim_wrapper, OptimWrapperDict) else [optim_wrapper]
    return all(wrapper.clip_grad_kwargs for wrapper in wrappers)


def _share_of_largest_class(dataset: object) -> float:
    """The accuracy in percent of the same answer for every image; 0 where the data set does not tell its labels."""
    labels = np.asarray(dataset.get_gt_labels() if hasattr(dataset, 'get_gt_labels') else ())
    if not labels.size or labels.ndim != 1:
        return 0.0
    return 100 * max(np.unique(labels, return_counts=True)[1]) / len(labels)
