"""An export is written only if it agrees with the student; otherwise nothing is left on disk."""

import dataclasses
import json

import exports
import pytest
import torch
import yaml
from torch import nn

from r2kd_mm.export import FORMATS, ExportError, export_student, load_student
from r2kd_mm.export.card import _teacher as teacher_row
from r2kd_mm.export.export import _write, describe
from r2kd_mm.export.network import Logits


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    return exports.write_checkpoint(tmp_path_factory.mktemp('run') / 'student.pth')


@pytest.mark.parametrize(('wrong', 'shown'), [(lambda logits: 1.001 * logits, '1.0e-03'), (lambda x: x / 0, 'nan')])
def test_what_differs_from_the_student_is_not_written(checkpoint, tmp_path, monkeypatch, wrong, shown):
    right = FORMATS['torch']
    answers = dataclasses.replace(right, load=lambda folder: lambda images: wrong(right.load(folder)(images)))
    monkeypatch.setitem(FORMATS, 'torch', answers)
    if shown == 'nan':
        monkeypatch.setattr(torch.Tensor, 'max', lambda self: torch.tensor(float('nan')))
    with pytest.raises(ExportError, match=f'on 8 images their logits differ by {shown} of the largest'):
        export_student(checkpoint, tmp_path / 'export', 'torch')
    assert not list(tmp_path.iterdir())


def test_an_interrupted_export_leaves_nothing(checkpoint, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setitem(FORMATS, 'torch', dataclasses.replace(FORMATS['torch'], load=interrupt))
    with pytest.raises(KeyboardInterrupt):
        export_student(checkpoint, tmp_path / 'export', 'torch')
    assert not list(tmp_path.iterdir())


def test_what_exists_is_left_alone(checkpoint, tmp_path):
    (tmp_path / 'mine').write_text('mine')
    with pytest.raises(FileExistsError, match='exists; give another folder'):
        export_student(checkpoint, tmp_path, 'torch')
    assert [path.name for path in tmp_path.iterdir()] == ['mine']


def test_an_unknown_format_names_the_known_ones(checkpoint, tmp_path):
    with pytest.raises(ValueError, match="one of mmpretrain, torch, safetensors, .*, got 'tflite'"):
        export_student(checkpoint, tmp_path / 'export', 'tflite')


@pytest.mark.parametrize(('hook', 'said'), [({}, 'as validated'), (dict(evaluate_on_ema=False), 'while the raw ones')])
def test_the_card_says_that_weights_are_averaged(hook, said, tmp_path):
    hooks = {'custom_hooks': [dict(type='EMAHook', **hook)]}
    checkpoint = exports.write_checkpoint(tmp_path / 'student.pth', **hooks)
    content = torch.load(checkpoint, weights_only=False)
    torch.save(dict(content, ema_state_dict=content['state_dict']), checkpoint)
    export_student(checkpoint, tmp_path / 'export', 'torch')
    assert f'| weights | averaged by EMAHook, {said}' in (tmp_path / 'export/README.md').read_text()


def test_the_card_says_where_the_student_comes_from_and_what_it_costs(checkpoint, tmp_path):
    export_student(checkpoint, tmp_path / 'export', 'torch')
    card = dict(
        line.strip('| ').split(' | ', 1)
        for line in (tmp_path / 'export/README.md').read_text().splitlines()
        if line.startswith('| ') and not line.endswith('| |')
    )
    # conv1, four convolutions of 3 x 3 x 3 x 3 with batch normalisation, the classifier
    assert card['parameters'] == f'{9 * 3 + 2 * 3 + 4 * (81 + 2 * 3) + 3 * 10 + 10:,}'
    convolutions, norms, pooling = 9 * 3 + 4 * 81, 5 * 2 * 3, 3  # a pixel
    assert card['FLOPs'].startswith(f'{8 * 8 * (convolutions + norms + pooling) + 3 * 10:,} for an image')
    assert card['accuracy/top1'].startswith('90.50 % after epoch 190')
    assert 'best 91.00 % of 3 validations' in card['accuracy/top1']
    assert card['checkpoint'] == 'student.pth, epoch 200 of 200'
    assert card['run'] == 'a_run'
    assert card['seed'] == '3'
    assert card['versions'] == 'python 3.11.7, torch 2.13.0'
    assert card['data'] == 'Digits, 300 images to train, 1497 images to validate'
    assert 'weights epoch_60.pth; top-1 accuracy: teacher 92.10 %' in card['teacher']
    assert card['method'].startswith('R2KD; ')
    assert 'RankDistanceLoss(loss_weight=2.0)' in card['method']
    assert 'augmented view by CutMix(alpha=1.0)' in card['method']


def test_the_card_begins_with_what_hubs_read_and_ends_with_all_classes(checkpoint, tmp_path):
    export_student(checkpoint, tmp_path / 'export', 'torch')
    _, front, text = (tmp_path / 'export/README.md').read_text().split('---\n', 2)
    assert yaml.safe_load(front) == dict(
        license='unknown',
        library_name='pytorch',
        pipeline_tag='image-classification',
        tags=['image-classification', 'knowledge-distillation', 'r2kd'],
        metrics=['accuracy'],
    )
    assert text.lstrip().startswith('# ResNet')
    classes = text.partition('## Classes\n\n')[2].splitlines()
    assert classes == [f'{index}. {name}' for index, name in enumerate(map(str, range(10)))]


def test_the_card_of_a_classifier_without_teacher_says_so(tmp_path):
    checkpoint = exports.write_checkpoint(tmp_path / 'student.pth', 'supervised/res6_digits.py')
    export_student(checkpoint, tmp_path / 'export', 'torch')
    card = (tmp_path / 'export/README.md').read_text()
    assert '| teacher | none |' in card
    assert '| method | training on labels, without a teacher |' in card


def test_the_licence_stands_in_card_and_description(checkpoint, tmp_path):
    export_student(checkpoint, tmp_path / 'export', 'torch', licence='mit')
    assert (tmp_path / 'export/README.md').read_text().startswith('---\nlicense: mit\n')
    assert json.loads((tmp_path / 'export/export.json').read_text())['license'] == 'MIT'
    with pytest.raises(ValueError, match='--license takes an identifier of SPDX'):
        export_student(checkpoint, tmp_path / 'other', 'torch', licence='free')
    assert not (tmp_path / 'other').exists()


def test_the_card_names_the_networks_of_all_teachers_without_their_folders():
    timm = dict(type='TimmClassifier', model_name='resnet34', num_classes=3)
    local = dict(type='HuggingFaceClassifier', model_name='/home/me/vit', num_labels=3)
    members = dict(
        teacher=dict(teacher=dict(type='AdaptedInputs', size=40, network=timm), teacher_ckpt='/runs/a.pth'),
        teacher_2=dict(teacher=dict(type='AdaptedInputs', network=local)),
        pruned=dict(copy_of='teacher', pruner=dict(type='MagnitudePruner')),
    )
    model = dict(architecture={}, teacher=dict(type='TeacherEnsemble', members=members))
    assert teacher_row(model, dict(teacher_accuracies=dict(teacher=92.0))) == (
        'TimmClassifier(model_name=resnet34, num_classes=3), weights a.pth and HuggingFaceClassifier(model_name=vit, '
        'num_labels=3), weights of its own and a copy of teacher; top-1 accuracy: teacher 92.00 %'
    )
    alone = dict(architecture={}, teacher=dict(type='FileNetwork', path='/home/me/model.onnx'), teacher_ckpt=None)
    assert teacher_row(alone, {}) == 'FileNetwork(path=model.onnx), weights of its own'


class EightImages(nn.Module):
    """Takes eight images at a time, no more and no less."""

    def forward(self, images, mode='tensor'):
        return images.reshape(8, -1)[:, :10]


def test_a_shape_that_a_format_cannot_take_is_named(checkpoint, tmp_path):
    student = load_student(checkpoint)
    fixed = dataclasses.replace(student, network=Logits(EightImages()))
    description = describe(fixed, 'exported', 'float32', student.preprocessing)
    with pytest.raises(ExportError) as caught:
        _write(fixed, description, tmp_path)
    expected = 'the format exported cannot take this network for images of shape (1, 8, 8) (channels, height, width)'
    assert expected in str(caught.value)
    assert str(caught.value).endswith('take another format')
