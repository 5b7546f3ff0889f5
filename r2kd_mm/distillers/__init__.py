"""Student, frozen teachers and losses in one MMEngine model."""

from r2kd_mm.distillers.logit_distiller import LogitDistiller
from r2kd_mm.distillers.r2kd import R2KD
from r2kd_mm.moved import old_names

__all__ = ['LogitDistiller', 'R2KD']

__getattr__ = old_names(__name__)
