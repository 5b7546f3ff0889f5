"""Provide MMEngine hooks: checks of data and training, safe checkpoints, loss schedules, and stored teacher logits.

Other hooks prune the student, freeze its fake quantisation, and report to an Optuna search.
"""

from r2kd_mm.hooks.chance import ChanceCheckHook
from r2kd_mm.hooks.checkpoint import SafeCheckpointHook
from r2kd_mm.hooks.checks import DataCheckHook, TeacherCheckHook
from r2kd_mm.hooks.finite import FiniteCheckHook
from r2kd_mm.hooks.gradients import GradientCheckHook
from r2kd_mm.hooks.group_fisher import GroupFisherHook
from r2kd_mm.hooks.quantization import FreezeQuantizationHook
from r2kd_mm.hooks.rank_state import RankStateHook
from r2kd_mm.hooks.record import RunRecordHook
from r2kd_mm.hooks.replay import ReplayHook
from r2kd_mm.hooks.schedules import AugmentationScheduleHook, LossScheduleHook
from r2kd_mm.hooks.trial import TrialHook

__all__ = [
    'AugmentationScheduleHook',
    'ChanceCheckHook',
    'DataCheckHook',
    'FiniteCheckHook',
    'FreezeQuantizationHook',
    'GradientCheckHook',
    'GroupFisherHook',
    'LossScheduleHook',
    'RankStateHook',
    'ReplayHook',
    'RunRecordHook',
    'SafeCheckpointHook',
    'TeacherCheckHook',
    'TrialHook',
]
