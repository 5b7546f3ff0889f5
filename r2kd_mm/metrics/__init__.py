"""Provide metrics that mmpretrain lacks: calibration error, negative log-likelihood and agreement with a teacher.

They work in the ``val_evaluator`` and ``test_evaluator`` of any classifier.
"""

from r2kd_mm.metrics.agreement import TeacherAgreement
from r2kd_mm.metrics.calibration import (
    CalibrationBins,
    CalibrationError,
    NegativeLogLikelihood,
    calibration_bins,
    calibration_error,
)

__all__ = [
    'CalibrationBins',
    'CalibrationError',
    'NegativeLogLikelihood',
    'TeacherAgreement',
    'calibration_bins',
    'calibration_error',
]
