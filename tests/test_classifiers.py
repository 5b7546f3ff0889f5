"""The logits are found in the output of any kind of network; otherwise an error names the network."""

from collections import namedtuple

import pytest
import torch
import toys
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from mmpretrain.models.heads import ClsHead, MultiLabelLinearClsHead
from mmpretrain.structures import DataSample
from torch import nn

from r2kd_mm import classifiers
from r2kd_mm.classifiers import as_logits, check_single_label, classifier_logits, num_classes, predicted_logits
from r2kd_mm.registry import MODELS
from r2kd_mm.teachers.build import build_teacher

LOGITS = torch.arange(10.0).view(2, 5)
KL = dict(type='KLDivergenceLoss')


def build(config):
    with DefaultScope.overwrite_default_scope('r2kd_mm'):
        return MODELS.build(config)


def distiller(student, teacher=None, **fields):
    fields = dict(losses=dict(loss_kd=KL), allow_untrained_teacher=True, **fields)
    return build(dict(type='LogitDistiller', architecture=student, teacher=teacher or toys.classifier(), **fields))


def with_head(**head):
    return dict(toys.classifier(), head=dict(dict(num_classes=toys.NUM_CLASSES, in_channels=32), **head))


def predictions(model, images):
    """The scores by which a classifier predicts."""
    return torch.stack([sample.pred_score for sample in model(images, mode='predict')])


class Answer:
    logits = LOGITS


@pytest.mark.parametrize(
    'output',
    [
        LOGITS,
        dict(logits=LOGITS, hidden=None),
        namedtuple('GoogLeNetOutputs', 'logits aux2 aux1')(LOGITS, 2 * LOGITS, 3 * LOGITS),
        namedtuple('InceptionOutputs', 'logits aux_logits')(LOGITS, 2 * LOGITS),
        Answer(),
    ],
    ids=lambda output: type(output).__name__,
)
def test_understood_outputs(output):
    assert as_logits(output, nn.Identity()) is LOGITS


@pytest.mark.parametrize(
    ('output', 'described'),
    [
        ((LOGITS,), 'a tuple of 1'),  # features, of a classifier without a head
        ((LOGITS, LOGITS), 'a tuple of 2'),
        (dict(task1=LOGITS, task2=LOGITS), r"a dict with the keys \['task1', 'task2'\]"),
        (torch.zeros(2, 5, 7), r'a tensor of shape \(2, 5, 7\)'),
        (None, 'a NoneType'),
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_outputs_are_named(output, described):
    with pytest.raises(TypeError, match=f'Identity must return logits of shape .*, got {described}; does'):
        as_logits(output, nn.Identity())


class Wrapped(BaseModel):
    """A classifier around a network of another package, whose loss reads the logits as that package says."""

    def __init__(self, network):
        super().__init__()
        self.model = network

    def forward(self, inputs, data_samples=None, mode='tensor'):
        output = self.model(inputs)
        if mode == 'tensor':
            return output
        logits = getattr(output, 'logits', output)
        return dict(loss=nn.functional.cross_entropy(logits, torch.cat([sample.gt_label for sample in data_samples])))


class GoogLeNet(nn.Module):
    """Returns what torchvision's returns: in training an object with the logits of two auxiliary classifiers."""

    Outputs = namedtuple('GoogLeNetOutputs', 'logits aux_logits2 aux_logits1')

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3 * toys.IMAGE_SIZE**2, toys.NUM_CLASSES)

    def forward(self, x):
        logits = self.fc(x.flatten(1))
        return self.Outputs(logits, -logits, -logits) if self.training else logits


@pytest.mark.parametrize('joint_views', [False, True])
def test_a_network_with_auxiliary_classifiers_studies_and_teaches_by_its_logits(joint_views):
    student, teacher = Wrapped(GoogLeNet()), GoogLeNet()
    model = distiller(student, teacher, augmentation=dict(type='Cutout', length=3), joint_views=joint_views).train()
    images, samples = toys.batch()
    losses = model.loss(images, samples)
    torch.testing.assert_close(model.step_logits['clean', 'student'], student.model.fc(images.flatten(1)))
    torch.testing.assert_close(model.step_logits['clean', 'teacher'], teacher.fc(images.flatten(1)))
    torch.testing.assert_close(model.step_logits['augmented', 'student'].shape, torch.Size([6, 5]))
    sum(losses.values()).backward()
    assert student.model.fc.weight.grad.abs().sum() > 0


def test_torchvision_networks_teach_as_they_are():
    torchvision = pytest.importorskip('torchvision')
    network = torchvision.models.googlenet(num_classes=5, aux_logits=True, init_weights=False)
    images = torch.randn(2, 3, 32, 32)
    teacher = distiller(toys.classifier(), network).teacher
    assert classifier_logits(teacher, images).shape == (2, 5)
    network.train()
    torch.testing.assert_close(as_logits(network(images), network).shape, torch.Size([2, 5]))


def test_conformer_predicts_by_the_sum_of_its_two_heads_as_student_and_as_teacher():
    arch = dict(embed_dims=48, channel_ratio=1, num_heads=2, depths=3)
    config = dict(
        type='ImageClassifier',
        backbone=dict(type='Conformer', arch=arch, base_channels=16),
        head=dict(type='ConformerHead', num_classes=5, in_channels=[64, 48]),
    )
    student, teacher = build(config), build(config)
    images = torch.randn(2, 3, 64, 64)
    model = distiller(student, teacher)
    model.eval()
    _, samples = toys.batch(2)
    model.loss(images, samples)
    for name, network in (('student', student), ('teacher', teacher)):
        found = model.step_logits['clean', name].softmax(dim=1)
        torch.testing.assert_close(found, predictions(network, images))


@pytest.mark.parametrize('subcenters', [1, 2])
def test_a_margin_head_is_distilled_by_what_it_predicts(subcenters):
    student = with_head(type='ArcFaceClsHead', num_subcenters=subcenters)
    model = distiller(student, with_head(type='ArcFaceClsHead')).eval()
    images, samples = toys.batch()
    losses = model.loss(images, samples)
    for name, network in (('student', model.architecture), ('teacher', model.teacher)):
        found = model.step_logits['clean', name].softmax(dim=1)
        torch.testing.assert_close(found, predictions(network, images))
    (margin,) = model.architecture(images, samples, mode='loss').values()
    torch.testing.assert_close(losses['student.loss'], margin)  # its own loss keeps the margin
    assert margin > nn.functional.cross_entropy(
        model.step_logits['clean', 'student'], torch.cat([sample.gt_label for sample in samples])
    )


@pytest.mark.parametrize(
    ('inputs', 'options'),
    [
        ((torch.tensor([0, 1, 2, 0]),), {}),
        ((), dict(target=torch.eye(4, 3), scale=2)),
        ((), dict(target=[DataSample()])),
        ((), dict(scale=2)),
    ],
    ids=['indices', 'soft labels', 'data samples', 'no labels'],
)
@pytest.mark.parametrize('is_named', [False, True])
def test_labels_are_left_out_of_a_second_call_and_other_arguments_are_kept(inputs, options, is_named):
    class Head(nn.Module):
        def forward(self, feats, target=None, scale=1):
            return scale * feats - (0 if target is None else 100)

    head, feats = Head(), torch.arange(12.0).view(4, 3)
    if is_named:
        options = dict(feats=feats, **dict(zip(('target',), inputs)), **options)
        inputs = ()
    else:
        inputs = (feats, *inputs)
    found = predicted_logits(head, inputs, options, head(*inputs, **options))
    torch.testing.assert_close(found, options.get('scale', 1) * feats)


def test_a_head_that_needs_labels_is_named():
    class Marginal(ClsHead):
        def forward(self, feats, target):
            return feats[-1][:, :5]

        def loss(self, feats, data_samples):
            return dict(loss=self(feats, torch.cat([sample.gt_label for sample in data_samples])).mean())

    model = distiller(toys.classifier())
    model.architecture.head = Marginal()
    with pytest.raises(TypeError, match='Marginal gives no logits without the labels .* a default of None'):
        model.loss(*toys.batch())


def test_a_head_that_is_not_called_is_named():
    class Direct(ClsHead):
        def loss(self, feats, data_samples):
            return dict(loss=feats[-1].mean())

    model = distiller(toys.classifier())
    model.architecture.head = Direct()
    with pytest.raises(TypeError, match='computes its loss without calling its Direct, so it shows no logits'):
        model.loss(*toys.batch())


class TestSeveralLabels:
    @pytest.mark.parametrize('owner', ['student', 'teacher'])
    @pytest.mark.parametrize('head', ['MultiLabelLinearClsHead', 'CSRAClsHead'])
    def test_a_head_for_several_labels_is_refused(self, owner, head):
        extra = dict(num_heads=1, lam=0.1) if head == 'CSRAClsHead' else {}
        networks = dict(student=toys.classifier(), teacher=toys.classifier())
        networks[owner] = with_head(type=head, **extra)
        with pytest.raises(ValueError, match=rf'the {owner} predicts several labels an image by sigmoids \({head}\)'):
            distiller(**networks)

    def test_a_student_trained_on_sigmoids_is_refused_and_evaluated(self):
        loss = dict(type='CrossEntropyLoss', use_sigmoid=True)
        student = with_head(type='LinearClsHead', loss=loss)
        with pytest.raises(ValueError, match=r'trained by CrossEntropyLoss on sigmoids \(use_sigmoid=True\)'):
            distiller(student)
        build(dict(type='LogitDistiller', architecture=student, teacher=None, losses=dict(loss_kd=KL)))
        distiller(student, task_loss_weight=0.0)  # its own loss is not trained
        distiller(toys.classifier(), student)  # a teacher trained so predicts by its largest logit all the same

    @pytest.mark.parametrize('last', [nn.Sigmoid, nn.Softmax])
    def test_a_network_that_ends_in_probabilities_is_refused(self, last):
        network = nn.Sequential(nn.Flatten(), nn.Linear(3 * toys.IMAGE_SIZE**2, 5), last())
        with pytest.raises(ValueError, match=f'the teacher ends in a {last.__name__}, so it gives probabilities'):
            distiller(toys.classifier(), network)

    def test_a_softmax_that_is_registered_and_not_returned_is_warned_of(self, monkeypatch):
        class Tutorial(nn.Module):
            """Has a softmax for its predictions alone."""

            def __init__(self):
                super().__init__()
                self.fc = nn.Linear(3 * toys.IMAGE_SIZE**2, 5)
                self.softmax = nn.Softmax(dim=1)

            def forward(self, x):
                return self.fc(x.flatten(1))

        logged = []
        monkeypatch.setattr(classifiers, 'print_log', lambda message, **_: logged.append(message))
        distiller(toys.classifier(), Tutorial())
        assert logged[0].startswith('The teacher has a Softmax as its last module, and must not return its probabiliti')

    def test_the_base_of_heads_for_several_labels_is_known(self):
        model = build(toys.classifier())
        model.head = MultiLabelLinearClsHead(num_classes=5, in_channels=32)
        with pytest.raises(ValueError, match='the student predicts several labels'):
            check_single_label(model, 'student', trains=True)


class TestHuggingFace:
    """Networks of transformers, from a folder that save_pretrained wrote."""

    @pytest.fixture
    def folder(self, tmp_path):
        transformers = pytest.importorskip('transformers')
        if not transformers.is_torch_available():
            pytest.skip('this version of transformers wants a later torch')
        config = transformers.ViTConfig(
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            image_size=toys.IMAGE_SIZE,
            patch_size=4,
            num_labels=toys.NUM_CLASSES,
            hidden_dropout_prob=0.0,
        )
        transformers.ViTForImageClassification(config).save_pretrained(tmp_path)
        return str(tmp_path)

    def test_studies_and_teaches(self, folder):
        import transformers

        student = dict(type='HuggingFaceClassifier', model_name=folder, pretrained=True)
        teacher = transformers.AutoModelForImageClassification.from_pretrained(folder)
        images, samples = toys.batch()
        expected = teacher.eval()(images).logits
        assert num_classes(teacher) == num_classes(build(student)) == toys.NUM_CLASSES
        for kind in (teacher, student):
            for joint_views in (False, True):
                augmentation = dict(type='Cutout', length=3)
                model = distiller(student, kind, augmentation=augmentation, joint_views=joint_views).train()
                losses = model.loss(images, samples)
                for network in ('student', 'teacher'):
                    torch.testing.assert_close(model.step_logits['clean', network], expected)
                assert losses['clean.loss_kd'].abs() < 1e-6
                sum(losses.values()).backward()

    def test_a_teacher_without_its_classifier_is_refused(self, folder, tmp_path):
        import transformers

        whole = transformers.ViTForImageClassification.from_pretrained(folder)
        whole.vit.save_pretrained(tmp_path / 'backbone')
        teacher = dict(type='HuggingFaceClassifier', model_name=str(tmp_path / 'backbone'), pretrained=True)
        message = r'the teacher lacks weights: .*backbone. holds none for \d tensors of its ViTForImageClassification, '
        with pytest.raises(ValueError, match=f'{message}the first is classifier.bias; give a network that was trained'):
            build_teacher(teacher, None)
        other = dict(teacher, model_name=folder, num_labels=3, ignore_mismatched_sizes=True)
        with pytest.raises(ValueError, match='holds none for 2 tensors .* the first is classifier.bias'):
            build_teacher(other, None)
        torch.save(whole.state_dict(), tmp_path / 'teacher.pth')
        loaded = build_teacher(dict(teacher, num_labels=toys.NUM_CLASSES), str(tmp_path / 'teacher.pth'))
        assert torch.equal(loaded.model.classifier.weight, whole.classifier.weight)

    def test_one_for_several_labels_is_refused(self, folder):
        student = build(dict(type='HuggingFaceClassifier', model_name=folder))
        student.model.config.problem_type = 'multi_label_classification'
        with pytest.raises(ValueError, match='the student predicts several labels an image'):
            distiller(student)


class TestTimm:
    def test_a_distillation_token_is_part_of_the_mean_that_predicts(self):
        timm = pytest.importorskip('timm')
        fields = dict(img_size=8, patch_size=4, embed_dim=8, depth=1, num_heads=2, num_classes=5)
        config = dict(type='TimmClassifier', model_name='deit_tiny_distilled_patch16_224', **fields)
        student, teacher = build(config), timm.create_model(config['model_name'], **fields)
        model = distiller(student, teacher).train()
        images, samples = toys.batch()
        model.loss(images, samples)
        torch.testing.assert_close(model.step_logits['clean', 'student'], student.eval().model(images))
        torch.testing.assert_close(model.step_logits['clean', 'teacher'], teacher.eval()(images))
        student.train().model.set_distilled_training(True)  # two predictions, of which nobody says how they combine
        with pytest.raises(TypeError, match='VisionTransformerDistilled must return logits .* got a tuple of 2'):
            model.loss(images, samples)
