import copy

import torch
from torch import nn

from r2kd_mm.teachers.frozen import FrozenNetworks, apart_from


def test_networks_are_frozen_and_in_eval_mode():
    network = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    frozen = FrozenNetworks(dict(teacher=network))
    assert frozen['teacher'] is network
    assert not any(module.training for module in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_a_deep_copy_of_the_owner_shares_them():
    owner = nn.Module()
    owner.frozen = FrozenNetworks(dict(teacher=nn.Linear(2, 2)))
    assert copy.deepcopy(owner).frozen['teacher'] is owner.frozen['teacher']


def test_moving_makes_new_networks_and_keeps_their_mode():
    frozen = FrozenNetworks(dict(teacher=nn.Linear(2, 2), pruned=nn.Dropout()))
    frozen['pruned'].train()
    moved = frozen.moved(lambda tensor: tensor.double())
    assert moved['teacher'].weight.dtype == torch.float64
    assert frozen['teacher'].weight.dtype == torch.float32
    assert moved['pruned'].training


def test_a_network_that_shares_nothing_with_the_student_is_taken_as_it_is():
    network = nn.Linear(2, 2)
    assert apart_from(nn.Linear(2, 2), network, 'teacher') is network


def test_what_the_student_shares_is_copied_for_the_teacher():
    head = nn.Linear(2, 2)
    student, teacher = nn.Sequential(nn.Linear(2, 2), head), nn.Sequential(nn.Linear(2, 2), head)
    frozen = FrozenNetworks(dict(teacher=apart_from(student, teacher, 'teacher')))
    assert all(parameter.requires_grad for parameter in student.parameters())
    assert torch.equal(frozen['teacher'][1].weight, head.weight)
    head.weight.data.zero_()
    assert frozen['teacher'][1].weight.any()
