"""Run the command ``r2kd-mm distill``: train a student on photos with the help of a teacher, and export the student."""

from typing import TYPE_CHECKING

from r2kd_mm.lazy import import_on_demand

if TYPE_CHECKING:
    from r2kd_mm.photos.options import Options
    from r2kd_mm.photos.stages import Distilled, distill

__all__ = ['Distilled', 'Options', 'distill']

__getattr__ = import_on_demand(__name__)
