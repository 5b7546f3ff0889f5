"""Correlation-based knowledge distillation (R2KD, CMKD) and baselines, in plain PyTorch and on the OpenMMLab stack."""

from typing import TYPE_CHECKING

from r2kd_mm import compat
from r2kd_mm.import_errors import explain_import_errors
from r2kd_mm.import_hook import wrap_import
from r2kd_mm.lazy import import_on_demand
from r2kd_mm.moved import keep_old_modules
from r2kd_mm.version import __version__

if TYPE_CHECKING:
    from r2kd_mm.photos import distill

__all__ = ['__version__', 'distill']

__getattr__ = import_on_demand(__name__)

compat.apply()
keep_old_modules()
wrap_import('r2kd_mm.*', explain_import_errors)
