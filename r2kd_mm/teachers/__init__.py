"""Build frozen teachers and pruned copies of them, run them, weight their logits, and store the logits on disk."""

from typing import TYPE_CHECKING

from r2kd_mm.lazy import import_on_demand

if TYPE_CHECKING:
    from r2kd_mm.teachers.adapted import AdaptedInputs
    from r2kd_mm.teachers.ensemble import TeacherEnsemble
    from r2kd_mm.teachers.weighting import ConfidenceWeights, FixedWeights, LearnedWeights

__all__ = ['AdaptedInputs', 'ConfidenceWeights', 'FixedWeights', 'LearnedWeights', 'TeacherEnsemble']

__getattr__ = import_on_demand(__name__)
