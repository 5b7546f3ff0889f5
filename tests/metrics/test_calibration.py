"""The calibration metrics equal scikit-learn, a slow loop, and values computed by hand."""

import math

import numpy as np
import pytest
import torch
import toys
from mmengine.evaluator import Evaluator
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss

from r2kd_mm.metrics import CalibrationError, NegativeLogLikelihood, calibration_bins, calibration_error
from r2kd_mm.registry import METRICS


@pytest.fixture
def predictions():
    """Probabilities of 500 images, sharper than they should be, and labels."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(500, 7, generator=generator, dtype=torch.float64)
    labels = torch.multinomial(logits.softmax(dim=1), 1, generator=generator).flatten()
    return (2 * logits).softmax(dim=1), labels


def looped_error(probabilities, labels, num_bins):
    """Guo et al., Eq. (3), an image at a time."""
    members = [[] for _ in range(num_bins)]
    for row, label in zip(probabilities.tolist(), labels.tolist()):
        confidence = max(row)
        place = next(
            place for place in range(num_bins) if confidence <= (place + 1) / num_bins or place + 1 == num_bins
        )
        members[place].append((confidence, row.index(confidence) == label))
    error = 0.0
    for inside in filter(None, members):
        confidence, accuracy = np.mean(inside, axis=0)
        error += len(inside) / len(labels) * abs(accuracy - confidence)
    return error


@pytest.mark.parametrize('num_bins', [1, 2, 10, 15])
def test_the_error_is_that_of_a_loop_over_the_images(predictions, num_bins):
    bins = calibration_bins(*predictions, num_bins)
    assert calibration_error(bins) == pytest.approx(looped_error(*predictions, num_bins))
    assert calibration_error(bins) > 0.05
    assert bins.counts.sum() == 500


def test_the_bins_are_those_of_scikit_learn(predictions):
    probabilities, labels = predictions
    confidence, predicted = probabilities.max(dim=1)
    accuracies, confidences = calibration_curve((predicted == labels).numpy(), confidence.numpy(), n_bins=15)
    bins = calibration_bins(probabilities, labels, 15)
    filled = bins.counts > 0
    assert 0 < filled.sum() < 15
    np.testing.assert_allclose(bins.accuracy[filled], accuracies)
    np.testing.assert_allclose(bins.confidence[filled], confidences)
    assert bins.accuracy[~filled].isnan().all()


def test_values_by_hand():
    probabilities = torch.tensor([[0.8, 0.2], [0.8, 0.2], [0.4, 0.6]])
    bins = calibration_bins(probabilities, torch.tensor([0, 1, 1]), num_bins=5)
    assert bins.counts.tolist() == [0, 0, 1, 2, 0]  # a confidence at an edge belongs to the bin below
    assert calibration_error(bins) == pytest.approx(2 / 3 * abs(0.5 - 0.8) + 1 / 3 * abs(1 - 0.6))
    sure = torch.eye(3)
    assert calibration_error(calibration_bins(sure, torch.arange(3))) == 0
    assert calibration_error(calibration_bins(sure, torch.arange(3).flip(0))) == pytest.approx(2 / 3)


def test_bins_of_equal_mass_share_the_images_out_in_the_order_of_their_confidence(predictions):
    bins = calibration_bins(*predictions, num_bins=7, equal_mass=True)
    assert set(bins.counts.tolist()) == {500 // 7, 500 // 7 + 1}
    assert bins.confidence.tolist() == sorted(bins.confidence.tolist())
    confidence = predictions[0].max(dim=1).values.sort().values
    assert bins.confidence[0] == pytest.approx(confidence[: bins.counts[0]].mean().item())


def test_the_likelihood_is_that_of_scikit_learn_and_survives_underflow(predictions):
    def measured(probabilities, labels):
        samples = [dict(pred_score=row, gt_label=label[None]) for row, label in zip(probabilities, labels)]
        metric = NegativeLogLikelihood()
        metric.process(None, samples)
        return metric.evaluate(len(samples))['calibration/nll']

    assert measured(*predictions) == pytest.approx(log_loss(predictions[1], predictions[0]), rel=1e-6)
    assert measured(torch.eye(2), torch.tensor([1, 1])) == pytest.approx(-math.log(torch.finfo(torch.float32).tiny) / 2)


def test_a_run_measures_them_and_the_accuracy(tmp_path):
    evaluator = [dict(type='Accuracy'), dict(type='CalibrationError', num_bins=4), dict(type='NegativeLogLikelihood')]
    runner = toys.runner(toys.classifier(), tmp_path, val_evaluator=evaluator)
    metrics = runner.val()
    logits = torch.cat(
        [
            runner.model(**runner.model.data_preprocessor(batch), mode='tensor').detach()
            for batch in runner.val_dataloader
        ]
    )
    labels = torch.cat([sample.gt_label for sample in toys.Images(seed=1).samples])
    expected = calibration_error(calibration_bins(logits.softmax(dim=1), labels, 4))
    assert metrics['calibration/ece'] == pytest.approx(expected, abs=1e-6)
    assert metrics['calibration/nll'] == pytest.approx(
        torch.nn.functional.cross_entropy(logits, labels).item(), rel=1e-5
    )
    assert 'accuracy/top1' in metrics


def test_a_config_of_mmpretrain_finds_them_by_their_scope():
    evaluator = Evaluator([dict(type='r2kd_mm.CalibrationError', equal_mass=True, prefix='test')])
    evaluator.process([dict(pred_score=torch.tensor([0.9, 0.1]), gt_label=torch.tensor([0]))])
    assert evaluator.evaluate(1) == {'test/ece': pytest.approx(0.1)}
    assert METRICS.get('NegativeLogLikelihood') is NegativeLogLikelihood


@pytest.mark.parametrize(
    ('probabilities', 'labels', 'message'),
    [
        (torch.randn(3, 4), torch.zeros(3), 'give it the softmax of the logits'),
        (torch.full((3, 4), 0.5), torch.zeros(3), 'sums up to 1 off'),
        (torch.full((3, 4), 0.25), torch.zeros(2), r'got shapes \(3, 4\) and \(2,\)'),
        (torch.zeros(0, 4), torch.zeros(0), 'at least one image'),
    ],
)
def test_what_is_no_probability_is_refused(probabilities, labels, message):
    with pytest.raises(ValueError, match=message):
        calibration_bins(probabilities, labels.long())


def test_arguments_out_of_range_are_named():
    with pytest.raises(ValueError, match='num_bins must be a whole number of 1 or more, got 0'):
        calibration_bins(torch.eye(2), torch.arange(2), 0)
    with pytest.raises(ValueError, match="equal_mass must be True or False, got 'no'"):
        CalibrationError(equal_mass='no')
