import math

import pytest
import torch
from sklearn.metrics import accuracy_score

from r2kd_mm.functional import agreement


def test_is_the_accuracy_of_one_network_by_the_predictions_of_the_other():
    student, teacher = torch.randn(2, 50, 4, generator=torch.Generator().manual_seed(0))
    expected = 100 * accuracy_score(teacher.argmax(dim=1), student.argmax(dim=1))
    assert agreement(student, teacher) == pytest.approx(expected)
    assert agreement(student, teacher) == agreement(teacher, student)


def test_depends_on_the_first_class_alone():
    logits = torch.tensor([[3.0, 2.0, 1.0]])
    assert agreement(logits, torch.tensor([[3.0, 1.0, 2.0]])) == 100
    assert agreement(logits, torch.tensor([[2.0, 3.0, 1.0]])) == 0


def test_of_no_image_is_not_a_number():
    assert math.isnan(agreement(torch.empty(0, 3), torch.empty(0, 3)))


def test_networks_for_other_classes_are_refused():
    with pytest.raises(ValueError, match=r'got \(1, 2\) and \(1, 3\); set num_classes'):
        agreement(torch.zeros(1, 2), torch.zeros(1, 3))
