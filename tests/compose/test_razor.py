"""Combine this package with mmrazor: its algorithm trains with our losses, its hooks and loops with our distillers."""

import pytest
import torch
import toys
from mmrazor.models.algorithms import SingleTeacherDistill
from mmrazor.models.task_modules import ResourceEstimator

from r2kd_mm.distillers import LogitDistiller
from r2kd_mm.losses import CorrelationDistanceLoss, RankDistanceLoss
from r2kd_mm.registry import MODELS

LOSSES = dict(loss_value=CorrelationDistanceLoss(4.0, loss_weight=2.0), loss_rank=RankDistanceLoss(loss_weight=2.0))


def distiller(**fields):
    torch.manual_seed(0)
    return MODELS.build(
        dict(
            type='LogitDistiller',
            architecture=toys.classifier(),
            teacher=toys.classifier(width=6),
            allow_untrained_teacher=True,
            losses=LOSSES,
            **fields,
        )
    )


class TestOurLossesInTheAlgorithmOfMmrazor:
    NAME = 'compose-razor_res14_res6_digits'

    def test_they_are_those_of_our_distiller(self, run, tmp_path):
        theirs = run(self.NAME, tmp_path).model.eval()
        assert type(theirs) is SingleTeacherDistill
        ours = LogitDistiller(theirs.student, theirs.teacher, losses=LOSSES, teacher_engine='plain').eval()
        inputs, data_samples = torch.randn(20, 1, 8, 8), toys.batch(20, num_classes=10)[1]
        given, expected = theirs.loss(inputs, data_samples), ours.loss(inputs, data_samples)
        torch.testing.assert_close(given['student.loss'], expected['student.loss'])
        for name in LOSSES:
            torch.testing.assert_close(given[f'distill.{name}'], expected[f'clean.{name}'])

    def test_they_train_the_student_and_not_the_teacher(self, trained, unmoved):
        teacher = {f'teacher.{name}' for name, _ in trained(self.NAME).model.teacher.named_parameters()}
        assert set(unmoved(self.NAME)) == teacher


class TestHooksAndLoopsOfMmrazorWithOurDistiller:
    def test_the_distillation_stops_when_told(self, tmp_path):
        hooks = [dict(type='StopDistillHook', stop_epoch=1)]
        runner = toys.runner(distiller(), tmp_path, epochs=2, hooks=hooks)
        runner.train()
        steps = len(runner.train_dataloader)
        history = runner.message_hub.log_scalars
        assert len(history['train/student.loss'].data[0]) == 2 * steps
        assert len(history['train/clean.loss_value'].data[0]) == steps

    def test_the_teacher_is_scored_beside_the_student(self, tmp_path):
        runner = toys.runner(distiller(), tmp_path, val_cfg=dict(type='SingleTeacherDistillValLoop'))
        runner.val()
        scores = {key: value.current() for key, value in runner.message_hub.log_scalars.items()}
        assert set(scores) >= {'val/accuracy/top1', 'val/teacher.accuracy/top1'}
        data = runner.val_dataloader.dataset
        labels = torch.cat([sample.gt_label for sample in data.samples])
        right = runner.model.teacher(data.inputs, mode='tensor').argmax(dim=1) == labels
        assert scores['val/teacher.accuracy/top1'] == pytest.approx(100 * right.float().mean().item())

    def test_the_resources_are_those_of_the_student_alone(self, tmp_path):
        one_image = dict(input_shape=(1, 3, toys.IMAGE_SIZE, toys.IMAGE_SIZE), units=None)
        hook = dict(type='EstimateResourcesHook', interval=1, estimator_cfg=dict(flops_params_cfg=one_image))
        runner = toys.runner(distiller(), tmp_path, hooks=[hook])
        runner.train()
        student = ResourceEstimator(flops_params_cfg=one_image).estimate(runner.model.architecture)
        assert student['params'] == sum(value.numel() for value in runner.model.parameters())
        log = next(tmp_path.glob('*/*.log')).read_text()
        assert f'Estimate model resources: {student}' in log
