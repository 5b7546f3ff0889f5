"""The front of the toolbox: from a folder of photos and a teacher to an exported student."""

from typing import TYPE_CHECKING

from r2kd_mm.lazy import import_on_demand

if TYPE_CHECKING:
    from r2kd_mm.photos.distill import Distilled, distill
    from r2kd_mm.photos.options import Options

__all__ = ['Distilled', 'Options', 'distill']

__getattr__ = import_on_demand(__name__)
