"""The teachers of a distiller are built and checked once; a student alone has none."""

import pytest
import torch
from torch import nn

from r2kd_mm.teachers.ensemble import TeacherEnsemble
from r2kd_mm.teachers.loading import TeacherLoader


def network() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 5))


def loader(teacher: nn.Module, student: nn.Module, check=lambda name, teacher: None) -> TeacherLoader:
    members = dict(teacher=dict(teacher=teacher), copied=dict(copy_of='teacher'))
    return TeacherLoader(TeacherEnsemble(members), student, check)


def test_each_teacher_is_checked_once_and_its_copies_are_not():
    checked = []
    teacher = network()
    networks = loader(teacher, network(), lambda *given: checked.append(given)).build()
    assert checked == [('teacher', teacher)]
    assert list(networks) == ['teacher', 'copied']


def test_a_teacher_that_is_the_student_is_a_frozen_copy_of_it():
    student = network()
    networks = loader(student, student).build()
    assert networks['teacher'] is not student
    assert all(parameter.requires_grad for parameter in student.parameters())
    assert torch.equal(networks['teacher'][1].weight, student[1].weight)


def test_the_ensemble_keeps_no_network_once_they_are_built():
    loading = loader(network(), network())
    loading.build()
    assert loading.ensemble.members['teacher'].teacher is None


def test_a_student_alone_has_no_teachers_and_cannot_do_without_them():
    alone = TeacherLoader(None, network(), check=None)
    assert not alone.build()
    with pytest.raises(RuntimeError, match='this Linear was built with teacher=None, to evaluate the student; give it'):
        alone.required(nn.Linear(1, 1))
