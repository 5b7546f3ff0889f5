import pytest
import toys

from r2kd_mm.registry import MODELS


def test_a_student_that_is_not_pruned_by_group_fisher_is_refused(tmp_path):
    model = MODELS.build(
        dict(
            type='LogitDistiller',
            architecture=toys.classifier(),
            teacher=toys.classifier(),
            allow_untrained_teacher=True,
            losses=dict(loss_kd=dict(type='KLDivergenceLoss')),
        )
    )
    runner = toys.runner(model, tmp_path, hooks=[dict(type='GroupFisherHook')])
    with pytest.raises(ValueError, match='whose architecture is a GroupFisherAlgorithm, got a ImageClassifier'):
        runner.train()
