import copy
import hashlib
import shutil

import numpy as np
import pytest
import torch
import toys
from mmengine.config import Config
from mmengine.hooks import Hook
from mmpretrain.datasets import CustomDataset

from r2kd_mm.engine import SeededDataset
from r2kd_mm.engine.fingerprint import fingerprint
from r2kd_mm.hooks.record import is_decisive

PREPROCESSOR = dict(type='ClsDataPreprocessor', mean=[0.0] * 3, std=[1.0] * 3)
SUPERVISED = toys.classifier(width=8, data_preprocessor=PREPROCESSOR)


@pytest.fixture(scope='module')
def teacher_ckpt(tmp_path_factory):
    """The checkpoint of a teacher that was trained with the record."""
    work_dir = tmp_path_factory.mktemp('teacher')
    toys.runner(SUPERVISED, work_dir, epochs=8, train_data=toys.Images(200), hooks=[dict(type='RunRecordHook')]).train()
    return str(work_dir / 'epoch_8.pth')


def distiller(teacher_ckpt, **preprocessor):
    return dict(
        type='LogitDistiller',
        architecture=toys.classifier(),
        teacher=toys.classifier(width=8),
        teacher_ckpt=teacher_ckpt,
        losses=dict(loss_kd=dict(type='KLDivergenceLoss')),
        data_preprocessor=dict(PREPROCESSOR, **preprocessor),
    )


HOOKS = [dict(type='TeacherCheckHook'), dict(type='RunRecordHook')]


def test_the_checkpoint_says_what_it_was_made_from(tmp_path, teacher_ckpt):
    runner = toys.runner(distiller(teacher_ckpt), tmp_path, hooks=HOOKS)
    runner.train()
    record = torch.load(tmp_path / 'epoch_1.pth', weights_only=False)['meta']['r2kd_mm']
    assert torch.__version__.startswith(record['versions']['torch'].partition('+')[0])  # a build may add '+cpu'
    assert record['seed'] == 0
    assert record['normalisation'] == dict(mean=[0.0] * 3, std=[1.0] * 3, to_rgb=False)
    assert (record['train_data']['images'], record['train_data']['classes']) == (40, 5)
    accuracy = record['teacher_accuracies']['teacher']
    assert f'Teacher: {accuracy:.2f} % top-1' in next(tmp_path.glob('*/*.log')).read_text()


def test_a_teacher_trained_with_another_normalisation_is_refused(tmp_path, teacher_ckpt):
    with pytest.raises(ValueError, match=r"normalised with .*'std': \[1.0, .* gives it .*'std': \[2.0"):
        toys.runner(distiller(teacher_ckpt, std=[2.0] * 3), tmp_path)


def test_a_teacher_that_knows_the_classes_in_another_order_is_refused(tmp_path, teacher_ckpt):
    swapped = toys.Images()
    swapped.metainfo = dict(classes=('row 0', 'row 2', 'row 1', 'row 3', 'row 4'))
    runner = toys.runner(distiller(teacher_ckpt), tmp_path, hooks=HOOKS, train_data=swapped)
    with pytest.raises(ValueError, match="number 1 is 'row 1' in the first and 'row 2' in the second"):
        runner.train()


def test_a_teacher_that_calls_the_classes_otherwise_is_judged_by_its_accuracy_alone(tmp_path, teacher_ckpt):
    renamed = toys.Images()
    renamed.metainfo = dict(classes=tuple('abcde'))
    runner = toys.runner(distiller(teacher_ckpt), tmp_path, hooks=HOOKS, train_data=renamed)
    runner.train()
    assert runner.epoch == 1


DEFAULTS = dict(
    optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.05)),
    randomness=dict(seed=0),
    env_cfg=dict(cudnn_benchmark=False),
    resume=True,
)


class TestResume:
    @pytest.fixture
    def first(self, tmp_path):
        """Train one epoch; return the work dir, and a function that resumes it with changed fields of the config."""
        work_dir = tmp_path / 'work'

        def train(epochs=2, train_data=None, model=SUPERVISED, allow_changes=False, **fields) -> str:
            hooks = [dict(type='RunRecordHook', allow_changes=allow_changes)]
            # building a model, and resuming, write into the config
            model, fields = copy.deepcopy((model, {**DEFAULTS, **fields}))
            recorded = {key: value for key, value in fields.items() if key not in ('resume', 'load_from')}
            fields['cfg'] = cfg = Config(dict(recorded, model=model, train_cfg=dict(max_epochs=epochs)))
            fields['randomness'] = cfg.randomness  # one object, as by Runner.from_cfg
            runner = toys.runner(model, work_dir, epochs=epochs, train_data=train_data, hooks=hooks, **fields)
            runner.train()
            return max(work_dir.glob('*/*.log')).read_text()

        train(1, resume=False)
        return train

    def test_the_same_run_has_nothing_to_report(self, first):
        log = first()
        assert 'resumed epoch: 1' in log
        assert 'Resumed with changes: train_cfg.max_epochs: 1 -> 2\n' in log  # the one thing that is not the same

    @pytest.mark.parametrize(
        ('changes', 'message'),
        [
            (dict(model=dict(SUPERVISED, init_cfg=dict(type='Xavier'))), "model.init_cfg.type: absent -> 'Xavier'"),
            (dict(optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1))), 'optim_wrapper.optimizer.lr: 0.05 -> 0.1'),
            (dict(param_scheduler=dict(type='ConstantLR')), "param_scheduler.type: absent -> 'ConstantLR'"),
            (dict(randomness=dict(seed=1)), 'randomness.seed: 0 -> 1'),
            (dict(train_data=toys.Images(60)), 'record.train_data.images: 40 -> 60'),
        ],
    )
    def test_a_change_of_the_result_is_refused_unless_allowed(self, first, changes, message):
        with pytest.raises(ValueError, match=message) as caught:
            first(**changes)
        assert 'Undo the change, start again in another --work-dir, or continue with it by --allow-changes' in str(
            caught.value
        )
        assert message in first(**changes, allow_changes=True)

    def test_another_seed_that_is_allowed_is_in_force(self, tmp_path):
        class Order(Hook):
            def __init__(self):
                self.batches = []

            def before_train_iter(self, runner, batch_idx, data_batch=None):
                self.batches.append(torch.stack([image[0, 0, 0] for image in data_batch['inputs']]).tolist())

        def train(name, epochs, seed, **fields):
            order, loop = Order(), dict(type='ResumableTrainLoop', max_epochs=epochs)
            hooks = [dict(type='RunRecordHook', allow_changes=True), order]
            runner = toys.runner(
                SUPERVISED, tmp_path / name, hooks=hooks, train_cfg=loop, randomness=dict(seed=seed), **fields
            )
            runner.train()
            return order.batches, runner.seed

        batches, _ = train('whole', 2, 1)
        train('first', 1, 0)
        resumed, seed = train('second', 2, 1, load_from=str(tmp_path / 'first' / 'epoch_1.pth'), resume=True)
        assert seed == 1
        assert resumed == batches[len(batches) // 2 :]
        assert torch.load(tmp_path / 'second' / 'epoch_2.pth', weights_only=False)['meta']['seed'] == 1

    def test_what_does_not_is_reported(self, first):
        log = first(env_cfg=dict(cudnn_benchmark=True))
        assert 'env_cfg.cudnn_benchmark: False -> True' in log

    def test_other_code_is_reported(self, first, monkeypatch):
        monkeypatch.setattr('r2kd_mm.hooks.record.commit', lambda: 'abc')
        monkeypatch.setattr('r2kd_mm.hooks.record.versions', lambda: dict(torch='1.0'))
        log = first()
        assert "-> 'abc'" in log
        assert 'record.versions.torch' in log

    def test_another_number_of_processes_is_refused(self, first, monkeypatch):
        monkeypatch.setattr('r2kd_mm.hooks.record.get_world_size', lambda: 8)
        with pytest.raises(ValueError, match='record.world_size: 1 -> 8'):
            first()

    def test_other_weights_of_the_teacher_are_refused_wherever_they_lie(self, first, teacher_ckpt, tmp_path):
        moved, other = str(tmp_path / 'moved.pth'), str(tmp_path / 'other.pth')
        shutil.copy(teacher_ckpt, moved)
        weights = torch.load(teacher_ckpt, weights_only=False)
        next(iter(weights['state_dict'].values())).add_(1)
        torch.save(weights, other)

        first(1, resume=False, model=distiller(teacher_ckpt))
        log = first(model=distiller(moved))
        assert 'Resumed with changes: model.teacher_ckpt: ' in log
        assert 'record.' not in log
        with pytest.raises(ValueError, match=r'record\.teachers\.teacher: .* -> ') as caught:
            first(3, model=distiller(other))
        assert 'model.teacher_ckpt' not in str(caught.value)

    def test_what_an_older_version_did_not_record_cannot_be_refused(self, first, teacher_ckpt, tmp_path):
        first(1, resume=False, model=distiller(teacher_ckpt))
        path = tmp_path / 'work' / 'epoch_1.pth'
        checkpoint = torch.load(path, weights_only=False)
        del checkpoint['meta']['r2kd_mm']['teachers']
        torch.save(checkpoint, path)
        with pytest.raises(ValueError, match=r'model\.teacher_ckpt: '):
            first(model=distiller(shutil.copy(teacher_ckpt, tmp_path / 'moved.pth').as_posix()))
        assert 'record.teachers.teacher: absent -> ' in first(model=distiller(teacher_ckpt))

    def test_weights_may_be_loaded_into_another_run(self, first, tmp_path):
        checkpoint = str(tmp_path / 'work' / 'epoch_1.pth')
        log = first(resume=False, load_from=checkpoint, optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)))
        assert 'Load checkpoint from' in log
        assert 'Resumed with changes' not in log

    def test_a_checkpoint_of_elsewhere_cannot_be_compared(self, first, tmp_path):
        path = tmp_path / 'work' / 'epoch_1.pth'
        checkpoint = torch.load(path, weights_only=False)
        del checkpoint['meta']['cfg']
        torch.save(checkpoint, path)
        assert 'nothing could be compared' in first()


@pytest.mark.parametrize(
    ('field', 'decisive'),
    [
        ('model.teacher_weight', True),
        ('model.losses.loss_value.temperature', True),
        ('train_dataloader.batch_size', True),
        ('train_dataloader.dataset.pipeline.1.scale', True),
        ('custom_hooks.EMAHook.momentum', True),
        ('custom_hooks.LossScheduleHook.end', True),
        ('train_cfg.cycle', True),
        ('record.world_size', True),
        ('train_cfg.max_epochs', False),
        ('train_cfg.val_interval', False),
        ('train_dataloader.num_workers', False),
        ('train_dataloader.dataset.data_root', False),
        ('custom_hooks.RunRecordHook.allow_changes', False),
        ('custom_hooks.TeacherCheckHook.min_teacher_accuracy', False),
        ('default_hooks.logger.interval', False),
        ('work_dir', False),
        ('record.versions.torch', False),
        ('record.val_data.images', False),
    ],
)
def test_what_decides_the_result(field, decisive):
    assert is_decisive(field) == decisive


def folder(root, names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b'')
    return CustomDataset(data_root=str(root), pipeline=[])


class TestFingerprint:
    def test_is_the_same_wherever_the_data_lie(self, tmp_path):
        names = ['cat/1.jpg', 'cat/2.jpg', 'dog/3.jpg']
        here, there = folder(tmp_path / 'here', names), folder(tmp_path / 'there', names)
        assert fingerprint(here) == fingerprint(there)
        assert (fingerprint(here)['images'], fingerprint(here)['classes']) == (3, 2)

    @pytest.mark.parametrize(
        'other', [['cat/1.jpg', 'dog/2.jpg', 'dog/3.jpg'], ['cat/1.jpg', 'cat/4.jpg', 'dog/3.jpg']]
    )
    def test_tells_another_label_or_file(self, tmp_path, other):
        first = folder(tmp_path / 'first', ['cat/1.jpg', 'cat/2.jpg', 'dog/3.jpg'])
        assert fingerprint(first) != fingerprint(folder(tmp_path / 'second', other))

    def test_tells_other_pixels(self):
        class Pixels(torch.utils.data.Dataset):
            metainfo = dict(classes=('a',))

            def __init__(self, value):
                self.value = value

            def __len__(self):
                return 1

            def get_data_info(self, index):
                return dict(img=np.full((2, 2), self.value, np.uint8), gt_label=0)

        assert fingerprint(Pixels(1)) != fingerprint(Pixels(2))

    def test_tells_files_of_the_same_names_with_other_pixels(self, tmp_path):
        names = ['cat/1.jpg', 'cat/2.jpg', 'dog/3.jpg']
        data = folder(tmp_path, names)
        before = fingerprint(data)
        (tmp_path / 'cat/2.jpg').write_bytes(b'resized')
        after = fingerprint(data)
        assert after['contents'] != before['contents']
        assert dict(after, contents='') == dict(before, contents='')
        assert is_decisive('record.train_data.contents')

    def test_tells_other_inputs_of_a_data_set_that_tells_nothing_of_its_files(self):
        one, same, other = (fingerprint(SeededDataset(toys.Images(seed=seed), 0)) for seed in (0, 0, 1))
        assert one == same
        assert one['contents'] != other['contents']

    def test_of_another_kind_of_data_set_is_its_size(self):
        plain = torch.utils.data.TensorDataset(torch.zeros(7))
        assert fingerprint(plain) == dict(images=7, classes=0, sha256=hashlib.sha256(b'').hexdigest())
