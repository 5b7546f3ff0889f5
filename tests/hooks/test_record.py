import hashlib

import numpy as np
import pytest
import torch
import toys
from mmpretrain.datasets import CustomDataset

from r2kd_mm.hooks.record import fingerprint

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
    with pytest.raises(ValueError, match="number 1 is 'row 1' to the teacher and 'row 2' in the data"):
        runner.train()


def test_a_teacher_that_calls_the_classes_otherwise_is_judged_by_its_accuracy_alone(tmp_path, teacher_ckpt):
    renamed = toys.Images()
    renamed.metainfo = dict(classes=tuple('abcde'))
    runner = toys.runner(distiller(teacher_ckpt), tmp_path, hooks=HOOKS, train_data=renamed)
    runner.train()
    assert runner.epoch == 1


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

    def test_of_another_kind_of_data_set_is_its_size(self):
        plain = torch.utils.data.TensorDataset(torch.zeros(7))
        assert fingerprint(plain) == dict(images=7, classes=0, sha256=hashlib.sha256(b'').hexdigest())
