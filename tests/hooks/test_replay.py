"""A distillation that asks its teachers once for each image and round."""

import copy
import shutil
from types import SimpleNamespace

import pytest
import torch
import toys
from mmengine.config import Config
from mmengine.runner import save_checkpoint
from ranks import run_on_ranks

from r2kd_mm.datasets import LoadImageFromFile
from r2kd_mm.distillers import R2KD, LogitDistiller
from r2kd_mm.distillers.replay import Replay
from r2kd_mm.registry import MODELS

CYCLE = 2
EPOCHS = 5


class IndexedImages(toys.Images):
    """They say which they are, as the data sets of MMPretrain do."""

    def __getitem__(self, index):
        item = copy.deepcopy(super().__getitem__(index))
        item['data_samples'].set_metainfo(dict(sample_idx=index))
        return item


@pytest.fixture
def teacher_ckpt(tmp_path):
    torch.manual_seed(1)
    teacher = MODELS.build(dict(toys.classifier(width=8), _scope_='r2kd_mm'))
    save_checkpoint(dict(state_dict=teacher.state_dict()), str(tmp_path / 'teacher.pth'))
    return str(tmp_path / 'teacher.pth')


def replaying(
    tmp_path, teacher_ckpt, name='run', batch_size=10, epochs=EPOCHS, cycle=CYCLE, sampler='PairedSampler', **fields
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
            dataset=IndexedImages(), batch_size=batch_size, num_workers=0, sampler=dict(type=sampler)
        ),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=1e-3)),
    )


@pytest.fixture
def asked(monkeypatch):
    """The sizes of the batches that the teachers were asked for."""
    sizes = []
    real = LogitDistiller._run_teachers

    def run_teachers(self, images):
        sizes.append(len(images['clean']))
        return real(self, images)

    monkeypatch.setattr(LogitDistiller, '_run_teachers', run_teachers)
    return sizes


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
    stored = runner.model._teach({'clean': data['inputs']}, data['data_samples'])['clean']
    (runner.model.replay.store.folder / 'clean_0000.crc').write_bytes(bytes(4 * 40))
    asked = runner.model._teach({'clean': data['inputs']}, data['data_samples'])['clean']
    tolerance = 1e-5 if engine == 'exact' else 2e-2  # the first time they were in one batch with the other view
    torch.testing.assert_close(stored, asked, rtol=tolerance, atol=tolerance)
    again = runner.model._teach({'clean': data['inputs']}, data['data_samples'])['clean']
    assert torch.equal(asked, again)


def test_a_complete_store_needs_no_teacher_in_the_next_run(tmp_path, teacher_ckpt, asked):
    replaying(tmp_path, teacher_ckpt, 'first', epochs=CYCLE).train()
    asked.clear()
    second = replaying(tmp_path, teacher_ckpt, 'second')
    assert len(second.model.teachers) == 0
    second.train()
    assert asked == []
    assert len(second.model.teachers) == 0


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


def test_another_number_of_processes_reads_the_same_store(tmp_path, teacher_ckpt):
    replaying(tmp_path, teacher_ckpt, 'first', epochs=CYCLE).train()
    assert run_on_ranks(2, run_on_two, str(tmp_path), teacher_ckpt) == [0, 0]


def test_one_process_reads_what_two_wrote(tmp_path, teacher_ckpt, asked):
    assert run_on_ranks(2, run_on_two, str(tmp_path), teacher_ckpt) == [2, 2]
    replaying(tmp_path, teacher_ckpt, 'second').train()
    assert asked == []


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
    [
        (dict(pruner=dict(type='MagnitudePruner', amount=0.2)), 'pruner'),
        (dict(teacher_weight=0.5), 'teacher_weight'),
        (dict(augmentation=dict(type='Cutout', length=2)), 'augmentation'),
        (dict(teacher_engine='plain'), 'teacher_engine'),
    ],
    ids=['pruner', 'weight', 'augmentation', 'engine'],
)
def test_a_store_of_something_else_is_not_used_and_the_log_says_why(tmp_path, teacher_ckpt, asked, change, name):
    replaying(tmp_path, teacher_ckpt, 'first', epochs=CYCLE).train()
    asked.clear()
    second = replaying(tmp_path, teacher_ckpt, 'second', **change)
    second.train()
    assert asked == [10] * 4 * CYCLE
    log = ''.join(path.read_text() for path in (tmp_path / 'second').glob('*/*.log'))
    assert f'were made from something else ({name}): they are not used, and new ones are made' in log


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
        loader = dict(dataset=dict(type='IndexedImages', data_root=f'/{name}', pipeline=[step]), batch_size=10)
        runner.cfg = Config(dict(train_dataloader=loader))
        runner.train()

    auto_augment = dict(type='AutoAugment', policies='imagenet', hparams=dict(pad_val=0))
    train('first', auto_augment)
    train('elsewhere', auto_augment)
    assert asked == [10] * 4 * CYCLE
    train('padded', dict(auto_augment, hparams=dict(pad_val=255)))
    assert asked == [10] * 8 * CYCLE
    log = ''.join(path.read_text() for path in (tmp_path / 'padded').glob('*/*.log'))
    assert 'were made from something else (pipeline)' in log


def test_a_teacher_at_an_address_is_loaded_by_all_processes_at_the_start(tmp_path, teacher_ckpt, monkeypatch):
    """Not by one of them later, which would wait for the others in the middle of a step."""
    address = 'https://example.org/teacher.pth'
    monkeypatch.setattr('torch.hub.get_dir', lambda: str(tmp_path))
    (tmp_path / 'checkpoints').mkdir()
    shutil.copy(teacher_ckpt, tmp_path / 'checkpoints' / 'teacher.pth')
    replaying(tmp_path, address, 'first', epochs=CYCLE).train()
    assert len(replaying(tmp_path, address, 'second').model.teachers) == 2


def test_runs_that_differ_share_a_folder(tmp_path, teacher_ckpt, asked):
    for name, weight in (('first', 0.7), ('second', 0.5)):
        replaying(tmp_path, teacher_ckpt, name, epochs=CYCLE, teacher_weight=weight).train()
    asked.clear()
    replaying(tmp_path, teacher_ckpt, 'third').train()
    assert asked == []


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
        (dict(cycle=None), r'set train_cfg=dict\(type=ResumableTrainLoop, cycle=...\)'),
        (dict(replay=None), r"give the model replay=dict\(folder='...'\)"),
        (dict(augmentation=dict(type='CutMix')), 'set per_image=True in the augmentation'),
        (dict(augmentation=dict(type='CutMixPick')), 'unlike those of CutMixPick'),
        (dict(pruned_teacher_mode='train'), "unlike those of pruned_teacher in mode 'train'"),
        (dict(data_preprocessor=MIXING), 'batch_augments of the data_preprocessor mixes them anew'),
    ],
    ids=['sampler', 'batch size', 'cycle', 'no replay', 'one box', 'picked', 'train mode', 'mixed batches'],
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
