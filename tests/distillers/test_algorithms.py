import random
from types import SimpleNamespace

import pytest
import toys
from mmengine.dist import get_rank
from mmrazor.models.algorithms.base import BaseAlgorithm
from ranks import run_on_ranks

from r2kd_mm.distillers.algorithms import _choose
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


def choice_of_a_rank():
    """Choose as a process does that has random numbers of its own."""
    chosen = []
    mutator = SimpleNamespace(sample_choices=lambda kind: {kind: random.random()}, set_choices=chosen.append)
    random.seed(get_rank())
    _choose(mutator, 'random0')
    return chosen


def test_all_processes_train_one_random_sub_network():
    first, second = run_on_ranks(2, choice_of_a_rank)
    assert first == second
    assert list(first[0]) == ['random']
