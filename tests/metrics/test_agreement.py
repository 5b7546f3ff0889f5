"""The agreement metrics compare a student with its teacher on the validation images."""

import numpy as np
import pytest
import torch
import toys
from mmengine.registry import DefaultScope
from torch import nn

from r2kd_mm.metrics import TeacherAgreement
from r2kd_mm.registry import MODELS

PREPROCESSOR = dict(type='ClsDataPreprocessor')


class Says(nn.Module):
    """A teacher that says of image ``i`` what is in row ``i``, whose number is its only pixel."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, inputs, mode):
        return self.logits[inputs.flatten().long()]


def measured(teacher_logits, student_logits):
    """Compute the metric, given all images in two batches."""
    with DefaultScope.overwrite_default_scope('r2kd_mm'):
        metric = TeacherAgreement(Says(teacher_logits), PREPROCESSOR)
    for rows in torch.arange(len(student_logits)).split(7):
        samples = [dict(pred_score=student_logits[row].softmax(dim=0)) for row in rows]
        metric.process(dict(inputs=rows.float().view(-1, 1, 1, 1)), samples)
    return metric.evaluate(len(student_logits))


def test_values_are_those_of_numpy():
    teacher, student = torch.randn(20, 4), torch.randn(20, 4)

    def correlation(logits):
        return np.corrcoef((logits - logits.mean(dim=1, keepdim=True)).double().numpy().T)

    difference = np.abs(correlation(teacher) - correlation(student))
    result = measured(teacher, student)
    assert result['agreement/class_correlation_difference'] == pytest.approx(difference.sum() / (4 * 3), rel=1e-5)
    assert result['agreement/top1'] == pytest.approx(
        100 * (teacher.argmax(1) == student.argmax(1)).float().mean().item()
    )
    assert 0 < result['agreement/top1'] < 100


def test_a_network_agrees_with_itself():
    logits = torch.randn(20, 4)
    result = measured(logits, logits + 3)
    assert result['agreement/top1'] == 100
    assert result['agreement/class_correlation_difference'] == pytest.approx(0, abs=1e-6)


def test_a_run_measures_it_and_its_weights_do_not_change(tmp_path):
    with DefaultScope.overwrite_default_scope('r2kd_mm'):
        torch.manual_seed(1)
        teacher = MODELS.build(toys.classifier(dropout=0.5))
    torch.save(dict(state_dict=teacher.state_dict()), tmp_path / 'teacher.pth')
    evaluator = dict(
        type='TeacherAgreement',
        teacher=toys.classifier(dropout=0.5),
        teacher_ckpt=str(tmp_path / 'teacher.pth'),
        data_preprocessor=PREPROCESSOR,
    )
    runner = toys.runner(toys.classifier(dropout=0.5), tmp_path, val_evaluator=evaluator)
    state = torch.get_rng_state()
    runner.val_loop  # noqa: B018  builds the metric
    assert torch.equal(torch.get_rng_state(), state)
    runner.model.load_state_dict(teacher.state_dict())
    metrics = runner.val()
    assert metrics['agreement/top1'] == 100  # so the teacher's dropout is off
    metric = runner.val_evaluator.metrics[0]
    assert not any(weight.requires_grad for weight in metric.teacher.parameters())


def test_what_would_be_silently_wrong_is_refused():
    with pytest.raises(ValueError, match='got 3 of the student and 4 of the teacher'):
        measured(torch.randn(20, 4), torch.randn(20, 3))
    with DefaultScope.overwrite_default_scope('r2kd_mm'):
        with pytest.raises(ValueError, match='the teacher has no weights'):
            TeacherAgreement(toys.classifier(), PREPROCESSOR)
        teacher = Says(torch.zeros(1, 2))
        teacher._normalisation = dict(mean=[1.0], std=[2.0], to_rgb=False)
        with pytest.raises(ValueError, match="set the data_preprocessor of the run to the teacher's"):
            TeacherAgreement(teacher, dict(**PREPROCESSOR, mean=[0.0], std=[2.0]))
