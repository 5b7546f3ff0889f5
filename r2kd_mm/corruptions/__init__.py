"""Corrupt images by noise, blur, weather or compression, fifteen ways in all, to test how robust a network is."""

from r2kd_mm.corruptions.filters import FAMILIES, NAMES, SEVERITIES, corrupt
from r2kd_mm.corruptions.transform import Corrupt

__all__ = ['Corrupt', 'FAMILIES', 'NAMES', 'SEVERITIES', 'corrupt']
