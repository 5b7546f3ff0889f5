"""Compute correlation, ranks, entropy, agreement and mixed images by pure functions of tensors.

The functions keep no state, draw no random numbers, and need only torch.
"""

from r2kd_mm.functional.agreement import agreement
from r2kd_mm.functional.correlation import class_correlation, cosine, pearson, spearman
from r2kd_mm.functional.entropy import entropy
from r2kd_mm.functional.mixing import cutmix, cutout, mixup
from r2kd_mm.functional.ranking import ESTIMATORS, hard_rank, soft_kendall, soft_rank
from r2kd_mm.functional.standardization import standardize

__all__ = [
    'ESTIMATORS',
    'agreement',
    'class_correlation',
    'cosine',
    'cutmix',
    'cutout',
    'entropy',
    'hard_rank',
    'mixup',
    'pearson',
    'soft_kendall',
    'soft_rank',
    'spearman',
    'standardize',
]
