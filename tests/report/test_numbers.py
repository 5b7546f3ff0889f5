"""The numbers of the HTML page equal scipy, scikit-learn and values computed by hand."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from sklearn.metrics import confusion_matrix, recall_score

from r2kd_mm.report import numbers


@pytest.fixture
def predictions():
    """Logits of 5 classes and labels, of 200 images, the last class without images."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(200, 5, generator=generator), torch.randint(4, (200,), generator=generator)


def test_entropy_is_that_of_scipy(predictions):
    logits, _ = predictions
    np.testing.assert_allclose(numbers.entropies(logits), scipy.stats.entropy(logits.double().softmax(1), axis=1))
    assert numbers.entropies(torch.zeros(1, 8))[0] == pytest.approx(math.log(8))


def test_the_accuracy_of_a_class_is_the_recall_of_scikit_learn(predictions):
    logits, labels = predictions
    expected = 100 * recall_score(labels, logits.argmax(dim=1), average=None, labels=range(4))
    found = numbers.class_accuracies(logits, labels)
    np.testing.assert_allclose(found[:4], expected, rtol=1e-5)
    assert np.isnan(found[4])


def test_confusions_are_those_of_scikit_learn_without_what_is_right(predictions):
    logits, labels = predictions
    expected = 100 * confusion_matrix(labels, logits.argmax(dim=1), normalize='true')
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(numbers.confusions(logits, labels), expected)


def test_the_most_confused_pairs_come_first_and_none_that_never_occurs():
    shares = np.array([[0, 5, 0], [9, 0, 1], [0, 0, 0]])
    assert numbers.most_confused(shares, 2) == [(1, 0), (0, 1)]
    assert numbers.most_confused(shares, 9) == [(1, 0), (0, 1), (1, 2)]


def test_agreement_is_split_by_what_the_teacher_knows():
    labels = torch.tensor([0, 1, 2, 0])
    teacher, student = (torch.eye(3)[classes] for classes in ([0, 1, 0, 1], [0, 2, 0, 1]))
    assert numbers.split_agreement(student, teacher, labels) == (75, 50, 100)
    assert math.isnan(numbers.split_agreement(student, torch.eye(3)[labels], labels).where_wrong)
