"""Student, frozen teachers and losses in one MMEngine model."""

from r2kd_mm.distillers.ensemble import TeacherEnsemble
from r2kd_mm.distillers.logit_distiller import LogitDistiller
from r2kd_mm.distillers.r2kd import R2KD
from r2kd_mm.distillers.weighting import ConfidenceWeights, FixedWeights, LearnedWeights

__all__ = ['ConfidenceWeights', 'FixedWeights', 'LearnedWeights', 'LogitDistiller', 'R2KD', 'TeacherEnsemble']
