"""Correlation-based knowledge distillation, R2KD and its relatives, on the OpenMMLab stack."""

try:
    from r2kd_mm import compat

    compat.apply()
except (ImportError, AssertionError) as error:  # a package is missing, or mmrazor asserts another mmcv
    from r2kd_mm.check_env import report

    raise ImportError(f'r2kd_mm cannot use the installed packages: {error}\n\n{report()}') from error

from r2kd_mm.version import __version__

__all__ = ['__version__']
