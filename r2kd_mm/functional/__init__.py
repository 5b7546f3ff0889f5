"""Pure functions of tensors: no state, no registry, no random draw; torch is the only import."""

from r2kd_mm.functional.correlation import cosine, pearson, spearman
from r2kd_mm.functional.mixing import cutmix, cutout, mixup
from r2kd_mm.functional.ranking import ESTIMATORS, hard_rank, soft_kendall, soft_rank
from r2kd_mm.functional.standardization import standardize

__all__ = [
    'ESTIMATORS',
    'cosine',
    'cutmix',
    'cutout',
    'hard_rank',
    'mixup',
    'pearson',
    'soft_kendall',
    'soft_rank',
    'spearman',
    'standardize',
]
