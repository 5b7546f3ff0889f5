"""A resumed run ends with the same result, whether it was interrupted within an epoch or before its validation."""

import copy
import json
import random
from pathlib import Path

import numpy as np
import pytest
import toolbox
import torch
import toys
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer
from torch.utils.data import WeightedRandomSampler

from r2kd_mm.engine import ResumableTrainLoop
from r2kd_mm.engine import train_loop as module

LENGTH = 5  # batches of an epoch; the last one is smaller
BATCH_SIZE = 10
ALLOWED = dict(type='RunRecordHook', allow_changes=True)


class NoisyImages(toys.Images):
    """Every generator has its part in an image."""

    def __init__(self, size=44):
        super().__init__(size)

    def __getitem__(self, index):
        item = super().__getitem__(index)
        noise = torch.rand(()) + random.random() + float(np.random.rand())
        sample = copy.deepcopy(
            item['data_samples']
        )  # as a pipeline makes: one that lives on in a worker is not sent twice
        return dict(inputs=item['inputs'] + noise, data_samples=sample)


class CountingImages(NoisyImages):
    """Knows how many images were asked for."""

    loaded = 0

    def __getitem__(self, index):
        self.loaded += 1
        return super().__getitem__(index)


def next_draws():
    """Return the next value of each generator of the process, without changing it."""
    python, numpy = random.Random(), np.random.RandomState()
    python.setstate(random.getstate())
    numpy.set_state(np.random.get_state())
    generator = torch.Generator().set_state(torch.get_rng_state())
    return python.random(), numpy.rand(), torch.rand((), generator=generator).item()


class Watch(Hook):
    """Record what hooks and generators of the process see."""

    def __init__(self):
        self.batches, self.draws, self.validated, self.steps = [], [], [], []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.batches.append((runner.epoch, batch_idx, runner.iter))
        self.draws.append(next_draws())

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.steps.append(runner.optim_wrapper.should_update())

    def after_val_epoch(self, runner, metrics=None):
        self.validated.append(runner.epoch)


class Stop(Exception):
    """Somebody pulled the plug."""


class StopAt(Hook):
    """Pull the plug in the validation after an epoch."""

    def __init__(self, epoch):
        self.epoch = epoch

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.epoch == self.epoch and batch_idx == 1:
            raise Stop


def build(work_dir, *, epochs=3, workers=0, save=None, loop=None, batch_size=BATCH_SIZE, data=None, hooks=(), **fields):
    """A Runner whose student has dropout, stochastic depth, batch norm, and noisy images."""
    loader = dict(
        dataset=data or NoisyImages(),
        batch_size=batch_size,
        num_workers=workers,
        persistent_workers=workers > 1,
        sampler=dict(type='DefaultSampler', shuffle=True),
    )
    fields = dict(
        dict(
            train_dataloader=loader,
            train_cfg=dict(type='ResumableTrainLoop', max_epochs=epochs, **(loop or {})),
            param_scheduler=dict(type='CosineAnnealingLR', T_max=epochs, by_epoch=True, convert_to_iter_based=True),
            default_hooks=dict(
                logger=dict(type='LoggerHook', interval=1),
                checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=1, **(save or {})),
            ),
            env_cfg=dict(mp_cfg=dict(mp_start_method='fork')),
        ),
        **fields,
    )
    return toys.runner(toys.classifier(dropout=0.3), work_dir, hooks=hooks, **fields)


def resumed(checkpoint, work_dir, **kwargs):
    return build(work_dir, load_from=str(checkpoint), resume=True, **kwargs)


def assert_equal(one, other, where=''):
    """Bit by bit."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_equal(one[key], other[key], f'{where}.{key}')
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for index, pair in enumerate(zip(one, other)):
            assert_equal(*pair, f'{where}.{index}')
    elif isinstance(one, HistoryBuffer):
        assert one.data == other.data, where
    else:
        assert one == other, where


def result(work_dir, name=f'iter_{3 * LENGTH}.pth'):
    """Return the parts of a checkpoint that must be equal: all but paths, times and the name of the experiment."""
    checkpoint = torch.load(Path(work_dir, name), weights_only=False)
    history = {
        key: [value.tolist() for value in buffer.data]
        for key, buffer in checkpoint['message_hub']['log_scalars'].items()
        if 'time' not in key
    }
    parts = {key: checkpoint[key] for key in ('state_dict', 'optimizer', 'param_schedulers')}
    return dict(parts, history=history, epoch=checkpoint['meta']['epoch'], iter=checkpoint['meta']['iter'])


def logged(*work_dirs):
    """The last line of each step, without times."""
    lines = {}
    for path in sorted(path for folder in work_dirs for path in Path(folder).glob('*/vis_data/scalars.json')):
        for line in path.read_text().splitlines():
            values = json.loads(line)
            kept = {key: value for key, value in values.items() if 'time' not in key}
            lines['accuracy/top1' in values, values['step']] = kept
    return lines


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """A run that nothing interrupted, with a checkpoint after each of its iterations."""
    work_dir, watch = tmp_path_factory.mktemp('whole'), Watch()
    build(work_dir, hooks=[watch]).train()
    return work_dir, watch


@pytest.mark.parametrize('workers', [2, pytest.param(1, marks=pytest.mark.slow)])
def test_the_number_of_workers_makes_no_difference(whole, tmp_path, workers):
    build(tmp_path, workers=workers).train()
    assert_equal(result(tmp_path), result(whole[0]))


@pytest.mark.parametrize(
    ('iteration', 'workers'),
    [
        (3, 2),
        *(
            pytest.param(iteration, workers, marks=pytest.mark.slow)
            for iteration, workers in ((1, 0), (LENGTH - 1, 0), (LENGTH, 1), (LENGTH + 1, 0), (3 * LENGTH, 0))
        ),
    ],
)
def test_a_run_resumed_after_any_iteration_ends_the_same(whole, tmp_path, iteration, workers):
    work_dir, watch_whole = whole
    watch = Watch()
    resumed(work_dir / f'iter_{iteration}.pth', tmp_path, workers=workers, hooks=[watch]).train()
    if iteration < 3 * LENGTH:
        assert_equal(result(tmp_path), result(work_dir))
    assert watch.batches == watch_whole.batches[iteration:]
    assert watch.draws == watch_whole.draws[iteration:]
    assert watch.validated == [epoch for epoch in (1, 2, 3) if epoch * LENGTH >= iteration]
    assert logged(work_dir, tmp_path) == logged(work_dir)


@pytest.mark.slow
def test_the_plain_loop_ends_otherwise(whole, tmp_path):
    plain = dict(type='EpochBasedTrainLoop', max_epochs=3)
    resumed(whole[0] / 'iter_3.pth', tmp_path, train_cfg=plain).train()
    with pytest.raises(AssertionError):
        assert_equal(result(tmp_path, f'iter_{3 * LENGTH}.pth'), result(whole[0]))


def test_batches_that_are_done_are_not_loaded_again(whole, tmp_path):
    runner = resumed(whole[0] / f'iter_{2 * LENGTH + 3}.pth', tmp_path, data=CountingImages())
    runner.train()
    assert runner.train_dataloader.dataset.loaded == 44 - 3 * BATCH_SIZE


def test_every_iteration_draws_differently_in_all_generators(whole):
    draws = whole[1].draws
    assert len(set(sum(draws, ()))) == 3 * len(draws)


def test_every_rank_draws_differently(whole, tmp_path, monkeypatch):
    watch = Watch()
    runner = build(tmp_path, epochs=1, hooks=[watch])
    monkeypatch.setattr(type(runner), 'rank', 1)
    runner.train()
    assert not set(sum(watch.draws, ())) & set(sum(whole[1].draws, ()))


# ---------------------------------------------------------------------------------------------------- validation
def by_epoch():
    """Checkpoints of every epoch and of the best one."""
    return dict(
        logger=dict(type='LoggerHook', interval=1),
        checkpoint=dict(type='SafeCheckpointHook', interval=1, save_best='accuracy/top1', rule='greater'),
    )


@pytest.mark.parametrize('epoch', [1, pytest.param(3, marks=pytest.mark.slow)])
def test_a_validation_that_was_cut_off_is_made_up_for(tmp_path, epoch):
    build(tmp_path / 'whole', default_hooks=by_epoch()).train()
    with pytest.raises(Stop):
        build(tmp_path / 'cut', default_hooks=by_epoch(), hooks=[StopAt(epoch)]).train()
    watch = Watch()
    resumed(tmp_path / 'cut' / f'epoch_{epoch}.pth', tmp_path / 'cut', default_hooks=by_epoch(), hooks=[watch]).train()
    assert watch.validated == list(range(epoch, 4))
    assert_equal(result(tmp_path / 'cut', 'epoch_3.pth'), result(tmp_path / 'whole', 'epoch_3.pth'))
    assert logged(tmp_path / 'cut') == logged(tmp_path / 'whole')
    best = [[path.name for path in (tmp_path / run).glob('best_*')] for run in ('cut', 'whole')]
    assert best[0] == best[1] != []


def test_a_validation_in_the_checkpoint_is_not_repeated(tmp_path):
    build(tmp_path, epochs=1, default_hooks=by_epoch()).train()  # the first accuracy is the best: saved again with it
    watch = Watch()
    resumed(tmp_path / 'epoch_1.pth', tmp_path, epochs=1, default_hooks=by_epoch(), hooks=[watch]).train()
    assert watch.validated == []


@pytest.mark.slow
def test_only_a_validation_that_was_due_is_made_up_for(tmp_path):
    loop = dict(val_begin=2, dynamic_intervals=[(3, 2)])
    default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1))
    watch = Watch()
    build(tmp_path, epochs=5, loop=loop, default_hooks=default_hooks, hooks=[watch]).train()
    assert watch.validated == [2, 4, 5]
    for epoch, expected in ((1, [2, 4, 5]), (2, [2, 4, 5]), (3, [4, 5]), (4, [4, 5]), (5, [5])):
        watch = Watch()
        checkpoint = tmp_path / f'epoch_{epoch}.pth'
        resumed(checkpoint, tmp_path / 'again', epochs=5, loop=loop, default_hooks=default_hooks, hooks=[watch]).train()
        assert watch.validated == expected


def test_a_run_without_validation_resumes(whole, tmp_path):
    none = dict(val_dataloader=None, val_cfg=None, val_evaluator=None)
    resumed(whole[0] / f'iter_{LENGTH}.pth', tmp_path, **none).train()
    assert_equal(result(tmp_path)['state_dict'], result(whole[0])['state_dict'])


def test_the_averages_of_the_ranks_are_not_averaged_again(tmp_path):
    build(tmp_path, epochs=1, default_hooks=dict(checkpoint=dict(type='CheckpointHook'))).train()

    class Sync(module.SyncBuffersHook):
        seen = None

        def before_val_epoch(self, runner):
            self.seen = self.called_in_train

    sync = Sync()
    resumed(tmp_path / 'epoch_1.pth', tmp_path, epochs=1, hooks=[sync]).train()
    assert sync.seen is True


# ------------------------------------------------------------------------------------------ gradient accumulation
def accumulating():
    """Two batches for each step; the Runner consumes the dict."""
    return dict(optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9), accumulative_counts=2))


def test_a_window_of_accumulation_ends_with_its_epoch(tmp_path):
    watch = Watch()
    build(tmp_path, epochs=2, hooks=[watch], **accumulating()).train()
    assert watch.steps == 2 * [False, True, False, True, True]


@pytest.mark.parametrize(
    'iteration', [2, *(pytest.param(iteration, marks=pytest.mark.slow) for iteration in (LENGTH, LENGTH + 4))]
)
def test_accumulation_resumes_between_two_windows(tmp_path, iteration):
    build(tmp_path / 'whole', **accumulating()).train()
    watch = Watch()
    checkpoint = tmp_path / 'whole' / f'iter_{iteration}.pth'
    resumed(checkpoint, tmp_path / 'resumed', hooks=[watch], **accumulating()).train()
    assert_equal(result(tmp_path / 'resumed'), result(tmp_path / 'whole'))
    assert watch.steps == (3 * [False, True, False, True, True])[iteration:]


def test_a_checkpoint_from_inside_a_window_is_refused(tmp_path):
    build(tmp_path, epochs=1, **accumulating()).train()
    with pytest.raises(
        ValueError, match='iteration 3 was saved in the middle of an accumulation .*accumulative_counts'
    ):
        resumed(tmp_path / 'iter_3.pth', tmp_path / 'resumed', **accumulating()).train()


class Gradients(Hook):
    """The gradient of each step."""

    def __init__(self):
        self.steps = []

    def before_train(self, runner):
        parameters = list(runner.model.parameters())
        runner.optim_wrapper.optimizer.register_step_pre_hook(
            lambda *_: self.steps.append(torch.cat([parameter.grad.flatten() for parameter in parameters]))
        )


def test_the_last_window_of_an_epoch_is_the_mean_of_its_own_batches(tmp_path):
    gradients = []
    for counts in (2, 1):
        hook = Gradients()
        frozen = dict(optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.0), accumulative_counts=counts))
        build(tmp_path / str(counts), epochs=1, data=toys.Images(30), hooks=[hook], **frozen).train()
        gradients.append(hook.steps)
    accumulated, single = gradients
    torch.testing.assert_close(accumulated[0], (single[0] + single[1]) / 2)
    torch.testing.assert_close(accumulated[1], single[2])


# --------------------------------------------------------------------------------------------------------- seeds
def test_a_run_without_a_seed_resumes_with_the_seed_of_its_checkpoint(tmp_path):
    free = dict(randomness=dict(seed=None))
    build(tmp_path / 'whole', **free).train()
    resumed(tmp_path / 'whole' / 'iter_3.pth', tmp_path / 'resumed', **free).train()
    assert_equal(result(tmp_path / 'resumed'), result(tmp_path / 'whole'))


def test_a_cycle_repeats_the_images_in_a_new_order_with_other_dropout(tmp_path):
    class Seen(Hook):
        batches = []

        def before_train_iter(self, runner, batch_idx, data_batch=None):
            self.batches.append(torch.stack(data_batch['inputs']))

    seen, watch = Seen(), Watch()
    build(tmp_path, loop=dict(cycle=2), hooks=[seen, watch]).train()
    epochs = [torch.cat(seen.batches[LENGTH * epoch : LENGTH * (epoch + 1)]) for epoch in range(3)]
    assert not torch.equal(epochs[0], epochs[2])
    first, second, third = ({tuple(image.flatten().tolist()) for image in epoch} for epoch in epochs)
    assert first == third != second
    assert watch.draws[0] != watch.draws[2 * LENGTH]


# --------------------------------------------------------------------------------------------------- early stopping
class Scores(Hook):
    """Replace the accuracy of the n-th validation."""

    priority = 'VERY_HIGH'

    def __init__(self, *scores):
        self.scores = scores

    def after_val_epoch(self, runner, metrics=None):
        metrics['accuracy/top1'] = self.scores[runner.epoch - 1]


def stopping(work_dir, scores=(3, 1, 2, 2, 1), loop='ResumableTrainLoop', allow_changes=False, **fields):
    """Train for at most five epochs, until two in a row are no better; return the Runner and its log."""
    checkpoint = dict(
        dict(type='SafeCheckpointHook', interval=fields.pop('interval', 1)), **fields.pop('checkpoint', {})
    )
    stopper = dict(type='EarlyStoppingHook', monitor='accuracy/top1', min_delta=0.5, patience=fields.pop('patience', 2))
    hooks = [Scores(*scores), stopper, dict(type='RunRecordHook', allow_changes=allow_changes)]
    runner = build(
        work_dir,
        hooks=[*hooks, *fields.pop('hooks', ())],
        train_cfg=dict(type=loop, max_epochs=5),
        param_scheduler=None,
        default_hooks=dict(checkpoint=checkpoint),
        cfg=Config(dict(custom_hooks=copy.deepcopy(hooks[1:2]))),
        **fields,
    )
    runner.train()
    return runner, max(work_dir.glob('*/*.log')).read_text()


@pytest.mark.parametrize('loop', toolbox.quick_first(['ResumableTrainLoop', 'EpochBasedTrainLoop']))
@pytest.mark.parametrize('checkpoint', toolbox.quick_first([{}, dict(by_epoch=False), dict(save_best='accuracy/top1')]))
def test_early_stopping_leaves_a_checkpoint_of_its_last_epoch(tmp_path, loop, checkpoint):
    runner, _ = stopping(tmp_path, interval=100, loop=loop, checkpoint=dict(checkpoint, max_keep_ckpts=1))
    name = 'epoch_3.pth' if checkpoint.get('by_epoch', True) else f'iter_{3 * LENGTH}.pth'
    assert {path.name for path in tmp_path.glob('*.pth') if 'best' not in path.name} == {name}
    saved = torch.load(tmp_path / name, weights_only=False)
    assert (saved['meta']['epoch'], saved['meta']['iter']) == (3, 3 * LENGTH)
    assert_equal(saved['state_dict'], runner.model.state_dict())
    assert Path((tmp_path / 'last_checkpoint').read_text()).name == name


@pytest.mark.parametrize(
    'checkpoint', toolbox.quick_first([{}, dict(by_epoch=False, interval=LENGTH), dict(save_last=False)])
)
def test_the_last_checkpoint_knows_that_its_run_was_stopped(tmp_path, checkpoint):
    """A regular one is written before the validation that stops the run."""
    stopping(tmp_path, checkpoint=dict(dict(interval=1, max_keep_ckpts=1), **checkpoint))
    (name,) = [path.name for path in tmp_path.glob('*.pth')]
    assert module.has_stopped_early(torch.load(tmp_path / name, weights_only=False))
    stopping(tmp_path / 'whole', (1, 2, 3, 4, 5))
    assert not module.has_stopped_early(torch.load(tmp_path / 'whole' / 'epoch_5.pth', weights_only=False))


def test_early_stopping_leaves_none_where_the_last_one_is_not_wanted(tmp_path):
    stopping(tmp_path, interval=100, checkpoint=dict(save_last=False))
    assert not list(tmp_path.glob('*.pth'))


@pytest.mark.parametrize(
    ('scores', 'save_best'),
    [((3, 1, 2, 2, 1), None), ((3, 3.2, 3.4, 3.5, 3.5), 'accuracy/top1')],  # better, but not by min_delta
)
@pytest.mark.parametrize('epoch', toolbox.quick_first([2, 1, 3]))
def test_early_stopping_resumes_with_its_count(tmp_path, scores, save_best, epoch):
    checkpoint = dict(save_best=save_best) if save_best else {}
    whole, _ = stopping(tmp_path, scores, checkpoint=checkpoint)
    assert whole.epoch == 3
    resumed, _ = stopping(
        tmp_path / 'resumed', scores, checkpoint=checkpoint, load_from=str(tmp_path / f'epoch_{epoch}.pth'), resume=True
    )
    assert resumed.epoch == 3
    assert_equal(resumed.model.state_dict(), whole.model.state_dict())


def test_a_run_that_was_stopped_early_stays_stopped_until_its_rule_changes(tmp_path):
    stopping(tmp_path, interval=100)
    last = dict(load_from=str(tmp_path / 'epoch_3.pth'), resume=True)
    again, log = stopping(tmp_path / 'again', **last)
    assert again.epoch == 3
    assert 'The resumed run had stopped early, after epoch 3.' in log
    assert not list((tmp_path / 'again').glob('*.pth'))
    with pytest.raises(ValueError, match=r'custom_hooks\.EarlyStoppingHook\.patience: 2 -> 3'):
        stopping(tmp_path / 'refused', patience=3, **last)
    longer, _ = stopping(tmp_path / 'longer', patience=3, allow_changes=True, **last)
    assert longer.epoch == 4


# -------------------------------------------------------------------------------------------------- what changed
def test_another_length_of_the_epoch_restarts_the_epoch_with_a_warning(whole, tmp_path):
    watch = Watch()
    runner = resumed(whole[0] / f'iter_{LENGTH + 2}.pth', tmp_path, batch_size=22, hooks=[watch, ALLOWED])
    runner.train()
    assert watch.batches[0] == (1, 0, 2)
    assert runner.iter == runner.max_iters == 6
    text = next(tmp_path.glob('*/*.log')).read_text()
    assert (
        'An epoch has 2 batches, and had 5 in the resumed run: this run continues at the start of epoch 2, of '
        'which 2 batches had been trained.'
    ) in text


def test_a_longer_run_resumes_a_shorter_one(whole, tmp_path):
    watch = Watch()
    resumed(whole[0] / f'iter_{3 * LENGTH}.pth', tmp_path, epochs=4, hooks=[watch, ALLOWED]).train()
    assert watch.batches[0] == (3, 0, 3 * LENGTH)
    assert watch.validated == [3, 4]


def test_a_checkpoint_whose_epoch_and_iteration_contradict_is_refused(whole, tmp_path):
    checkpoint = torch.load(whole[0] / 'iter_7.pth', weights_only=False)
    checkpoint['meta']['epoch'] = 2
    torch.save(checkpoint, tmp_path / 'odd.pth')
    with pytest.raises(ValueError, match='iteration 7 is not in epoch 3, when an epoch has 5 batches'):
        resumed(tmp_path / 'odd.pth', tmp_path).train()


def test_a_ready_loader_is_refused(tmp_path):
    loader = torch.utils.data.DataLoader(toys.Images(), 10)
    with pytest.raises(TypeError, match='needs the config of train_dataloader, a dict, and got a ready DataLoader'):
        build(tmp_path, train_dataloader=loader).train()


def test_a_batch_sampler_is_refused(tmp_path):
    loader = dict(
        dataset=toys.Images(),
        sampler=dict(type='DefaultSampler'),
        batch_size=4,
        batch_sampler=dict(type=torch.utils.data.BatchSampler, drop_last=False),
    )
    with pytest.raises(ValueError, match='cannot continue in the middle of an epoch of a batch_sampler'):
        build(tmp_path, train_dataloader=loader).train()


def test_a_cycle_of_no_epoch_is_refused(tmp_path):
    with pytest.raises(ValueError, match='cycle counts epochs'):
        build(tmp_path, loop=dict(cycle=0)).train()


def test_the_config_keeps_its_paths_and_the_runner_its_data_set(tmp_path):
    data = NoisyImages()
    runner = build(tmp_path, epochs=1, data=data)
    config = runner._train_dataloader
    runner.train()
    assert isinstance(runner.train_loop, ResumableTrainLoop)
    assert config['dataset'] is data
    assert config['sampler'] == dict(type='DefaultSampler', shuffle=True)
    assert runner.train_dataloader.dataset.metainfo == NoisyImages().metainfo
    assert runner.train_dataloader.batch_size == BATCH_SIZE


def weighted():
    """A sampler of torch, which draws its order from a generator of its own."""
    return WeightedRandomSampler([1.0] * 4 + [0.1] * 40, 44, generator=torch.Generator())


@pytest.mark.parametrize(
    'sampler', toolbox.quick_first([lambda: dict(type='RepeatAugSampler'), weighted]), ids=['repeated', 'weighted']
)
def test_a_run_resumes_with_images_that_come_several_times(tmp_path, sampler):
    def loader():
        return dict(dataset=NoisyImages(), batch_size=BATCH_SIZE, num_workers=0, sampler=sampler())

    class Copies(Hook):
        batches = []

        def before_train_iter(self, runner, batch_idx, data_batch=None):
            self.batches.append({tuple(image.flatten().tolist()) for image in data_batch['inputs']})

    copies = Copies()
    build(tmp_path / 'whole', train_dataloader=loader(), hooks=[copies]).train()
    assert all(len(batch) >= BATCH_SIZE for batch in copies.batches[:4])  # no two inputs are alike
    resumed(tmp_path / 'whole' / 'iter_8.pth', tmp_path / 'resumed', train_dataloader=loader()).train()
    assert_equal(result(tmp_path / 'resumed'), result(tmp_path / 'whole'))


def test_a_limited_number_of_batches_is_seeded_too(tmp_path):
    loader = dict(
        dataset=NoisyImages(),
        batch_size=BATCH_SIZE,
        num_workers=0,
        num_batch_per_epoch=2,
        sampler=dict(type='DefaultSampler', shuffle=True),
    )
    build(tmp_path / 'whole', train_dataloader=loader).train()
    resumed(tmp_path / 'whole' / 'iter_3.pth', tmp_path / 'resumed', train_dataloader=loader).train()
    assert_equal(result(tmp_path / 'resumed', 'iter_6.pth'), result(tmp_path / 'whole', 'iter_6.pth'))


# ---------------------------------------------------------------------------------------------------------------- logs
def test_what_is_logged_keeps_its_value_whatever_its_dtype():
    losses = {
        'loss': torch.tensor(0.1, requires_grad=True) * 1,
        'half': torch.tensor(1 / 3, dtype=torch.bfloat16),
        'double': torch.tensor(1e-300, dtype=torch.float64),
    }
    outputs = module.as_one_tensor(losses)
    assert {name: value.item() for name, value in outputs.items()} == {
        name: value.item() for name, value in losses.items()
    }
    assert not any(value.requires_grad for value in outputs.values())
