"""Corrupt images in fifteen usual ways, to test robustness."""

from r2kd_mm.corruptions.filters import FAMILIES, NAMES, SEVERITIES, corrupt
from r2kd_mm.corruptions.transform import Corrupt

__all__ = ['Corrupt', 'FAMILIES', 'NAMES', 'SEVERITIES', 'corrupt']
