"""The trace of a step counts FLOPs, and counts memory like PyTorch's allocator."""

import pytest
import torch
from common import most_allocated
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import r2kd_mm.losses as losses
from r2kd_mm.planning import StepTrace

FLOAT = 4
TOLERANCE = 0.1
SAMPLES, CLASSES = 192, 100
LOSSES = {
    name: value
    for name, value in vars(losses).items()
    if isinstance(value, type) and issubclass(value, losses.LogitLoss) and value is not losses.LogitLoss
}
INNER = dict(LogitStandardization=[losses.KLDivergenceLoss()])


def test_memory_is_counted_until_it_is_freed():
    with StepTrace() as trace:
        first = torch.ones(100)
        second = first + 1
        view = second[:10]
        del first, second
        third = torch.ones(50)
    assert trace.peak == 200 * FLOAT
    assert trace.live.total() == 150 * FLOAT  # the view keeps all of its tensor
    del view, third
    assert trace.live.total() == 0


def test_a_gradient_belongs_to_the_part_of_its_operator():
    weight, images = torch.ones(8, 4, requires_grad=True), torch.ones(16, 8)
    with StepTrace() as trace:
        with trace.part('student'):
            logits = images @ weight
        with trace.part('losses'):
            loss = (logits @ torch.ones(4, 2)).sum()
        loss.backward()
    flops = {part: sum(operator.flops for operator in trace.operators if operator.part == part) for part in trace.live}
    product, head = 2 * 16 * 8 * 4, 2 * 16 * 4 * 2
    # the images need no gradient, so one product in the backward pass of each
    assert (flops['student'], flops['losses']) == (2 * product, 2 * head)


def test_what_a_checkpoint_computes_again_belongs_to_the_student():
    layer, images = nn.Linear(8, 8, bias=False), torch.ones(16, 8, requires_grad=True)
    with StepTrace() as trace:
        with trace.part('student'):
            logits = torch.utils.checkpoint.checkpoint(layer, images, use_reentrant=True)
        with trace.part('losses'):
            loss = logits.sum()
        loss.backward()
    flops = {operator.part: 0 for operator in trace.operators}
    for operator in trace.operators:
        flops[operator.part] += operator.flops
    assert flops['student'] == 4 * 2 * 16 * 8 * 8
    assert flops['losses'] == 0


def test_a_view_moves_no_memory():
    with StepTrace() as trace:
        torch.ones(8, 4).t()[:2]
    assert [operator.bytes for operator in trace.operators][1:] == [0, 0]


@pytest.mark.parametrize(('given', 'made'), [(4, 4), (8, 8), (12, 36), (20, 6)])
def test_a_copy_in_a_convolution_has_blocks_of_eight_channels(given, made):
    def step():
        images = torch.ones(64, given, 8, 8, requires_grad=True)
        nn.Conv2d(given, made, 3, padding=1, bias=False)(images).square().sum().backward()

    step()  # what a first call keeps
    with StepTrace() as trace:
        step()
    assert trace.peak == pytest.approx(most_allocated(step), rel=0.05)


@pytest.mark.parametrize('name', LOSSES)
def test_the_temporaries_of_a_loss_are_those_of_the_allocator(name):
    loss, target = LOSSES[name](*INNER.get(name, ())), torch.arange(SAMPLES) % CLASSES
    arguments = [target] * loss.needs_target

    def step(student, teacher):
        loss(student, teacher, *arguments).backward()

    def logits():
        return torch.empty(SAMPLES, CLASSES).requires_grad_(), torch.empty(SAMPLES, CLASSES)

    def real():
        student, teacher = logits()
        with torch.no_grad():
            student.normal_()
            teacher.normal_()
        step(student, teacher)

    real()  # what a first call keeps, such as a table
    measured = most_allocated(real)
    with FakeTensorMode(allow_non_fake_inputs=True):
        given = logits()
    with StepTrace() as trace:
        for tensor in given:
            trace.hold(tensor)
        step(*given)
    assert trace.peak == pytest.approx(measured, rel=TOLERANCE)
