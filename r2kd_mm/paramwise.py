"""Check the optimizer option ``paramwise_cfg`` for unknown keys, and for names that match no parameter of the model."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

# The options of MMEngine's constructor of optimizers, and of mmpretrain's that decays the learning rate by layers.
PARAMWISE_OPTIONS = {
    'DefaultOptimWrapperConstructor': {
        'bias_decay_mult',
        'bias_lr_mult',
        'bypass_duplicate',
        'custom_keys',
        'dcn_offset_lr_mult',
        'dwconv_decay_mult',
        'flat_decay_mult',
        'norm_decay_mult',
    },
    'LearningRateDecayOptimWrapperConstructor': {
        'bias_decay_mult',
        'custom_keys',
        'flat_decay_mult',
        'layer_decay_rate',
        'norm_decay_mult',
    },
}


def check_paramwise_cfg(options: Mapping[str, Any], constructor: str, model: nn.Module) -> None:
    """Refuse unknown options, and ``custom_keys`` that match no parameter's name.

    mmpretrain's schedules turn off weight decay for parameters that only some networks have, such as
    ``'.cls_token'``. Such a key only gives a warning, unless it resembles a part of a name and so may be a typo.
    """
    from mmengine.logging import print_log

    known = PARAMWISE_OPTIONS.get(constructor, set(options))  # a constructor of the user's may take any
    for name in options:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            guess = f'did you mean {close[0]!r}?' if close else f'it takes {", ".join(sorted(known))}'
            raise ValueError(f'paramwise_cfg: {constructor} does not take {name!r}; {guess}')
    names = [name for name, _ in getattr(model, 'module', model).named_parameters()]
    parts = sorted({part for name in names for part in name.split('.')})
    for key, values in (options.get('custom_keys') or {}).items():
        _check_values(key, values, constructor)
        if any(key in f'.{name}' for name in names):
            continue
        close = difflib.get_close_matches(key.strip('.'), parts, n=1, cutoff=0.81)
        if values.get('decay_mult') == 0 and values.get('lr_mult', 1) == 1 and '.' not in key.strip('.') and not close:
            print_log(f'paramwise_cfg: no parameter has {key!r} in its name', 'current', logging.WARNING)
            continue
        heads = list(dict.fromkeys('.'.join(name.split('.')[:2]) for name in names))
        guess = f'; did you mean {close[0]!r}?' if close else ''
        raise ValueError(
            f'paramwise_cfg.custom_keys: no parameter has {key!r} in its name, so it would change nothing; names '
            f'begin with {", ".join(heads[:8])}{" ..." if len(heads) > 8 else ""}{guess}'
        )


def _check_values(key: str, values: Mapping[str, Any], constructor: str) -> None:
    """Refuse a misspelt factor, which would become an unused field of the optimizer."""
    if 'lr_mult' in values and constructor == 'LearningRateDecayOptimWrapperConstructor':
        raise ValueError(
            f'paramwise_cfg.custom_keys[{key!r}]: {constructor} does not read lr_mult; it takes decay_mult'
        )
    for name in values:
        close = difflib.get_close_matches(name, ('lr_mult', 'decay_mult'), n=1, cutoff=0.81)
        if close and name != close[0]:
            raise ValueError(f'paramwise_cfg.custom_keys[{key!r}]: nothing reads {name!r}; did you mean {close[0]!r}?')
