"""For any finite logits, each loss is finite, is in its stated range, and has a gradient for the student only."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import r2kd_mm.losses as losses
from r2kd_mm.functional.ranking import ESTIMATORS

EXAMPLES = settings(max_examples=100, derandomize=True, deadline=None, database=None)
DTYPES = (torch.bfloat16, torch.float16, torch.float32, torch.float64)
EXTREMES = (0.0, 1e30, -1e30, 1e-30, 1e-40, -1e-40, 1.0, 1.000001, -1.0)  # 1e-40 is subnormal in float32


class Claim(NamedTuple):
    """The arguments of a loss, what its docstring says of its value, and the fewest classes that it takes."""

    arguments: st.SearchStrategy[dict[str, Any]]
    highest: Callable[[dict[str, Any]], float] = lambda arguments: math.inf
    fewest_classes: int = 1


def arguments(**strategies: st.SearchStrategy) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(strategies)


TEMPERATURE = st.sampled_from([0.1, 1.0, 4.0, 50.0])
WEIGHT = st.sampled_from([0.0, 0.5, 8.0])
SMOOTHING = st.sampled_from([0.01, 0.5, 10.0])
ESTIMATOR = st.sampled_from(sorted(ESTIMATORS))

CLAIMS = {
    losses.correlation_distance: Claim(
        arguments(
            temperature=TEMPERATURE,
            centered=st.booleans(),
            class_wise=st.booleans(),
            batch_wise=st.booleans(),
            eps=st.sampled_from([None, 1e-8]),
        ).filter(lambda given: given['class_wise'] or given['batch_wise']),
        lambda given: given['temperature'] ** 2 * (given['class_wise'] + given['batch_wise']) * (1 + given['centered']),
    ),
    losses.rank_distance: Claim(arguments(estimator=ESTIMATOR), lambda given: 2.0),
    losses.kl_divergence: Claim(arguments(temperature=TEMPERATURE)),
    losses.dist: Claim(
        arguments(temperature=TEMPERATURE, inter_weight=WEIGHT, intra_weight=WEIGHT),
        lambda given: 2 * (given['inter_weight'] + given['intra_weight']) * given['temperature'] ** 2,
    ),
    losses.decoupled_kd: Claim(arguments(temperature=TEMPERATURE, alpha=WEIGHT, beta=WEIGHT), fewest_classes=2),
    losses.multi_level_kd: Claim(
        arguments(
            temperatures=st.lists(TEMPERATURE, min_size=1, max_size=3),
            instance_weight=WEIGHT,
            batch_weight=WEIGHT,
            class_weight=WEIGHT,
            quantile=st.sampled_from([None, 0.0, 0.5, 1.0]),
        )
    ),
    losses.kendall_distance: Claim(arguments(smoothing=SMOOTHING), lambda given: 2.0),
    losses.correlation_matching: Claim(
        arguments(
            temperature=TEMPERATURE,
            difficulty=st.sampled_from(sorted(losses.DIFFICULTIES)),
            batch_wise=st.booleans(),
            estimator=ESTIMATOR,
        ),
        lambda given: 4.0 if given['batch_wise'] else 2.0,
    ),
}


@st.composite
def logits(draw: st.DrawFn, fewest_classes: int) -> tuple[Tensor, Tensor]:
    """Logits of student and teacher, of one shape and each of its own dtype: ordinary, extreme, or all equal."""
    count, classes = draw(st.integers(1, 8)), draw(st.integers(fewest_classes, 12))
    pair = []
    for _ in range(2):
        dtype = draw(st.sampled_from(DTYPES))
        element = st.floats(-100, 100, width=32) | st.sampled_from(EXTREMES)
        constant = draw(st.booleans())
        size = 1 if constant else count * classes
        values = torch.tensor(draw(st.lists(element, min_size=size, max_size=size)), dtype=torch.float64)
        largest = torch.finfo(dtype).max
        pair.append(values.clamp(-largest, largest).to(dtype).expand(count * classes).reshape(count, classes))
    return tuple(pair)


def evaluate(loss: Callable[..., Tensor], given: dict[str, Any], student: Tensor, teacher: Tensor) -> Tensor:
    target = torch.arange(len(student)) % student.shape[1]
    needs_target = loss is losses.decoupled_kd or given.get('difficulty') == 'loss'
    return loss(student, teacher, *[target] * needs_target, **given)


def test_every_loss_function_is_tested_here():
    assert set(CLAIMS) == {value for value in vars(losses).values() if callable(value) and not isinstance(value, type)}


@pytest.mark.parametrize('loss', CLAIMS, ids=lambda loss: loss.__name__)
def test_finite_in_range_and_without_a_gradient_to_the_teacher(loss):
    claim = CLAIMS[loss]

    @EXAMPLES
    @given(logits(claim.fewest_classes), claim.arguments)
    def check(pair, given):
        student, teacher = (x.clone().requires_grad_() for x in pair)
        value = evaluate(loss, given, student, teacher)
        assert value.shape == ()
        assert value.dtype.itemsize >= max(student.dtype.itemsize, torch.float32.itemsize)
        assert value.isfinite()
        highest = claim.highest(given)
        rounding = 1e-5 * (size_of_terms(given, *pair) if highest == math.inf else max(1.0, highest))
        assert -rounding <= value <= highest + rounding
        if not value.requires_grad:  # the estimator 'hard', or all weights are 0
            return
        value.backward()
        assert teacher.grad is None
        # in the dtype of the arithmetic: float16 holds no slope above 65504, which eps=1e-8 has at constant columns
        student = pair[0].to(value.dtype).requires_grad_()
        evaluate(loss, given, student, pair[1]).backward()
        assert student.grad.isfinite().all()

    check()


def size_of_terms(given: dict[str, Any], student: Tensor, teacher: Tensor) -> float:
    """Return the size of the terms of a divergence."""
    temperature = max(1.0, given.get('temperature', 0.0), *given.get('temperatures', ()))
    return temperature**2 * max(1.0, float(student.double().abs().max()), float(teacher.double().abs().max()))
