"""Training follows the learning-rate schedule of the config, from scratch and after a resume."""

import copy
import functools

import pytest
import toolbox
import torch
import toys
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.registry import PARAM_SCHEDULERS
from torch import nn

from r2kd_mm.checkpoint import load_checkpoint_file
from r2kd_mm.engine.schedule_length import check_length

LENGTH = 2  # iterations of an epoch
ITERATIVE = dict(by_epoch=True, convert_to_iter_based=True)


class Values(Hook):
    """The hyper-parameters that each iteration trains with."""

    def __init__(self):
        self.lr, self.groups = [], []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        group = runner.optim_wrapper.optimizer.param_groups[0]
        self.lr.append(group['lr'])
        self.groups.append({name: value for name, value in group.items() if name != 'params'})


def sgd(**fields):
    return dict(optimizer=dict(dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=0.0), **fields))


def run(work_dir, scheduler=None, epochs=4, allow_changes=False, hooks=(), loop='ResumableTrainLoop', **fields):
    """Train, and return the values of each iteration and the log; ``resume=PATH`` resumes from a checkpoint."""
    values, loop = Values(), dict(type=loop, max_epochs=epochs)
    fields = dict(dict(optim_wrapper=sgd(), param_scheduler=scheduler), **fields)
    path = fields.pop('resume', None)
    wrapper = {name: value for name, value in fields['optim_wrapper'].items() if name != 'type'}
    stated = dict(optim_wrapper=wrapper, param_scheduler=scheduler, train_cfg=loop)
    cfg = Config(copy.deepcopy({name: value for name, value in stated.items() if value is not None}))
    record = dict(type='RunRecordHook', allow_changes=allow_changes)
    runner = toys.runner(
        toys.classifier(),
        work_dir,
        train_data=toys.Images(40),
        batch_size=40 // LENGTH,
        hooks=[record, values, *hooks],
        train_cfg=loop,
        cfg=cfg,
        val_dataloader=None,
        val_cfg=None,
        val_evaluator=None,
        default_hooks=dict(checkpoint=dict(type='SafeCheckpointHook', interval=1)),
        **(dict(resume=True, load_from=str(path)) if path else {}),
        **fields,
    )
    runner.train()
    return values, max(work_dir.glob('*/*.log')).read_text()


class ScaledOptimWrapper(OptimWrapper):
    """Use a gradient scaler on the CPU as MMEngine's AmpOptimWrapper does."""

    def __init__(self, growth_interval, **fields):
        super().__init__(**fields)
        self.loss_scaler = torch.amp.GradScaler('cpu', init_scale=8.0, growth_interval=growth_interval)

    def backward(self, loss, **kwargs):
        self.loss_scaler.scale(loss).backward(**kwargs)
        self._inner_count += 1

    def step(self, **kwargs):
        self.loss_scaler.step(self.optimizer, **kwargs)
        self.loss_scaler.update()

    def state_dict(self):
        return dict(super().state_dict(), loss_scaler=self.loss_scaler.state_dict())

    def load_state_dict(self, state_dict):
        self.loss_scaler.load_state_dict(state_dict.pop('loss_scaler'))
        super().load_state_dict(state_dict)


COSINE = dict(type='CosineAnnealingLR', **ITERATIVE)  # T_max is the length of the run
RESTARTS = dict(type='CosineRestartLR', restart_weights=[1, 1], eta_min=0.0)
WARM_UP = dict(type='LinearLR', start_factor=0.1, begin=0, end=1, **ITERATIVE)
STRETCHED = {
    'cosine by iteration': COSINE,
    'cosine by epoch': dict(type='CosineAnnealingLR'),
    'polynomial': dict(type='PolyLR', power=2.0, **ITERATIVE),
    'linear': dict(type='LinearLR', start_factor=1.0, end_factor=0.0),
    'one cycle': dict(type='OneCycleLR', eta_max=0.2, **ITERATIVE),
    'warm-up, then cosine': [WARM_UP, dict(type='CosineAnnealingLR', begin=1)],
    'momentum too': [COSINE, dict(type='CosineAnnealingMomentum', eta_min=0.5)],
}


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """Train the given number of epochs without an interruption, once per schedule."""

    @functools.cache
    def train(name, epochs):
        work_dir = tmp_path_factory.mktemp('whole')
        return work_dir, run(work_dir, copy.deepcopy(SCHEDULES[name]), epochs)[0]

    return train


KEPT = {
    'steps': dict(type='MultiStepLR', milestones=[1, 3]),
    'warm-up': WARM_UP,
    'longer than the run': dict(type='CosineAnnealingLR', T_max=4, **ITERATIVE),
    'longer than the run, by epoch': dict(type='CosineAnnealingLR', T_max=4),
    'none': None,
}
SCHEDULES = STRETCHED | KEPT


class TestLongerRuns:
    @pytest.mark.parametrize('name', toolbox.quick_first(STRETCHED))
    def test_are_refused_where_that_changes_the_schedule(self, whole, tmp_path, name):
        work_dir, _ = whole(name, 2)
        with pytest.raises(ValueError, match=r'the schedule of the resumed run differs .* by --allow-changes'):
            run(tmp_path, copy.deepcopy(SCHEDULES[name]), 4, resume=work_dir / 'epoch_2.pth')

    @pytest.mark.parametrize('name', toolbox.quick_first(STRETCHED))
    def test_follow_the_stretched_schedule_where_that_is_allowed(self, whole, tmp_path, name):
        work_dir, _ = whole(name, 2)
        values, log = run(
            tmp_path, copy.deepcopy(SCHEDULES[name]), 4, allow_changes=True, resume=work_dir / 'epoch_2.pth'
        )
        expected = whole(name, 4)[1]
        assert values.lr == expected.lr[2 * LENGTH :]
        assert [group['momentum'] for group in values.groups] == [
            group['momentum'] for group in expected.groups[2 * LENGTH :]
        ]
        assert f'lr {values.lr[0]:.3g}' in log.split('follows the schedule of its config: ')[1]
        assert f'lr {values.lr[LENGTH]:.3g}' in log

    @pytest.mark.parametrize('name', toolbox.quick_first(KEPT))
    def test_end_as_if_they_had_been_as_long_from_the_start(self, whole, tmp_path, name):
        """The last step of a run has no successor, whose rate the checkpoint therefore lacks."""
        work_dir, _ = whole(name, 2)
        values, _ = run(tmp_path, copy.deepcopy(SCHEDULES[name]), 4, resume=work_dir / 'epoch_2.pth')
        expected_dir, expected = whole(name, 4)
        assert values.lr == expected.lr[2 * LENGTH :]
        ends = [load_checkpoint_file(folder / 'epoch_4.pth')['state_dict'] for folder in (tmp_path, expected_dir)]
        assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[1])

    @pytest.mark.slow
    def test_what_is_resumed_as_it_was_stays_bit_by_bit(self, whole, tmp_path):
        work_dir, expected = whole('warm-up, then cosine', 4)
        values, log = run(
            tmp_path,
            copy.deepcopy(SCHEDULES['warm-up, then cosine']),
            4,
            allow_changes=True,
            resume=work_dir / 'epoch_1.pth',
        )
        assert values.groups == expected.groups[LENGTH:]
        assert 'follows the schedule' not in log

    @pytest.mark.slow
    def test_one_by_mmengines_own_loop_is_stretched_as_well(self, whole, tmp_path):
        fields = dict(scheduler=COSINE, loop='EpochBasedTrainLoop')
        run(tmp_path / 'first', epochs=2, **fields)
        fields['resume'] = tmp_path / 'first' / 'epoch_2.pth'
        with pytest.raises(ValueError, match='the schedule of the resumed run differs from that of its checkpoint'):
            run(tmp_path / 'refused', **fields)
        values, _ = run(tmp_path / 'allowed', **fields, allow_changes=True)
        assert values.lr == whole('cosine by iteration', 4)[1].lr[2 * LENGTH :]


class TestOtherSettings:
    @pytest.mark.parametrize(
        ('fields', 'name', 'value'),
        toolbox.quick_first(
            [
                (dict(optim_wrapper=sgd(lr=0.02)), 'lr', 0.01),  # half of the cosine is over
                (dict(optim_wrapper=sgd(momentum=0.5)), 'momentum', 0.5),
                (dict(optim_wrapper=sgd(weight_decay=0.01)), 'weight_decay', 0.01),
                (dict(optim_wrapper=sgd(nesterov=True)), 'nesterov', True),
                (dict(scheduler=dict(COSINE, T_max=8, end=8)), 'lr', 0.1 * (1 + 2**-0.5) / 2),
                (dict(scheduler=dict(COSINE, eta_min=0.05)), 'lr', 0.075),
                (dict(scheduler=dict(type='MultiStepLR', milestones=[1, 2])), 'lr', 0.1 * 0.1**2),
            ]
        ),
    )
    def test_are_refused_or_in_force(self, whole, tmp_path, fields, name, value):
        work_dir, _ = whole('cosine by iteration', 4)
        fields = dict(dict(scheduler=COSINE, resume=work_dir / 'epoch_2.pth'), **fields)
        with pytest.raises(ValueError, match='by --allow-changes'):
            run(tmp_path / 'refused', **fields)
        values, _ = run(tmp_path / 'allowed', **fields, allow_changes=True)
        assert values.groups[0][name] == pytest.approx(value, rel=1e-6)
        saved = load_checkpoint_file(tmp_path / 'allowed' / 'epoch_3.pth')
        assert saved['optimizer']['param_groups'][0][name] == values.groups[LENGTH][name]

    @pytest.mark.slow
    def test_without_a_schedule_too(self, whole, tmp_path):
        work_dir, _ = whole('none', 2)
        values, log = run(
            tmp_path, None, 4, optim_wrapper=sgd(lr=0.02), resume=work_dir / 'epoch_2.pth', allow_changes=True
        )
        assert values.lr == [0.02] * 2 * LENGTH
        assert 'lr: 0.1 -> 0.02' in log

    @pytest.mark.slow
    def test_of_a_fused_optimizer_are_in_force_with_its_state(self, tmp_path):
        adam = dict(type='Adam', lr=0.01)
        run(tmp_path / 'first', None, 1, optim_wrapper=dict(optimizer=adam))
        fields = dict(optim_wrapper=dict(optimizer=dict(adam, fused=True)), resume=tmp_path / 'first' / 'epoch_1.pth')
        values, _ = run(tmp_path / 'second', None, 2, allow_changes=True, **fields)
        assert values.groups[0]['fused'] is True
        state = load_checkpoint_file(tmp_path / 'second' / 'epoch_2.pth')['optimizer']['state'][0]
        assert state['step'] == 2 * LENGTH

    @pytest.mark.slow
    def test_of_a_gradient_scaler_are_in_force_with_its_scale(self, tmp_path):
        def wrapper(growth_interval):
            return dict(sgd(), type=ScaledOptimWrapper, growth_interval=growth_interval)

        run(tmp_path / 'first', None, 1, optim_wrapper=wrapper(1))  # doubled in both iterations
        fields = dict(optim_wrapper=wrapper(100), resume=tmp_path / 'first' / 'epoch_1.pth')
        run(tmp_path / 'second', None, 2, allow_changes=True, **fields)
        scaler = load_checkpoint_file(tmp_path / 'second' / 'epoch_2.pth')['optimizer']['loss_scaler']
        assert (scaler['growth_interval'], scaler['scale']) == (100, 32.0)

    @pytest.mark.slow
    def test_of_a_schedule_by_scores_cannot_be_worked_out(self, tmp_path):
        plateau = dict(type='ReduceOnPlateauLR', monitor='accuracy/top1', rule='greater', patience=1)
        run(tmp_path / 'first', plateau, 1)
        resume = tmp_path / 'first' / 'epoch_1.pth'
        run(tmp_path / 'longer', plateau, 2, resume=resume)
        for scheduler, optimizer in ((dict(plateau, patience=3), sgd()), (plateau, sgd(weight_decay=0.1))):
            with pytest.raises(ValueError, match='a schedule by validation scores .* cannot be worked out again'):
                run(tmp_path / 'other', scheduler, 2, optim_wrapper=optimizer, resume=resume, allow_changes=True)


class TestWhatTheCheckpointLacks:
    def test_the_state_of_the_optimizer_is_not_made_up(self, tmp_path):
        hooks = dict(default_hooks=dict(checkpoint=dict(type='SafeCheckpointHook', save_optimizer=False)))
        toys.runner(toys.classifier(), tmp_path / 'first', **hooks).train()
        with pytest.raises(ValueError, match='the checkpoint has no state of the optimizer'):
            run(tmp_path / 'second', resume=tmp_path / 'first' / 'epoch_1.pth')

    @pytest.mark.parametrize('name', toolbox.quick_first(['warm-up, then cosine', 'one cycle', 'steps']))
    def test_the_state_of_the_schedulers_is_worked_out(self, whole, tmp_path, name):
        work_dir, expected = whole(name, 4)
        checkpoint = load_checkpoint_file(work_dir / 'epoch_2.pth')
        del checkpoint['param_schedulers']
        torch.save(checkpoint, tmp_path / 'without.pth')
        values, _ = run(tmp_path / 'second', copy.deepcopy(SCHEDULES[name]), 4, resume=tmp_path / 'without.pth')
        assert values.lr == expected.lr[2 * LENGTH :]


# --------------------------------------------------------------------------------------------- the length of a run
def built(*configs, max_epochs, length=LENGTH):
    """The schedulers as the Runner builds them: those without an end stop with the run."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    return [
        PARAM_SCHEDULERS.build(
            dict(dict(end=max_epochs if config.get('by_epoch', True) else max_epochs * length), **config),
            default_args=dict(optimizer=optimizer, epoch_length=length),
        )
        for config in configs
    ]


@pytest.mark.parametrize(
    ('schedulers', 'message'),
    [
        (
            [dict(type='CosineAnnealingLR', T_max=6)],
            r'at its minimum after epoch 6 \(T_max=6\), and lr would rise again',
        ),
        ([dict(COSINE, T_max=6)], r'at its minimum after epoch 6 \(T_max=6\), and lr would rise again until epoch 12'),
        ([WARM_UP, dict(COSINE, T_max=5, begin=1)], r'at its minimum after epoch 6 \(T_max=5\)'),
        ([dict(COSINE, T_max=6, end=6)], 'brings lr down to 0 after epoch 6, and the run continues until epoch 12'),
        ([WARM_UP, dict(COSINE, begin=1, end=6)], 'brings lr down to 0 after epoch 6'),
        ([dict(type='PolyLR', end=6)], 'PolyLR brings lr down to 0 after epoch 6'),
        ([dict(type='LinearLR', end_factor=0.0, end=6)], 'LinearLR brings lr down to 0 after epoch 6'),
        (
            [dict(type='CosineRestartLR', periods=[2, 4], restart_weights=[1, 1], eta_min=0.0)],
            'down to 0 after epoch 6',
        ),
        ([dict(type='OneCycleLR', eta_max=0.1, total_steps=6)], r'ends after epoch 6 \(total_steps=6\)'),
        ([dict(type='OneCycleLR', eta_max=0.1, end=6)], 'brings lr down to 0 after epoch 6'),
        ([dict(type='CosineAnnealingMomentum', T_max=6)], 'and momentum would rise again'),
    ],
)
def test_a_run_beyond_its_schedule_is_refused(schedulers, message):
    with pytest.raises(ValueError, match=message):
        check_length(built(*schedulers, max_epochs=12), 12, LENGTH)
    shorter = [scheduler for scheduler in schedulers if scheduler.get('end', 6) <= 6]
    check_length(built(*shorter, max_epochs=6), 6, LENGTH)


@pytest.mark.parametrize(
    'schedulers',
    [
        [],
        [dict(type='MultiStepLR', milestones=[2, 4])],
        [dict(type='MultiStepLR', milestones=[2, 4], end=5)],
        [dict(type='StepLR', step_size=2)],
        [dict(type='ExponentialLR', gamma=0.9, end=6)],
        [dict(type='ConstantLR', end=3)],
        [WARM_UP],
        [dict(type='LinearLR', end_factor=0.1, end=6)],
        [COSINE],
        [dict(COSINE, T_max=11)],  # at its minimum in the last epoch
        [dict(type='CosineAnnealingLR', T_max=11)],
        [dict(COSINE, T_max=20)],
        [dict(COSINE, T_max=20, end=6)],  # stays where it is
        [dict(COSINE, T_max=6, end=6, eta_min=0.001)],  # constant after it
        [dict(COSINE, T_max=6, end=6, eta_min_ratio=0.1)],
        [dict(COSINE, T_max=6, end=6), dict(type='ConstantLR', begin=6, factor=1.0)],
        [dict(type='PolyLR', end=6, eta_min=0.01)],
        [dict(RESTARTS, periods=[6, 6])],
        [dict(type='OneCycleLR', eta_max=0.1, total_steps=20)],
        [dict(type='ReduceOnPlateauLR', monitor='loss', rule='less')],
    ],
)
def test_a_run_that_fits_its_schedule_or_outlives_it_on_purpose_is_not_refused(schedulers):
    check_length(built(*schedulers, max_epochs=12), 12, LENGTH)


@pytest.mark.parametrize('path', sorted((toolbox.ROOT / 'configs/_base_/schedules').glob('*.py')), ids=lambda p: p.stem)
def test_the_shipped_schedules_fit(path):
    cfg = Config.fromfile(path)
    epochs = cfg.train_cfg.max_epochs
    schedulers = [scheduler.to_dict() for scheduler in cfg.param_scheduler]
    check_length(built(*schedulers, max_epochs=epochs), epochs, LENGTH)
    if any('T_max' in scheduler for scheduler in schedulers):  # that of own_data follows max_epochs
        with pytest.raises(ValueError, match=f'after epoch {epochs}'):
            check_length(built(*schedulers, max_epochs=2 * epochs), 2 * epochs, LENGTH)


def test_a_run_beyond_its_schedule_is_refused_before_the_first_step(tmp_path):
    with pytest.raises(ValueError, match='lr would rise again until epoch 4: end the run there'):
        run(tmp_path, dict(COSINE, T_max=2))
    assert not list(tmp_path.glob('*.pth'))


def test_training_by_iterations_is_checked_by_iterations(tmp_path):
    loop = dict(train_cfg=dict(type='IterBasedTrainLoop', max_iters=4), hooks=[dict(type='RunRecordHook')])
    with pytest.raises(ValueError, match='MultiStepLR counts epochs, and IterBasedTrainLoop has none'):
        toys.runner(
            toys.classifier(), tmp_path, param_scheduler=dict(type='MultiStepLR', milestones=[2]), **loop
        ).train()
    with pytest.raises(ValueError, match='lr would rise again until iter 4'):
        toys.runner(
            toys.classifier(),
            tmp_path,
            param_scheduler=dict(type='CosineAnnealingLR', T_max=2, by_epoch=False),
            **loop,
        ).train()


def test_a_run_that_only_validates_has_no_schedule(tmp_path):
    fields = dict(param_scheduler=dict(COSINE, T_max=2), train_cfg=dict(type='ResumableTrainLoop', max_epochs=4))
    metrics = toys.runner(toys.classifier(), tmp_path, hooks=[dict(type='RunRecordHook')], **fields).val()
    assert 0 <= metrics['accuracy/top1'] <= 100


@pytest.mark.slow
def test_training_by_iterations_is_stretched_by_iterations(tmp_path):
    cosine = dict(type='CosineAnnealingLR', by_epoch=False)

    def train(name, max_iters, **fields):
        values = Values()
        toys.runner(
            toys.classifier(),
            tmp_path / name,
            hooks=[dict(type='RunRecordHook', allow_changes=True), values],
            param_scheduler=cosine,
            train_cfg=dict(type='IterBasedTrainLoop', max_iters=max_iters),
            optim_wrapper=sgd(),
            default_hooks=dict(checkpoint=dict(type='SafeCheckpointHook', by_epoch=False, interval=2)),
            **fields,
        ).train()
        return values.lr

    whole = train('whole', 8)
    train('first', 4)
    assert train('second', 8, load_from=str(tmp_path / 'first' / 'iter_4.pth'), resume=True) == whole[4:]
    log = next(tmp_path.glob('second/*/*.log')).read_text()
    assert 'From here on lr 0.05 in iter 5, ' in log
