"""The measurements of trained runs equal those of a plain loop over the images."""

import copy
import zlib

import numpy as np
import pytest
import torch
from mmengine.config import Config
from run_folders import R2KD, write_run
from toolbox import ROOT

from r2kd_mm.corruptions import Corrupt, corrupt
from r2kd_mm.datasets import Digits, NormalizeContrast
from r2kd_mm.pruning import MagnitudePruner
from r2kd_mm.registry import MODELS
from r2kd_mm.report import find_groups, measure
from r2kd_mm.report.images import corrupted_config, looked_at
from r2kd_mm.report.views import spread_out
from r2kd_mm.runs import accuracy
from r2kd_mm.teachers.build import load_weights_


def digits(count=100):
    dataset = Digits(split='test', indices=count)
    infos = [dataset.get_data_info(index) for index in range(count)]
    return np.stack([info['img'] for info in infos]), torch.tensor([info['gt_label'] for info in infos])


def normalised(images):
    return (torch.from_numpy(images).permute(0, 3, 1, 2).float() - 77.9) / 95.9


def network(config, checkpoint):
    model = MODELS.build(config)
    load_weights_(model, str(checkpoint))
    return model.eval()


@torch.no_grad()
def test_students_and_teachers_are_asked_about_the_normalised_images(found, groups):
    images, labels = digits()
    assert torch.equal(found.labels, labels)
    run = groups[1].runs[1]
    student = network(run.config.model.architecture, run.checkpoint)
    torch.testing.assert_close(found.methods[1].students[1], student(normalised(images), mode='tensor'))
    teacher = network(run.config.model.teacher, run.config.model.teacher_ckpt)
    pruned = MagnitudePruner(amount=0.1)(teacher)[0].eval()
    full, less = (model(normalised(images), mode='tensor') for model in (teacher, pruned))
    torch.testing.assert_close(found.methods[1].teacher.logits, 0.7 * full + 0.3 * less)
    assert found.methods[1].teacher.name == 'teacher + pruned teacher'
    torch.testing.assert_close(found.methods[1].clean_view['pruned teacher'], less)
    assert found.methods[0].teacher is None
    assert found.data == '100 validation images of Digits'
    assert found.classes == list('0123456789')


@torch.no_grad()
def test_the_corrupted_images_are_those_of_the_transform(found, groups):
    images, labels = digits()
    seeds = [[0, 11, 5, zlib.crc32(image.tobytes())] for image in images]  # contrast is the twelfth
    changed = np.stack([corrupt(x, 'contrast', 5, np.random.default_rng(seed)) for x, seed in zip(images, seeds)])
    student = network(groups[0].config.model, groups[0].runs[0].checkpoint)
    expected = accuracy(student(normalised(changed), mode='tensor'), labels)
    assert found.methods[0].corrupted['contrast', 5] == [pytest.approx(expected)]
    assert list(found.methods[1].teacher.corrupted) == list(found.methods[0].corrupted)
    assert len(found.methods[1].corrupted['contrast', 5]) == 2


def test_images_are_corrupted_before_their_contrast_is_evened_out():
    config = Config.fromfile(ROOT / 'configs/supervised/res14w8_glyph100.py')
    dataset = corrupted_config(config, 'contrast', 5).val_dataloader.dataset
    assert [step['type'] for step in dataset.pipeline][:2] == [Corrupt, NormalizeContrast]
    assert len(config.val_dataloader.dataset.pipeline) + 1 == len(dataset.pipeline)


def test_the_images_of_every_data_set_that_is_wrapped_are_corrupted_once():
    config = Config.fromfile(ROOT / 'configs/supervised/res6_digits.py')
    digits = config.val_dataloader.dataset
    fold = dict(type='KFoldDataset', dataset=copy.deepcopy(digits))
    config.val_dataloader.dataset = dict(type='ConcatDataset', datasets=[digits, fold, digits])
    first, second, third = corrupted_config(config, 'contrast', 5).val_dataloader.dataset.datasets
    for dataset in (first, second.dataset, third):
        assert [getattr(step['type'], '__name__', step['type']) for step in dataset.pipeline] == [
            'Corrupt',
            'PackInputs',
        ]
    assert looked_at(config, 5).val_dataloader == config.val_dataloader


def test_views_show_what_the_augmentation_makes_and_only_where_there_is_one(found):
    alone, r2kd = found.methods
    assert not alone.pictures
    assert 'CutMix' in r2kd.augmentation
    clean, view = r2kd.pictures['clean'], r2kd.pictures['augmented']
    images, _ = digits()
    shown = images[spread_out(found.labels, 8), ..., 0]
    assert np.array_equal([picture.pixels[..., 0] for picture in clean], shown)
    assert [picture.text.split('\n')[0] for picture in clean] == [f'is {digit}' for digit in range(8)]
    assert any(not np.array_equal(*(picture.pixels for picture in pair)) for pair in zip(clean, view))
    assert r2kd.augmented_view.keys() == r2kd.clean_view.keys()
    assert not torch.equal(r2kd.augmented_view['teacher'], r2kd.clean_view['teacher'])


def test_the_cost_is_that_of_the_networks(found):
    assert [method.cost.parameters for method in found.methods] == [421, 421]
    assert found.methods[1].teacher.cost.parameters == 2 * 175_258  # teacher and pruned copy
    assert found.methods[1].teacher.cost.flops > 10 * found.methods[1].cost.flops > 0
    assert found.methods[0].cost.latency > 0


@pytest.mark.slow
def test_fewer_images_are_drawn_from_the_set_and_give_the_same_each_time(groups):
    few, again = (measure(groups, 10, [('fog', 3)], report=lambda line: None) for _ in range(2))
    chosen = sorted(np.random.default_rng(0).choice(100, 10, replace=False))
    assert torch.equal(few.labels, digits()[1][chosen])
    for first, second in zip(few.methods, again.methods):
        assert all(torch.equal(*pair) for pair in zip(first.students, second.students))
        assert first.corrupted == second.corrupted
        assert all(torch.equal(view, second.augmented_view[name]) for name, view in first.augmented_view.items())


@pytest.mark.parametrize('indices', [None, 400, -400, list(range(1000, 1400))], ids=['all', 'first', 'last', 'listed'])
def test_images_are_drawn_from_those_of_the_run_alone(groups, indices):
    config = copy.deepcopy(groups[0].config)
    dataset = config.val_dataloader.dataset
    dataset.indices = indices
    own = list(range(1497))
    if isinstance(indices, int):
        own = own[:indices] if indices > 0 else own[indices:]
    own = indices if isinstance(indices, list) else own
    chosen = looked_at(config, 200).val_dataloader.dataset.indices
    assert len(set(chosen)) == 200
    assert set(chosen) <= set(own)
    again = looked_at(looked_at(config, 200), 50).val_dataloader.dataset.indices
    assert len(set(again)) == 50
    assert set(again) <= set(chosen)
    assert looked_at(config, 2000).val_dataloader.dataset.get('indices') == indices


@pytest.mark.slow
def test_no_class_is_missed_where_the_labels_are_periodic():
    config = Config.fromfile(ROOT / 'configs/supervised/res14w8_glyph100.py')
    dataset = looked_at(config, 2000).val_dataloader.dataset
    assert {index % 100 for index in dataset.indices} == set(range(100))  # the label of Glyph-100


def test_a_teacher_that_is_not_here_is_noted_and_left_out(tmp_path):
    write_run(tmp_path / 'r2kd', R2KD, **{'model.teacher_ckpt': 'lost.pth'})
    few = measure(find_groups([tmp_path]), 10, [], report=lambda line: None)
    assert few.methods[0].teacher is None
    assert len(few.notes) == 1
    assert 'The teacher of r2kd is not here' in few.notes[0]
    assert 'lost.pth' in few.notes[0]


def test_a_random_teacher_cannot_be_asked_again(tmp_path):
    write_run(tmp_path / 'r2kd', R2KD, **{'model.teacher_ckpt': None, 'model.allow_untrained_teacher': True})
    few = measure(find_groups([tmp_path]), 10, [], report=lambda line: None)
    assert few.methods[0].teacher is None
    assert few.notes == ['The teacher of r2kd was random and is not kept, so what needs it is left out.']
