"""A replay runs its teachers once for each image and round, and then reads the stored logits."""

import copy
import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import toolbox
import torch
import toys
from mmengine.config import Config
from mmengine.dataset import BaseDataset, ClassBalancedDataset, ConcatDataset, RepeatDataset
from mmengine.hooks import Hook
from mmengine.runner import save_checkpoint
from ranks import run_on_ranks

from r2kd_mm.datasets import LoadImageFromFile
from r2kd_mm.distillers import R2KD
from r2kd_mm.hooks.replay import _check_hooks
from r2kd_mm.registry import HOOKS, MODELS
from r2kd_mm.teachers.replay import Replay
from r2kd_mm.teachers.targets import Targets

CYCLE = 2
EPOCHS = 5


@pytest.fixture
def teacher_ckpt(tmp_path):
    torch.manual_seed(1)
    teacher = MODELS.build(dict(toys.classifier(width=8), _scope_='r2kd_mm'))
    save_checkpoint(dict(state_dict=teacher.state_dict()), str(tmp_path / 'teacher.pth'))
    return str(tmp_path / 'teacher.pth')


def replaying(
    tmp_path,
    teacher_ckpt,
    name='run',
    batch_size=10,
    epochs=EPOCHS,
    cycle=CYCLE,
    sampler='PairedSampler',
    data=None,
    **fields,
):
    """A Runner whose distiller replays from ``tmp_path / 'store'``."""
    model = dict(
        type='R2KD',
        architecture=toys.classifier(),
        teacher=toys.classifier(width=8),
        teacher_ckpt=teacher_ckpt,
        pruner=dict(type='MagnitudePruner', amount=0.3),
        augmentation=dict(type='CutMix', per_image=True),
        losses=dict(loss_value=dict(type='CorrelationDistanceLoss')),
        replay=dict(folder=str(tmp_path / 'store'), dtype='float32'),
    )
    return toys.runner(
        dict(model, **fields),
        tmp_path / name,
        hooks=[dict(type='ReplayHook')],
        train_cfg=dict(type='ResumableTrainLoop', max_epochs=epochs, cycle=cycle),
        train_dataloader=dict(
            dataset=data or toys.Images(), batch_size=batch_size, num_workers=0, sampler=dict(type=sampler)
        ),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=1e-3)),
    )


@pytest.fixture
def asked(monkeypatch):
    """The sizes of the batches that the teachers were asked for."""
    sizes = []
    real = Targets._ask_all

    def ask_all(self, images, watch):
        sizes.append(len(images['clean']))
        return real(self, images, watch)

    monkeypatch.setattr(Targets, '_ask_all', ask_all)
    return sizes


def log_of(folder) -> str:
    return ''.join(path.read_text() for path in folder.glob('*/*.log'))


def losses(runner) -> torch.Tensor:
    return torch.tensor(runner.message_hub.get_scalar('train/loss').data[0])


def test_the_teachers_are_asked_in_the_first_rounds_alone_and_the_losses_are_the_same(
    tmp_path, teacher_ckpt, asked, monkeypatch
):
    with_replay = replaying(tmp_path, teacher_ckpt, 'with')
    with_replay.train()
    assert asked == [10] * 4 * CYCLE
    monkeypatch.setattr(Replay, 'read', lambda *_: None)
    live = replaying(tmp_path, teacher_ckpt, 'without')
    live.train()
    assert len(asked) == 4 * CYCLE + 4 * EPOCHS
    assert len(losses(live)) == 4 * EPOCHS
    torch.testing.assert_close(losses(with_replay), losses(live), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('engine', ['exact', 'fast'])
def test_the_same_batch_gives_the_same_losses_bit_by_bit(tmp_path, teacher_ckpt, engine):
    runner = replaying(tmp_path, teacher_ckpt, epochs=1, batch_size=40, teacher_engine=engine)
    runner.train()
    batch = next(iter(runner.train_dataloader))
    data = runner.model.data_preprocessor(batch)
    stored = runner.model.step.targets({'clean': data['inputs']}, data['data_samples'])['clean']
    path = runner.model.replay.store.folder / 'clean_0000.rows'
    path.write_bytes(bytes(path.stat().st_size))
    asked = runner.model.step.targets({'clean': data['inputs']}, data['data_samples'])['clean']
    tolerance = 1e-5 if engine == 'exact' else 2e-2  # the first time they were in one batch with the other view
    torch.testing.assert_close(stored, asked, rtol=tolerance, atol=tolerance)
    again = runner.model.step.targets({'clean': data['inputs']}, data['data_samples'])['clean']
    assert torch.equal(asked, again)


def test_a_complete_store_needs_no_teacher_in_the_next_run(tmp_path, teacher_ckpt, asked):
    replaying(tmp_path, teacher_ckpt, 'first', epochs=CYCLE).train()
    asked.clear()
    second = replaying(tmp_path, teacher_ckpt, 'second')
    assert len(second.model.teachers) == 0
    second.train()
    assert asked == []
    assert len(second.model.teachers) == 0


def changed(*images):
    """A data set in which the pixels of some images are others than they were."""
    data = toys.Images()
    for image in images:
        data.inputs[image] *= 0.5
    return data


@pytest.mark.slow
def test_images_that_changed_are_asked_for_again_and_the_log_says_how_many(tmp_path, teacher_ckpt, asked):
    """Data of the same names, sizes and labels: nothing but their pixels tells."""
    replaying(tmp_path, teacher_ckpt, 'first', epochs=CYCLE).train()
    asked.clear()
    runner = replaying(tmp_path, teacher_ckpt, 'second', data=changed(1), epochs=CYCLE + 1)  # none of those tried out
    assert len(runner.model.teachers) == 0
    runner.train()
    assert asked == [10] * CYCLE
    log = log_of(tmp_path / 'second')
    assert 'In epoch 1, 1 images were not those that the stored teacher logits had been made for' in log
    assert 'In epoch 3' not in log
    live = replaying(tmp_path, teacher_ckpt, 'live', data=changed(1), epochs=CYCLE + 1)
    live.model.step.targets.replay = Replay(tmp_path / 'other', dtype='float32')
    live.train()
    torch.testing.assert_close(losses(runner), losses(live), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_where_most_images_changed_the_store_is_filled_again_from_the_start(tmp_path, teacher_ckpt, asked):
    replaying(tmp_path, teacher_ckpt, 'first', epochs=CYCLE).train()
    asked.clear()
    runner = replaying(tmp_path, teacher_ckpt, 'second', data=changed(*range(40)))
    runner.train()
    assert asked == [10] * 4 * CYCLE
    log = log_of(tmp_path / 'second')
    assert '16 of 16 training images are not those that the stored teacher logits were made for' in log
    assert '0 of 2 rounds are complete' in log
    assert runner.model.replay.store.is_complete


class Noise:
    """A transform that adds what it draws."""

    def __init__(self, draw):
        self.draw = draw

    def __call__(self, image):
        return image + self.draw()


class NoisyImages(toys.Images):
    """Images behind a transform."""

    def __init__(self, draw):
        super().__init__()
        self.transform = Noise(draw)

    def __getitem__(self, index):
        item = super().__getitem__(index)
        return dict(item, inputs=self.transform(item['inputs']))


def test_images_of_a_transform_with_its_own_generator_repeat(tmp_path, teacher_ckpt, asked):
    replaying(tmp_path, teacher_ckpt, data=NoisyImages(np.random.default_rng().random)).train()
    assert asked == [10] * 4 * CYCLE


def test_images_that_do_not_repeat_are_refused_and_without_a_replay_the_log_warns(tmp_path, teacher_ckpt):
    def draw():
        return int.from_bytes(os.urandom(2), 'little')

    with pytest.raises(ValueError, match='a replay needs images that repeat .*: 1[0-6] of 16 training images came out'):
        replaying(tmp_path, teacher_ckpt, data=NoisyImages(draw)).train()
    plain = dict(type='ResumableTrainLoop', max_epochs=1)
    toys.runner(toys.classifier(), tmp_path / 'live', train_data=NoisyImages(draw), train_cfg=plain).train()
    assert 'A resumed run will not end in the same weights: 1' in log_of(tmp_path / 'live')


class Listed(BaseDataset):
    """Images of MMEngine's kind of data set, whose samples know their place in it alone."""

    METAINFO = dict(classes=toys.Images().metainfo['classes'])

    def __init__(self, seed=0):
        self._images = toys.Images(20, seed=seed)
        super().__init__(pipeline=[self._pack], lazy_init=False)

    def load_data_list(self):
        return [dict(place=place) for place in range(20)]

    def get_cat_ids(self, index):
        return [int(self._images[index]['data_samples'].gt_label)]

    def _pack(self, info):
        return self._images[info['place']]


WRAPPED = dict(
    concat=lambda: ConcatDataset([Listed(), Listed(1)]),
    repeat=lambda: RepeatDataset(Listed(), 2),
    balanced=lambda: ClassBalancedDataset(Listed(), 0.3),
    torch=lambda: torch.utils.data.ConcatDataset([Listed(), torch.utils.data.Subset(Listed(1), range(20))]),
)


@pytest.mark.parametrize('kind', toolbox.quick_first(list(WRAPPED)))
def test_data_sets_that_wrap_others_are_replayed(tmp_path, teacher_ckpt, asked, kind):
    """MMEngine tells a sample its place in the inner data set, and no epoch."""
    size = len(WRAPPED[kind]()) // 2 * 2
    with_replay = replaying(tmp_path, teacher_ckpt, data=WRAPPED[kind](), epochs=CYCLE + 1)
    with_replay.train()
    assert sum(asked) == size * CYCLE
    live = replaying(tmp_path, teacher_ckpt, 'live', data=WRAPPED[kind](), epochs=CYCLE + 1)
    live.model.step.targets.replay = Replay(tmp_path / 'other', dtype='float32')
    live.train()
    torch.testing.assert_close(losses(with_replay), losses(live), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_another_batch_size_reads_the_same_store(tmp_path, teacher_ckpt, asked):
    replaying(tmp_path, teacher_ckpt, 'first', epochs=CYCLE).train()
    asked.clear()
    replaying(tmp_path, teacher_ckpt, 'second', batch_size=16).train()
    assert asked == []


def run_on_two(folder, teacher_ckpt):
    from pathlib import Path

    runner = replaying(Path(folder), teacher_ckpt, 'two')
    runner.train()
    return len(runner.model.teachers)


@pytest.mark.slow
def test_another_number_of_processes_reads_the_same_store(tmp_path, teacher_ckpt):
    replaying(tmp_path, teacher_ckpt, 'first', epochs=CYCLE).train()
    assert run_on_ranks(2, run_on_two, str(tmp_path), teacher_ckpt) == [0, 0]


@pytest.mark.slow
def test_one_process_reads_what_two_wrote(tmp_path, teacher_ckpt, asked):
    assert run_on_ranks(2, run_on_two, str(tmp_path), teacher_ckpt) == [2, 2]
    replaying(tmp_path, teacher_ckpt, 'second').train()
    assert asked == []


@pytest.mark.slow
def test_a_torn_row_loads_the_teachers_and_is_made_again(tmp_path, teacher_ckpt, asked):
    first = replaying(tmp_path, teacher_ckpt, 'first', epochs=CYCLE)
    first.train()
    path = first.model.replay.store.folder / 'augmented_0001.rows'
    path.write_bytes(path.read_bytes()[:-3] + b'abc')
    asked.clear()
    second = replaying(tmp_path, teacher_ckpt, 'second')
    second.train()
    assert asked == [10]
    assert list(second.model.teachers) == ['teacher', 'pruned_teacher']


@pytest.mark.parametrize(
    ('change', 'name'),
    toolbox.quick_first(
        [
            (dict(pruner=dict(type='MagnitudePruner', amount=0.2)), 'pruner'),
            (dict(teacher_weight=0.5), 'teacher_weight'),
            (dict(augmentation=dict(type='Cutout', length=2)), 'augmentation'),
            (dict(teacher_engine='plain'), 'teacher_engine'),
        ]
    ),
    ids=['pruner', 'weight', 'augmentation', 'engine'],
)
def test_a_store_of_something_else_is_not_used_and_the_log_says_why(tmp_path, teacher_ckpt, asked, change, name):
    replaying(tmp_path, teacher_ckpt, 'first', epochs=CYCLE).train()
    asked.clear()
    second = replaying(tmp_path, teacher_ckpt, 'second', **change)
    second.train()
    assert asked == [10] * 4 * CYCLE
    log = log_of(tmp_path / 'second')
    assert f'were made from something else ({name}): they are not used, and new ones are made' in log


@pytest.mark.slow
def test_logits_of_another_arithmetic_are_not_used_where_the_engine_leaves_it_to_the_run(tmp_path, teacher_ckpt, asked):
    def train(name, wrapper, engine):
        runner = replaying(tmp_path, teacher_ckpt, name, epochs=CYCLE, teacher_engine=engine)
        runner.optim_wrapper = dict(type=wrapper, optimizer=dict(type='SGD', lr=1e-3))
        asked.clear()
        runner.train()
        return len(asked)

    for engine, anew in (('exact', 0), ('plain', 4 * CYCLE)):
        train(f'{engine} in float32', 'OptimWrapper', engine)
        assert train(f'{engine} in bfloat16', 'AutocastOptimWrapper', engine) == anew


def test_a_store_of_another_pipeline_is_not_used_where_the_transform_does_not_print_the_difference(
    tmp_path, teacher_ckpt, asked
):
    def train(name, step):
        runner = replaying(tmp_path, teacher_ckpt, name, epochs=CYCLE)
        loader = dict(dataset=dict(type='Images', data_root=f'/{name}', pipeline=[step]), batch_size=10)
        runner.cfg = Config(dict(train_dataloader=loader))
        runner.train()

    auto_augment = dict(type='AutoAugment', policies='imagenet', hparams=dict(pad_val=0))
    train('first', auto_augment)
    train('elsewhere', auto_augment)
    assert asked == [10] * 4 * CYCLE
    train('padded', dict(auto_augment, hparams=dict(pad_val=255)))
    assert asked == [10] * 8 * CYCLE
    log = log_of(tmp_path / 'padded')
    assert 'were made from something else (pipeline)' in log


class Quiet:
    """A transform that changes nothing, and prints as any other."""

    def __init__(self, setting):
        self.setting = setting

    def __call__(self, image):
        return image


@pytest.mark.slow
def test_a_store_of_a_ready_transform_with_another_setting_is_not_used(tmp_path, teacher_ckpt, asked):
    def train(name, setting):
        data = NoisyImages(None)
        data.transform = Quiet(setting)
        replaying(tmp_path, teacher_ckpt, name, epochs=CYCLE, data=data).train()

    train('first', 1)
    train('same', 1)
    assert asked == [10] * 4 * CYCLE
    train('other', 2)
    assert asked == [10] * 8 * CYCLE
    assert 'were made from something else (pipeline)' in log_of(tmp_path / 'other')


def test_a_teacher_whose_file_changed_during_the_run_is_refused_when_it_is_loaded(tmp_path, teacher_ckpt):
    replaying(tmp_path, teacher_ckpt, 'first', epochs=CYCLE).train()
    runner = replaying(tmp_path, teacher_ckpt, 'second', data=changed(1))

    class Overwrite(Hook):
        def before_train_epoch(self, runner):
            weights = torch.load(teacher_ckpt)['state_dict']
            torch.save(dict(state_dict={name: value + 1 for name, value in weights.items()}), teacher_ckpt)

    runner.register_hook(Overwrite())
    with pytest.raises(ValueError, match=r'teachers changed while the run went on \(teacher\)'):
        runner.train()


SWITCHES = dict(
    pipeline=dict(type='SwitchRecipeHook', schedule=[dict(action_epoch=2, train_pipeline=[])]),
    augments=dict(type='SwitchRecipeHook', schedule=[dict(action_epoch=2, batch_augments=None)]),
    loss=dict(
        type='SwitchRecipeHook',
        schedule=[dict(action_epoch=2, loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1))],
    ),
)


def with_hook(tmp_path, teacher_ckpt, hook):
    runner = replaying(tmp_path, teacher_ckpt, epochs=2)
    runner.register_hook(HOOKS.build(dict(hook)) if isinstance(hook, dict) else hook)
    return runner


@pytest.mark.parametrize('kind', ['pipeline', 'augments'])
def test_a_hook_that_switches_the_images_is_refused_before_the_first_step(tmp_path, teacher_ckpt, asked, kind):
    with pytest.raises(ValueError, match='SwitchRecipeHook changes how images are prepared in the middle of the run'):
        with_hook(tmp_path, teacher_ckpt, SWITCHES[kind]).train()
    assert asked == []


def test_a_hook_that_switches_the_loss_of_the_student_is_none_of_a_replay(tmp_path, teacher_ckpt):
    _check_hooks(with_hook(tmp_path, teacher_ckpt, SWITCHES['loss']).hooks)


class OwnSwitch(Hook):
    def __init__(self, change):
        self.change = change

    def before_train_epoch(self, runner):
        if runner.epoch == 1:
            self.change(runner)


def set_pipeline(runner):
    runner.train_dataloader.dataset.transform = Quiet(1)


def set_augments(runner):
    runner.model.data_preprocessor.batch_augments = lambda *batch: batch


@pytest.mark.parametrize('change', [set_pipeline, set_augments])
def test_a_switch_by_an_unknown_hook_stops_the_run(tmp_path, teacher_ckpt, asked, change):
    data = NoisyImages(None)
    data.transform = Quiet(0)
    runner = replaying(tmp_path, teacher_ckpt, epochs=2, data=data)
    runner.register_hook(OwnSwitch(change))
    with pytest.raises(ValueError, match='in epoch 2 a hook changed how images are prepared'):
        runner.train()
    assert len(asked) == 4


TOP_K = dict(
    ranks=dict(type='RankDistanceLoss'),
    order=dict(type='KendallLoss'),
    cmkd=dict(type='CMKDLoss'),
    scores=dict(type='LogitStandardization', loss=dict(type='KLDivergenceLoss')),
)


@pytest.mark.parametrize('kind', TOP_K)
def test_losses_that_compare_all_classes_need_all_logits(tmp_path, teacher_ckpt, kind):
    replay = dict(folder=str(tmp_path / 'store'), top_k=2)
    with pytest.raises(ValueError, match=r'keeps the 2 largest logits \(top_k\), and loss_x .* leave top_k out'):
        replaying(tmp_path, teacher_ckpt, losses=dict(loss_x=TOP_K[kind]), replay=replay)
    replaying(tmp_path, teacher_ckpt, losses=dict(loss_x=TOP_K[kind]))
    replaying(tmp_path, teacher_ckpt, losses=dict(loss_kd=dict(type='KLDivergenceLoss')), replay=replay)


@pytest.mark.slow
def test_the_losses_and_gradients_of_the_imagenet_config_are_those_of_the_live_teachers(tmp_path):
    model = Config.fromfile(toolbox.ROOT / 'configs/r2kd/r2kd-replay_res50_mbv1_imagenet.py').model
    replay = Replay(**dict(model.replay, folder=tmp_path))
    replay.open({}, 0, 1000, 8, 1, ['clean'])
    assert replay.store.bytes_needed * 1281167 * 2 * 4 / 8 == pytest.approx(20.6e9, rel=0.01)
    teacher, student = (3 * torch.randn(2, 8, 1000)).unbind()
    replay.store.write('clean', 0, range(8), [0] * 8, teacher)
    stored = replay.store.read('clean', 0, range(8), [0] * 8)
    for config in model.losses.values():
        loss = MODELS.build(dict(config))
        values, gradients = [], []
        for logits in (teacher, stored):
            leaf = student.clone().requires_grad_()
            values.append(loss(leaf, logits))
            gradients += torch.autograd.grad(values[-1], leaf)
        torch.testing.assert_close(*values, rtol=1e-4, atol=0)
        assert torch.cosine_similarity(*(gradient.flatten() for gradient in gradients), dim=0) > 0.999999
        torch.testing.assert_close(*(gradient.norm() for gradient in gradients), rtol=1e-3, atol=0)


def test_a_teacher_at_an_address_is_loaded_by_all_processes_at_the_start(tmp_path, teacher_ckpt, monkeypatch):
    """Not by one of them later, which would wait for the others in the middle of a step."""
    address = 'https://example.org/teacher.pth'
    monkeypatch.setattr('torch.hub.get_dir', lambda: str(tmp_path))
    (tmp_path / 'checkpoints').mkdir()
    shutil.copy(teacher_ckpt, tmp_path / 'checkpoints' / 'teacher.pth')
    replaying(tmp_path, address, 'first', epochs=CYCLE).train()
    assert len(replaying(tmp_path, address, 'second').model.teachers) == 2


@pytest.mark.slow
def test_runs_that_differ_share_a_folder(tmp_path, teacher_ckpt, asked):
    for name, weight in (('first', 0.7), ('second', 0.5)):
        replaying(tmp_path, teacher_ckpt, name, epochs=CYCLE, teacher_weight=weight).train()
    asked.clear()
    replaying(tmp_path, teacher_ckpt, 'third').train()
    assert asked == []


@pytest.mark.slow
def test_another_checkpoint_is_another_teacher(tmp_path, teacher_ckpt, asked):
    replaying(tmp_path, teacher_ckpt, 'first', epochs=CYCLE).train()
    weights = torch.load(teacher_ckpt)['state_dict']
    weights['head.layers.1.fc.bias'] += 1
    torch.save(dict(state_dict=weights), teacher_ckpt)
    asked.clear()
    replaying(tmp_path, teacher_ckpt, 'second').train()
    assert len(asked) == 4 * CYCLE


MIXING = dict(
    type='ClsDataPreprocessor',
    num_classes=toys.NUM_CLASSES,
    batch_augments=dict(augments=[dict(type='mmpretrain.Mixup', alpha=0.2)]),
)


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        (dict(sampler='DefaultSampler'), 'sampler=dict.type=PairedSampler. and an even batch_size, got DefaultSampler'),
        (dict(batch_size=5), 'got PairedSampler and 5'),
        (
            dict(sampler='RepeatAugSampler', augmentation=None),
            'gives some images several times .*; take DefaultSampler',
        ),
        (dict(cycle=None), r'set train_cfg=dict\(type=ResumableTrainLoop, cycle=...\)'),
        (dict(replay=None), r"give the model replay=dict\(folder='...'\)"),
        (dict(augmentation=dict(type='CutMix')), 'set per_image=True in the augmentation'),
        (dict(augmentation=dict(type='CutMixPick')), 'unlike those of CutMixPick'),
        (dict(pruned_teacher_mode='train'), "unlike those of pruned_teacher in mode 'train'"),
        (dict(data_preprocessor=MIXING), 'batch_augments of the data_preprocessor mixes them again'),
    ],
    ids=['sampler', 'batch size', 'repeats', 'cycle', 'no replay', 'one box', 'picked', 'train mode', 'mixed batches'],
)
def test_what_cannot_be_replayed_is_refused_with_its_remedy(tmp_path, teacher_ckpt, fields, message):
    with pytest.raises(ValueError, match=message):
        replaying(tmp_path, teacher_ckpt, **fields).train()


def test_images_that_may_be_replaced_are_refused(tmp_path, teacher_ckpt):
    runner = replaying(tmp_path, teacher_ckpt)
    step = LoadImageFromFile(broken='skip')
    runner.train_dataloader.dataset.pipeline = SimpleNamespace(transforms=[step])
    with pytest.raises(ValueError, match="the same images in every round.* and broken='skip' out of LoadImageFromFile"):
        runner.train()


def test_samples_that_do_not_say_what_they_are_are_refused(tmp_path, teacher_ckpt):
    runner = replaying(tmp_path, teacher_ckpt)
    runner.model.replay.open({}, 0, toys.NUM_CLASSES, 40, CYCLE, ['clean', 'augmented'])
    with pytest.raises(ValueError, match='must know the image and the round of each sample'):
        runner.model.loss(*toys.batch())


def test_a_copy_of_the_distiller_shares_the_store(tmp_path, teacher_ckpt):
    runner = replaying(tmp_path, teacher_ckpt, epochs=1)
    runner.train()
    assert isinstance(runner.model, R2KD)
    assert copy.deepcopy(runner.model).replay.store is runner.model.replay.store
