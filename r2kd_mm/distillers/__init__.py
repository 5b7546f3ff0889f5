"""Student, frozen teachers and losses in one MMEngine model."""

from r2kd_mm.distillers.logit_distiller import LogitDistiller
from r2kd_mm.distillers.r2kd import R2KD

__all__ = ['LogitDistiller', 'R2KD']
