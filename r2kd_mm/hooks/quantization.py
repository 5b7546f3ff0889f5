"""Freeze batch norm and quantisation ranges of the student, late in its quantisation-aware training."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.runner import Runner

from r2kd_mm.engine import unwrapped_model
from r2kd_mm.quantized import FakeQuantizedClassifier
from r2kd_mm.registry import HOOKS


@HOOKS.register_module()
class FreezeQuantizationHook(Hook):
    """Hook that freezes the batch norm and the ranges of a :class:`FakeQuantizedClassifier` from an epoch on.

    The weights learn on, by the very numbers that the int8 file will have. A resumed run freezes in the same epoch.

    Args:
        begin: Epoch, counted from 0, from which they are frozen.

    Raises:
        ValueError: ``begin`` is negative, or the model has no such classifier.

    Example:
        >>> hook = HOOKS.build(dict(type='FreezeQuantizationHook', begin=150))
        >>> hook.begin
        150
    """

    def __init__(self, begin: int) -> None:
        if begin < 0:
            raise ValueError(f'begin must be an epoch, counted from 0, got {begin}')
        self.begin = begin

    def before_train_epoch(self, runner: Runner) -> None:
        """Freeze, from ``begin`` on."""
        found = [module for module in unwrapped_model(runner).modules() if isinstance(module, FakeQuantizedClassifier)]
        if not found:
            raise ValueError(
                'FreezeQuantizationHook freezes a student that learns with fake quantisation, and the model has none; '
                'make its architecture a FakeQuantizedClassifier, or take the hook out'
            )
        for classifier in found:
            classifier.freeze_(runner.epoch >= self.begin)
