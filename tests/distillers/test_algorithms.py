import pytest
import toys
from mmrazor.models.algorithms.base import BaseAlgorithm

from r2kd_mm.registry import MODELS


class StepsByItself(BaseAlgorithm):
    def train_step(self, data, optim_wrapper):
        return {}


def distiller(architecture):
    losses = dict(loss_kd=dict(type='KLDivergenceLoss'))
    return MODELS.build(dict(type='LogitDistiller', architecture=architecture, teacher=None, losses=losses))


def test_a_student_whose_own_training_step_nobody_would_call_is_refused():
    architecture = BaseAlgorithm(StepsByItself(MODELS.build(toys.classifier())))
    with pytest.raises(ValueError, match='StepsByItself cannot be the architecture of a distiller: it works'):
        distiller(architecture)


def test_a_student_that_is_no_algorithm_has_no_mutator():
    assert not hasattr(distiller(toys.classifier()), 'mutator')
