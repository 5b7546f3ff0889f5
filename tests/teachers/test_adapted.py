"""An adapted teacher resizes and normalises the student's view for itself, and returns logits for the run's classes."""

import pytest
import torch
import toys
from torch.nn import functional as F

from r2kd_mm.classifiers import classifier_logits, num_classes
from r2kd_mm.distillers import R2KD, LogitDistiller
from r2kd_mm.losses import KLDivergenceLoss
from r2kd_mm.registry import MODELS
from r2kd_mm.teachers import AdaptedInputs
from r2kd_mm.teachers.build import build_teacher, check_same_inputs

IMAGENET = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
HALF = dict(mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True)
CAFFE = dict(mean=[103.53, 116.28, 123.675], std=[1.0] * 3, to_rgb=False)
CLASSES = tuple(f'row {index}' for index in range(toys.NUM_CLASSES))


@pytest.fixture
def network():
    torch.manual_seed(3)
    return MODELS.build(toys.classifier()).eval()


def preprocessor(**normalisation):
    return MODELS.build(dict(type='ClsDataPreprocessor', **normalisation))


def adapted(network, given, **fields):
    teacher = AdaptedInputs(network, **fields).eval()
    check_same_inputs(teacher, preprocessor(**given))
    return teacher


@pytest.mark.parametrize(
    ('size', 'interpolation', 'own'),
    [(12, 'bicubic', HALF), ((6, 10), 'bilinear', CAFFE), (5, 'nearest', IMAGENET), (None, 'bilinear', HALF)],
)
@torch.no_grad()
def test_the_logits_are_those_of_resize_normalise_and_model_by_hand(network, size, interpolation, own):
    bgr = torch.randint(256, (4, 3, 8, 8), generator=torch.Generator().manual_seed(0)).float()  # as OpenCV reads them
    view = preprocessor(**IMAGENET)(dict(inputs=bgr))['inputs']
    teacher = adapted(network, IMAGENET, size=size, interpolation=interpolation, **own)

    pixels = bgr.flip(1) if own['to_rgb'] else bgr
    if size is not None:
        smooth = {} if interpolation == 'nearest' else dict(antialias=True)
        pixels = F.interpolate(pixels, size, mode=interpolation, **smooth)
    mean, std = (torch.tensor(own[name]).view(1, 3, 1, 1) for name in ('mean', 'std'))
    expected = network((pixels - mean) / std)
    assert (classifier_logits(teacher, view) - expected).abs().max() <= 1e-5 * expected.abs().max()


@torch.no_grad()
def test_a_grey_view_is_repeated_for_a_network_of_three_channels(network):
    pixels = torch.rand(4, 1, 8, 8) * 255
    teacher = adapted(network, dict(mean=[77.9], std=[95.9]), **HALF)
    expected = network(((pixels - 127.5) / 127.5).expand(-1, 3, -1, -1))
    assert torch.allclose(teacher((pixels - 77.9) / 95.9), expected, atol=1e-5)


@torch.no_grad()
def test_the_logits_of_the_run_s_classes_are_picked_by_name(network):
    wanted = ['row 3', 'row 0']
    teacher = adapted(network, HALF, classes=wanted, network_classes=CLASSES, **HALF)
    images, _ = toys.batch()
    assert num_classes(teacher) == 2
    assert torch.equal(teacher(images), network(images)[:, [3, 0]])


def test_the_names_may_stand_in_a_file(network, tmp_path):
    (tmp_path / 'names.txt').write_text('\n'.join(CLASSES) + '\n')
    teacher = AdaptedInputs(network, classes=['row 4', 'row 2'], network_classes=str(tmp_path / 'names.txt'))
    assert teacher._columns.tolist() == [4, 2]


@pytest.mark.parametrize(
    ('names', 'message'),
    [
        (CLASSES, "does not know 1 of the 2 classes of the data: 'column 1'; its classes are 'row 0', 'row 1'"),
        (CLASSES[:3], 'has 5 logits, and 3 names are given'),
        (('row 0', 'row 0', 'column 1', 'x', 'y'), "several classes called 'row 0'"),
    ],
)
def test_refuses_classes_that_cannot_be_matched(network, names, message):
    with pytest.raises(ValueError, match=message):
        AdaptedInputs(network, classes=['row 0', 'column 1'], network_classes=names)


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        (dict(size=0), r'size of AdaptedInputs must be a side in pixels or \(height, width\), got 0'),
        (dict(std=[0.0, 1.0, 1.0]), 'std above 0'),
        (dict(interpolation='cubic'), "must be one of .*'bicubic'.* got 'cubic'"),
    ],
)
def test_refuses_inputs_out_of_range(network, fields, message):
    with pytest.raises(ValueError, match=message):
        AdaptedInputs(network, **fields)


def test_refuses_a_run_that_does_not_say_how_it_normalises(network):
    with pytest.raises(ValueError, match='its data_preprocessor states no mean and std'):
        check_same_inputs(AdaptedInputs(network), MODELS.build(dict(type='ClsDataPreprocessor')))


class TestOfACheckpoint:
    @pytest.fixture
    def path(self, network, tmp_path):
        meta = dict(dataset_meta=dict(classes=CLASSES), r2kd_mm=dict(normalisation=HALF))
        torch.save(dict(state_dict=network.state_dict(), meta=meta), tmp_path / 'teacher.pth')
        return str(tmp_path / 'teacher.pth')

    def test_weights_and_classes_are_those_of_the_network_within(self, path, network):
        config = dict(type='AdaptedInputs', network=toys.classifier(), classes=['row 1', 'row 4'], size=8, **HALF)
        teacher = build_teacher(config, path).eval()
        check_same_inputs(teacher, preprocessor(**HALF))
        images, _ = toys.batch()
        assert torch.equal(classifier_logits(teacher, images), network(images)[:, [1, 4]])
        assert teacher._dataset_meta['classes'] == ('row 1', 'row 4')

    def test_refuses_another_normalisation_than_that_of_its_training(self, path):
        teacher = build_teacher(dict(type='AdaptedInputs', network=toys.classifier(), **CAFFE), path)
        with pytest.raises(ValueError, match=r'trained on images normalised with .*127.5.* but AdaptedInputs gives'):
            check_same_inputs(teacher, preprocessor(**HALF))

    def test_a_student_learns_from_it_and_from_its_pruned_copy(self, path):
        model = R2KD(
            toys.classifier(),
            dict(type='AdaptedInputs', network=toys.classifier(), size=12, interpolation='bicubic', **HALF),
            dict(loss_kd=dict(type=KLDivergenceLoss)),
            teacher_ckpt=path,
            pruner=dict(type='MagnitudePruner', amount=0.1),
            augmentation=None,
            data_preprocessor=preprocessor(**IMAGENET),
        )
        images, samples = toys.batch()
        losses = model.loss(images, samples)
        assert losses['clean.loss_kd'].isfinite()
        full = classifier_logits(model.teacher, images)
        assert torch.allclose(model.ask('teacher', images), full, atol=1e-5)
        assert not torch.allclose(model.ask('pruned_teacher', images), full, atol=1e-3)


def test_without_weights_it_is_refused_as_any_teacher():
    with pytest.raises(ValueError, match='the teacher has no weights'):
        LogitDistiller(
            toys.classifier(), dict(type='AdaptedInputs', network=toys.classifier()), dict(loss_kd=KLDivergenceLoss())
        )
