"""Command ``r2kd-mm distill``: turn a folder of photos and a teacher into an exported student."""

from typing import TYPE_CHECKING

from r2kd_mm.lazy import import_on_demand

if TYPE_CHECKING:
    from r2kd_mm.photos.options import Options
    from r2kd_mm.photos.stages import Distilled, distill

__all__ = ['Distilled', 'Options', 'distill']

__getattr__ = import_on_demand(__name__)
