from types import SimpleNamespace

import pytest
import torch
import toys
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.utils import digit_version
from ranks import run_on_ranks

from r2kd_mm.engine.cli import RunStopped
from r2kd_mm.hooks import FiniteCheckHook
from r2kd_mm.hooks.step_faults import Iteration

DISTILLER = dict(
    type='LogitDistiller',
    architecture=toys.classifier(),
    teacher=toys.classifier(),
    allow_untrained_teacher=True,
    augmentation=dict(type='Cutout', length=3),
    losses=dict(loss_kd=dict(type='KLDivergenceLoss')),
)
HOOK = dict(type='FiniteCheckHook')
FUSED = pytest.mark.skipif(digit_version(torch.__version__) < digit_version('2.5'), reason='no fused SGD on the CPU')


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

    @pytest.fixture(params=[False, pytest.param(True, marks=FUSED)], ids=['plain', 'fused'], autouse=True)
    def _optimizer(self, request):
        self.optimizer = dict(type='SGD', lr=0.05, momentum=0.9, **(dict(fused=True) if request.param else {}))

    def run(self, folder, **fields):
        return toys.runner(
            DISTILLER,
            folder,
            hooks=[dict(HOOK, **fields.pop('hook', {}))],
            optim_wrapper=dict(type=ScaledOptimWrapper, optimizer=self.optimizer, **fields.pop('wrapper', {})),
            **fields,
        )

    def test_stops_where_the_scaler_would_continue_with_bad_statistics(self, tmp_path):
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


@FUSED
def test_a_fused_optimizer_leaves_out_the_same_steps(tmp_path):
    weights = []
    for name, fused in (('plain', {}), ('fused', dict(fused=True))):
        optimizer = dict(type='SGD', lr=0.05, momentum=0.9, **fused)
        wrapper = dict(type=ScaledOptimWrapper, optimizer=optimizer)
        runner = toys.runner(DISTILLER, tmp_path / name, hooks=[HOOK], optim_wrapper=wrapper)
        runner.register_hook(OverflowAbove(2))  # the first two of four steps
        runner.train()
        weights.append(runner.model.state_dict())
    torch.testing.assert_close(*weights)


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
    """Use a gradient scaler on the CPU as MMEngine's AmpOptimWrapper does."""

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
def test_a_wrong_argument_is_refused(fields, message):
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


class InfiniteLoss(torch.nn.Module):
    """Infinite from the third step on, with the gradient of a finite loss."""

    steps = 0

    def forward(self, student_logits, teacher_logits):
        self.steps += 1
        return (student_logits - teacher_logits).square().mean() + (torch.inf if self.steps >= 3 else 0.0)


def plain(loss):
    return dict({name: value for name, value in DISTILLER.items() if name != 'augmentation'}, losses=dict(loss_kd=loss))


def test_an_infinite_loss_with_a_finite_gradient_stops_the_run_by_its_name(tmp_path):
    runner = toys.runner(plain(InfiniteLoss()), tmp_path, hooks=[HOOK])
    with pytest.raises(RunStopped, match='the loss clean.loss_kd of iteration 3 is not finite, though all logits are'):
        runner.train()
    saved = torch.load(tmp_path / 'before_non_finite_iter_3.pth', weights_only=False)
    assert saved['meta']['iter'] == 2


def test_logits_of_minus_infinity_stop_the_run_only_where_one_side_has_them(tmp_path):
    def mask(_module, _inputs, logits):
        """Make the first class one that cannot be."""
        return torch.cat([torch.full_like(logits[:, :1], -torch.inf), logits[:, 1:]], dim=1)

    def run(*networks):
        runner = toys.runner(plain(dict(type='KLDivergenceLoss')), tmp_path, hooks=[HOOK])
        for network in networks:
            getattr(runner.model, network).head.register_forward_hook(mask)
        for sample in runner.train_dataloader.dataset.samples:
            sample.set_gt_label(1)  # the student's own loss of the class that cannot be would be infinite as well
        runner.train()
        return runner

    both = run('architecture', 'teacher')
    assert both.iter == 4
    assert all(parameter.isfinite().all() for parameter in both.model.parameters())
    assert run('teacher').iter == 4  # 0 * log 0 is 0
    with pytest.raises(
        RunStopped, match='the loss clean.loss_kd of iteration 1 is not finite; nor are the student logi'
    ):
        run('architecture')


class TestBuffers:
    """Buffers that go wrong in the third step, while loss and gradient stay finite."""

    def run(self, folder, spoil, action='stop'):
        runner = toys.runner(plain(dict(type='KLDivergenceLoss')), folder, hooks=[dict(HOOK, action=action)])
        head = runner.model.architecture.head
        head.register_buffer('mask', torch.tensor([0.0, -torch.inf]))
        head.register_buffer('mean', torch.zeros(2))
        head.register_buffer('later', None)
        steps = []

        def forward_hook(module, _inputs, _output):
            if module.training:
                steps.append(len(steps) + 1)
                module.mean = module.mean + 1  # another tensor in each step
                if len(steps) == 3:
                    spoil(module)

        head.register_forward_hook(forward_hook)
        return runner

    @pytest.mark.parametrize('name', ['mean', 'later'])
    def test_a_buffer_that_becomes_nan_stops_the_run_by_its_name(self, tmp_path, name):
        runner = self.run(tmp_path, lambda head: setattr(head, name, torch.full((2,), torch.nan)))
        message = f'the buffer architecture.head.{name} of iteration 3 is not finite, though all logits are'
        with pytest.raises(RunStopped, match=message):
            runner.train()
        assert runner.model.architecture.head.mean.tolist() == [2, 2]
        assert runner.model.architecture.head.later is None

    def test_statistics_that_overflow_stop_the_run(self, tmp_path):
        runner = self.run(tmp_path, lambda head: head.mean.fill_(torch.inf))
        with pytest.raises(RunStopped, match='the buffer architecture.head.mean of iteration 3 is not finite'):
            runner.train()

    def test_a_skipped_step_puts_back_what_it_replaced_and_takes_away_what_it_made(self, tmp_path):
        def spoil(head):
            head.later = torch.full((2,), torch.nan)

        runner = self.run(tmp_path, spoil, 'skip')
        runner.train()
        head = runner.model.architecture.head
        assert runner.message_hub.get_info('skipped_steps') == 1
        assert head.mean.tolist() == [3, 3]
        assert head.later is None

    def test_a_mask_made_in_a_step_passes(self, tmp_path):
        runner = self.run(tmp_path, lambda head: setattr(head, 'later', torch.tensor([0.0, -torch.inf])))
        runner.train()
        assert runner.iter == 4


def times_left_out():
    """Return the number of skipped steps if only the second process has logits that are not finite."""
    hook, left_out = FiniteCheckHook('skip'), []
    hook._buffers = SimpleNamespace(largest=dict)
    logits = {('clean', 'student'): torch.tensor([torch.nan if get_rank() == 1 else 0.0])}
    hook._iteration = lambda runner: Iteration(1, {}, logits, {})
    hook._leave_out = lambda runner, iterations, fault: left_out.append(iterations)
    hook._check_without_step(None)
    return len(left_out)


def step_of_one_process_with_an_infinite_loss():
    """Return the message of a process if only the loss of the second one is infinite."""
    hook, faults = FiniteCheckHook('skip'), []
    hook._buffers = SimpleNamespace(largest=dict)
    losses = dict(loss=torch.tensor(torch.inf if get_rank() == 1 else 1.0))
    hook._iteration = lambda runner: Iteration(1, {}, {}, losses)
    hook._leave_out = lambda runner, iterations, fault: faults.append(fault)
    hook._check(None, [], None)
    return faults


def decisions():
    """Return the decision of this process in both cases."""
    return times_left_out(), step_of_one_process_with_an_infinite_loss()


def test_all_processes_agree_on_a_step_that_is_wrong_in_one():
    others, own = run_on_ranks(2, decisions)
    what = 'a loss or a buffer of another process'
    assert others == (1, [f'{what} of iteration 1 is not finite, though all logits are'])
    assert own == (1, ['the loss loss of iteration 1 is not finite, though all logits are'])
