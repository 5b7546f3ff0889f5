"""Compute one training step of a distillation in plain PyTorch, and wrap the step as an MMEngine model."""

from typing import TYPE_CHECKING, Any

from r2kd_mm.lazy import import_on_demand
from r2kd_mm.moved import old_names

if TYPE_CHECKING:
    from r2kd_mm.distillers.logit_distiller import LogitDistiller
    from r2kd_mm.distillers.plain import Distillation
    from r2kd_mm.distillers.r2kd import R2KD

__all__ = ['Distillation', 'LogitDistiller', 'R2KD']

_import = import_on_demand(__name__)
_moved = old_names(__name__)


def __getattr__(name: str) -> Any:
    return (_import if name in __all__ else _moved)(name)
