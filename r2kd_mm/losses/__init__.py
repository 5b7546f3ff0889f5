"""Provide distillation losses on logits; each loss, such as DIST or DKD, has a file of its own."""

from r2kd_mm.losses.base import LogitLoss, LossPart
from r2kd_mm.losses.cmkd import DIFFICULTIES, CMKDLoss, correlation_matching
from r2kd_mm.losses.correlation_distance import CorrelationDistanceLoss, correlation_distance
from r2kd_mm.losses.dist import DISTLoss, dist
from r2kd_mm.losses.dkd import DKDLoss, decoupled_kd
from r2kd_mm.losses.kendall import KendallLoss, kendall_distance
from r2kd_mm.losses.kl_divergence import KLDivergenceLoss, kl_divergence
from r2kd_mm.losses.logit_standardization import LogitStandardization
from r2kd_mm.losses.mlkd import MLKDLoss, multi_level_kd
from r2kd_mm.losses.rank_distance import RankDistanceLoss, rank_distance

__all__ = [
    'CMKDLoss',
    'CorrelationDistanceLoss',
    'DIFFICULTIES',
    'DISTLoss',
    'DKDLoss',
    'KLDivergenceLoss',
    'KendallLoss',
    'LogitLoss',
    'LogitStandardization',
    'LossPart',
    'MLKDLoss',
    'RankDistanceLoss',
    'correlation_distance',
    'correlation_matching',
    'decoupled_kd',
    'dist',
    'kendall_distance',
    'kl_divergence',
    'multi_level_kd',
    'rank_distance',
]
