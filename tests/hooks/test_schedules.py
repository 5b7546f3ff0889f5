import pytest
import toys
from mmengine.hooks import Hook

from r2kd_mm.hooks import AugmentationScheduleHook, LossScheduleHook
from r2kd_mm.hooks.schedules import scheduled_scale


def distiller(**fields):
    return dict(
        dict(
            type='LogitDistiller',
            architecture=toys.classifier(),
            teacher=toys.classifier(),
            allow_untrained_teacher=True,
            augmentation=dict(type='Cutout', length=3),
            losses=dict(loss_kd=dict(type='KLDivergenceLoss'), loss_rank=dict(type='RankDistanceLoss')),
        ),
        **fields,
    )


class Record(Hook):
    """Keep the names of the terms of every iteration."""

    priority = 'LOWEST'

    def __init__(self):
        self.terms = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.terms.append({name for name in outputs if name != 'loss'})


@pytest.mark.parametrize(
    ('ramp', 'expected'),
    [
        (0, [0, 0, 2, 2, 2, 0, 0]),
        (1, [0, 0, 1, 2, 2, 0, 0]),
        (3, [0, 0, 0.5, 1, 1.5, 0, 0]),
    ],
)
def test_scale_waits_rises_in_equal_steps_and_stops(ramp, expected):
    assert [scheduled_scale(time, begin=2, end=5, scale=2, ramp=ramp) for time in range(7)] == expected


def test_scale_without_an_end_stays():
    assert scheduled_scale(10**9, begin=0, end=None, scale=1.0, ramp=0) == 1


CLEAN = {'student.loss', 'clean.loss_kd', 'clean.loss_rank'}
AUGMENTED = {'augmented.loss_kd', 'augmented.loss_rank'}


def test_the_augmented_view_acts_in_its_epochs_only(tmp_path):
    record = Record()
    hook = dict(type='AugmentationScheduleHook', begin=1, end=2)
    toys.runner(distiller(), tmp_path, epochs=3, batch_size=20, hooks=[hook, record]).train()
    assert record.terms == [CLEAN] * 2 + [CLEAN | AUGMENTED] * 2 + [CLEAN] * 2


def test_the_augmented_view_can_be_scheduled_by_iteration(tmp_path):
    record = Record()
    hook = dict(type='AugmentationScheduleHook', begin=3, by_epoch=False)
    toys.runner(distiller(), tmp_path, hooks=[hook, record]).train()
    assert record.terms == [CLEAN] * 3 + [CLEAN | AUGMENTED]


def test_each_loss_stops_by_its_name_and_after_the_last_the_teacher_rests(tmp_path):
    record = Record()
    hooks = [
        dict(type='LossScheduleHook', loss='loss_kd', end=1),
        dict(type='LossScheduleHook', loss='loss_rank', end=2),
    ]
    toys.runner(distiller(augmentation=None), tmp_path, epochs=3, batch_size=40, hooks=[*hooks, record]).train()
    assert record.terms == [CLEAN, CLEAN - {'clean.loss_kd'}, {'student.loss'}]


def test_mmrazors_own_hook_stops_the_distillation_too(tmp_path):
    record = Record()
    hook = dict(type='mmrazor.StopDistillHook', stop_epoch=1)
    toys.runner(distiller(), tmp_path, epochs=2, batch_size=40, hooks=[hook, record]).train()
    assert record.terms == [CLEAN | AUGMENTED, {'student.loss'}]


def test_a_resumed_run_goes_on_with_the_scheduled_scale(tmp_path):
    hook = dict(type='LossScheduleHook', loss='loss_kd', begin=1)
    first = toys.runner(distiller(), tmp_path, epochs=1, batch_size=40, hooks=[hook])
    first.train()
    record = Record()
    toys.runner(distiller(), tmp_path, epochs=2, batch_size=40, hooks=[hook, record], resume=True).train()
    assert record.terms == [CLEAN | AUGMENTED]


@pytest.mark.parametrize(
    ('hook', 'fields', 'message'),
    [
        (LossScheduleHook, dict(loss='loss_kd', begin=-1), 'begin and ramp must be >= 0, got begin=-1'),
        (LossScheduleHook, dict(loss='loss_kd', begin=3, end=3), 'end must come after begin, got begin=3 and end=3'),
        (AugmentationScheduleHook, dict(scale=0), 'scale must be > 0, got 0'),
    ],
)
def test_refuses_numbers_out_of_range(hook, fields, message):
    with pytest.raises(ValueError, match=message):
        hook(**fields)


@pytest.mark.parametrize(
    'hook', [dict(type='AugmentationScheduleHook', begin=1), dict(type='LossScheduleHook', loss='loss_kd', ramp=3)]
)
def test_refuses_to_count_the_epochs_of_training_by_iterations(tmp_path, hook):
    by_iteration = dict(by_epoch=False, max_iters=4)
    with pytest.raises(
        ValueError, match=f'{hook["type"]} counts epochs, and IterBasedTrainLoop has none; set by_epoch'
    ):
        toys.runner(distiller(), tmp_path / 'epochs', hooks=[hook], train_cfg=by_iteration).train()
    record = Record()
    counting = [dict(hook, by_epoch=False), record]
    toys.runner(distiller(), tmp_path / 'iterations', hooks=counting, train_cfg=by_iteration).train()
    assert len(record.terms) == 4


def test_refuses_a_loss_or_a_model_that_is_not_there(tmp_path):
    hook = dict(type='LossScheduleHook', loss='loss_value')
    with pytest.raises(ValueError, match=r"no distillation loss 'loss_value'; .* \['loss_kd', 'loss_rank'\]"):
        toys.runner(distiller(), tmp_path, hooks=[hook]).train()
    with pytest.raises(TypeError, match='LossScheduleHook works on a LogitDistiller .* trains a ImageClassifier'):
        toys.runner(toys.classifier(), tmp_path, hooks=[hook]).train()
