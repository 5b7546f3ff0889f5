from types import SimpleNamespace

import pytest
import torch
import toys
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from ranks import run_on_ranks

from r2kd_mm.engine.cli import RunStopped
from r2kd_mm.hooks import FiniteCheckHook

DISTILLER = dict(
    type='LogitDistiller',
    architecture=toys.classifier(),
    teacher=toys.classifier(),
    allow_untrained_teacher=True,
    augmentation=dict(type='Cutout', length=3),
    losses=dict(loss_kd=dict(type='KLDivergenceLoss')),
)
HOOK = dict(type='FiniteCheckHook')


class BrokenImages(toys.Images):
    """One image is NaN from the third batch of 10 on."""

    def __getitem__(self, index):
        item = super().__getitem__(index)
        if index == 25:
            item['inputs'] = torch.full_like(item['inputs'], torch.nan)
        return item


def in_order(dataset):
    return dict(dataset=dataset, batch_size=10, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False))


def test_stops_with_the_state_before_the_step(tmp_path):
    runner = toys.runner(DISTILLER, tmp_path / 'broken', hooks=[HOOK], train_dataloader=in_order(BrokenImages()))
    with pytest.raises(RunStopped, match='the gradient of iteration 3 is not finite') as error:
        runner.train()
    for logits in ('student logits of the clean', 'teacher logits of the clean', 'student logits of the augmented'):
        assert logits in str(error.value)

    saved = torch.load(tmp_path / 'broken' / 'before_non_finite_iter_3.pth', weights_only=False)['state_dict']
    assert all(value.isfinite().all() for value in saved.values())
    two_steps = toys.runner(
        DISTILLER, tmp_path / 'whole', train_dataloader=in_order(torch.utils.data.Subset(toys.Images(), range(20)))
    )
    two_steps.train()
    for name, value in two_steps.model.state_dict().items():
        assert torch.equal(saved[name], value), name


def test_stops_with_the_batch_for_inspection(tmp_path):
    runner = toys.runner(DISTILLER, tmp_path, hooks=[HOOK], train_dataloader=in_order(BrokenImages()))
    with pytest.raises(RunStopped, match='its batch in .*non_finite_iter_3_batch_rank_0.pth'):
        runner.train()
    batch = torch.load(tmp_path / 'non_finite_iter_3_batch_rank_0.pth')
    dataset = BrokenImages()
    assert len(batch['inputs']) == 10
    assert batch['labels'] == [dataset[index]['data_samples'].gt_label.tolist() for index in range(20, 30)]
    bad = [bool(image.isnan().any()) for image in batch['inputs']]
    assert bad == [index == 25 for index in range(20, 30)]
    rows = batch['logits']['clean.teacher'].isfinite().all(dim=1)
    assert rows.tolist() == [not is_bad for is_bad in bad]


def test_skips_the_step_and_counts_it(tmp_path):
    skipping = dict(HOOK, action='skip')
    runner = toys.runner(DISTILLER, tmp_path / 'broken', hooks=[skipping], train_dataloader=in_order(BrokenImages()))
    runner.train()
    assert runner.message_hub.get_info('skipped_steps') == 1
    assert all(value.isfinite().all() for value in runner.model.state_dict().values())
    log = next(tmp_path.glob('broken/*/*.log')).read_text()
    assert 'the gradient of iteration 3 is not finite' in log
    assert 'this step is left out, the 1st in this run' in log


def test_a_skipped_step_changes_nothing(tmp_path):
    """Neither weights nor momentum nor statistics: the run goes on like one that never saw the batch."""
    plain = {name: value for name, value in DISTILLER.items() if name != 'augmentation'}
    rest = [index for index in range(40) if not 20 <= index < 30]
    runs = []
    for name, dataset in (('broken', BrokenImages()), ('whole', torch.utils.data.Subset(toys.Images(), rest))):
        runner = toys.runner(
            plain, tmp_path / name, hooks=[dict(HOOK, action='skip')], train_dataloader=in_order(dataset)
        )
        runner.train()
        runs.append(runner)
    for first, second in zip(*(run.optim_wrapper.state_dict()['state'].values() for run in runs)):
        assert torch.equal(first['momentum_buffer'], second['momentum_buffer'])
    for name, value in runs[0].model.state_dict().items():
        assert torch.equal(value, runs[1].model.state_dict()[name]), name


def test_too_many_skips_in_a_row_stop_the_run(tmp_path):
    runner = toys.runner(DISTILLER, tmp_path, hooks=[dict(HOOK, action='skip', max_skips=2)], epochs=2)
    with torch.no_grad():
        runner.model.teacher.backbone.conv1.weight.fill_(torch.inf)
    with pytest.raises(RunStopped, match='the gradient of iteration 3 .* after 2 skipped steps in a row'):
        runner.train()
    assert runner.message_hub.get_info('skipped_steps') == 2


class TestAccumulation:
    """Two iterations a step; the image that is NaN is in the first of the second step."""

    OPTIM_WRAPPER = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.05, momentum=0.9), accumulative_counts=2)

    def run(self, folder, action):
        return toys.runner(
            DISTILLER,
            folder,
            hooks=[dict(HOOK, action=action)],
            train_dataloader=in_order(BrokenImages()),
            optim_wrapper=self.OPTIM_WRAPPER,
        )

    def test_stops_with_the_state_before_the_first_iteration_of_the_step(self, tmp_path):
        with pytest.raises(
            RunStopped, match='the gradient of iterations 3 to 4 is not .*clean images in iteration 3 and'
        ) as error:
            self.run(tmp_path / 'broken', 'stop').train()
        assert 'in iteration 4' not in str(error.value)
        saved = torch.load(tmp_path / 'broken' / 'before_non_finite_iter_3.pth', weights_only=False)
        assert saved['meta']['iter'] == 2
        whole = toys.runner(
            DISTILLER,
            tmp_path / 'whole',
            train_dataloader=in_order(torch.utils.data.Subset(toys.Images(), range(20))),
            optim_wrapper=self.OPTIM_WRAPPER,
        )
        whole.train()
        for name, value in whole.model.state_dict().items():
            assert torch.equal(saved['state_dict'][name], value), name

    def test_saves_the_batch_that_went_wrong_and_no_other(self, tmp_path):
        with pytest.raises(RunStopped):
            self.run(tmp_path, 'stop').train()
        (path,) = tmp_path.glob('*_batch_rank_0.pth')
        assert path.name == 'non_finite_iter_3_batch_rank_0.pth'
        batch = torch.load(path)
        assert any(image.isnan().any() for image in batch['inputs'])
        assert batch['logits']['clean.student'].isnan().any()

    def test_saves_all_batches_of_the_step_where_every_logit_is_finite(self, tmp_path):
        class Spoilt(Hook):
            def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
                if runner.iter == 2:
                    next(runner.model.parameters()).grad.fill_(torch.inf)

        runner = toys.runner(DISTILLER, tmp_path, hooks=[HOOK], optim_wrapper=self.OPTIM_WRAPPER)
        runner.register_hook(Spoilt())
        with pytest.raises(RunStopped, match='iterations 3 to 4 is not finite, though all logits are.'):
            runner.train()
        assert sorted(path.name for path in tmp_path.glob('*_batch_*')) == [
            'non_finite_iter_3_batch_rank_0.pth',
            'non_finite_iter_4_batch_rank_0.pth',
        ]

    def test_a_skipped_step_leaves_the_statistics_as_they_were(self, tmp_path):
        runner = self.run(tmp_path, 'skip')
        runner.train()
        assert runner.message_hub.get_info('skipped_steps') == 1
        assert all(value.isfinite().all() for value in runner.model.state_dict().values())


class TestGradientScaler:
    """The scaler of AmpOptimWrapper, which itself asserts a GPU, around a forward pass in float32."""

    def run(self, folder, **fields):
        return toys.runner(
            DISTILLER,
            folder,
            hooks=[dict(HOOK, **fields.pop('hook', {}))],
            optim_wrapper=dict(
                type=ScaledOptimWrapper, optimizer=dict(type='SGD', lr=0.05), **fields.pop('wrapper', {})
            ),
            **fields,
        )

    def test_stops_where_the_scaler_would_go_on_with_spoilt_statistics(self, tmp_path):
        with pytest.raises(RunStopped, match='the gradient of iteration 3 is not finite; nor are the student logits'):
            self.run(tmp_path, train_dataloader=in_order(BrokenImages())).train()
        saved = torch.load(tmp_path / 'before_non_finite_iter_3.pth', weights_only=False)['state_dict']
        assert all(value.isfinite().all() for value in saved.values())

    def test_skips_and_counts(self, tmp_path):
        runner = self.run(tmp_path, hook=dict(action='skip'), train_dataloader=in_order(BrokenImages()))
        runner.train()
        assert runner.message_hub.get_info('skipped_steps') == 1
        assert all(value.isfinite().all() for value in runner.model.state_dict().values())

    def test_leaves_a_scale_that_is_too_high_to_the_scaler(self, tmp_path):
        runner = self.run(tmp_path)
        runner.register_hook(OverflowAbove(4))
        runner.train()
        assert runner.optim_wrapper.scaler.get_scale() == 4
        assert 'skipped_steps' not in runner.message_hub.runtime_info

    def test_stops_where_no_scale_helps(self, tmp_path):
        runner = self.run(tmp_path, hook=dict(max_skips=2))
        runner.register_hook(OverflowAbove(0))
        with pytest.raises(RunStopped, match='iteration 3 is not finite, though all logits are after 2 skipped steps'):
            runner.train()


class OverflowAbove(Hook):
    """Let a gradient be infinite while the scale of the loss is above ``limit``."""

    def __init__(self, limit):
        self.limit = limit

    def before_train(self, runner):
        scaler = runner.optim_wrapper.scaler
        next(runner.model.parameters()).register_hook(
            lambda gradient: torch.full_like(gradient, torch.inf) if scaler.get_scale() > self.limit else gradient
        )


class ScaledOptimWrapper(OptimWrapper):
    """What MMEngine's AmpOptimWrapper does with its scaler, on the CPU."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.scaler = torch.amp.GradScaler('cpu', init_scale=8.0)

    def backward(self, loss, **kwargs):
        self.scaler.scale(loss).backward(**kwargs)
        self._inner_count += 1

    def step(self, **kwargs):
        self.scaler.step(self.optimizer, **kwargs)
        self.scaler.update()


@pytest.mark.parametrize(
    ('fields', 'message'),
    [(dict(action='ignore'), r"one of \('stop', 'skip'\), got 'ignore'"), (dict(max_skips=0), 'at least 1, got 0')],
    ids=str,
)
def test_a_slip_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        FiniteCheckHook(**fields)


def test_names_the_network_that_went_wrong(tmp_path):
    runner = toys.runner(DISTILLER, tmp_path, hooks=[HOOK])
    with torch.no_grad():
        runner.model.teacher.backbone.conv1.weight.fill_(torch.inf)
    with pytest.raises(
        RunStopped,
        match='nor are the teacher logits of the clean images and the teacher logits of '
        'the augmented images. The state',
    ):
        runner.train()


def test_leaves_a_healthy_run_as_it_is(tmp_path):
    states = []
    for name, hooks in (('with', [HOOK]), ('without', [])):
        runner = toys.runner(DISTILLER, tmp_path / name, hooks=hooks)
        runner.train()
        states.append(runner.model.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def times_left_out():
    """How often a process leaves a step out where only the second one has logits that are not finite."""
    hook, left_out = FiniteCheckHook('skip'), []
    hook._buffers = []
    hook._iteration = lambda runner: SimpleNamespace(culprits=['a'] if get_rank() == 1 else [])
    hook._leave_out = lambda runner, iterations: left_out.append(iterations)
    hook._check_without_step(None)
    return len(left_out)


def test_all_processes_agree_on_why_a_scaler_left_a_step_out():
    assert run_on_ranks(2, times_left_out) == [1, 1]
