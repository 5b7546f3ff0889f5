import pickle
import re

import pytest
import torch
import toys
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope

from r2kd_mm.classifiers import classifier_logits, num_classes
from r2kd_mm.registry import MODELS
from r2kd_mm.teachers.build import build_teacher, check_same_inputs
from r2kd_mm.zoo import build_classifier


@pytest.fixture
def trained():
    torch.manual_seed(3)
    model = MODELS.build(toys.classifier())
    model.train()(torch.randn(16, 3, 8, 8))  # running statistics unlike those of a new network
    return model.eval()


@pytest.mark.parametrize(
    'wrap',
    [
        lambda state: state,
        lambda state: {'model': state},
        lambda state: {'state_dict': state, 'meta': {'epoch': 3}},
        lambda state: {'state_dict': {f'module.{name}': value for name, value in state.items()}},
        lambda state: {
            'state_dict': {f'architecture.{name}': value for name, value in state.items()}
            | {f'teacher.{name}': value for name, value in state.items()}
        },
    ],
    ids=['bare', 'model', 'runner', 'parallel', 'distilled'],
)
def test_loads_every_form_of_checkpoint_exactly(tmp_path, trained, wrap):
    path = tmp_path / 'teacher.pth'
    torch.save(wrap(trained.state_dict()), path)
    teacher = build_teacher(toys.classifier(), str(path)).eval()
    images, _ = toys.batch()
    assert torch.equal(classifier_logits(teacher, images), classifier_logits(trained, images))


@pytest.mark.slow
def test_builds_a_teacher_by_its_mmpretrain_model_name():
    teacher = build_teacher('resnet18_8xb16_cifar10', None, allow_untrained=True)
    assert type(teacher.backbone).__name__ == 'ResNet_CIFAR'
    assert num_classes(teacher) == 10


def test_builds_a_teacher_by_its_mmpretrain_config_name():
    teacher = build_teacher('mmpretrain::resnet/resnet18_8xb16_cifar10.py', None, allow_untrained=True)
    assert type(teacher.backbone).__name__ == 'ResNet_CIFAR'


def test_takes_a_network_that_is_ready(trained):
    assert build_teacher(trained, None) is trained


def test_an_untrained_teacher_is_initialised_by_its_own_rule():
    config = toys.classifier()
    config['head']['init_cfg'] = dict(type='Constant', layer='Linear', val=0.5)
    teacher = build_teacher(config, None, allow_untrained=True)
    assert (teacher.head.layers[0].fc.weight == 0.5).all()


def test_refuses_a_teacher_without_weights():
    with pytest.raises(ValueError, match='no weights: set teacher_ckpt .* allow_untrained_teacher=True'):
        build_teacher(toys.classifier(), None)


def test_names_the_published_weights_of_a_teacher_given_by_name():
    with pytest.raises(ValueError, match=r'mmpretrain publishes https://\S*resnet18\S*\.pth'):
        build_teacher('resnet18_8xb16_cifar10', None)


def test_refuses_an_unknown_name():
    with pytest.raises(ValueError, match='resnet19'):
        build_teacher('resnet19_of_nobody', None)


def test_refuses_a_missing_checkpoint(tmp_path):
    with pytest.raises(FileNotFoundError, match='nowhere.pth'):
        build_teacher(toys.classifier(), str(tmp_path / 'nowhere.pth'))


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ([1, 2], 'holds one list; expected a dict of weights'),
        (torch.zeros(2), 'holds one Tensor; expected a dict of weights'),
        ({}, 'holds no weights: expected'),
        ({'epoch': 3}, r"holds no weights: expected .* got a dict with the keys \['epoch'\]"),
    ],
)
def test_refuses_a_file_without_weights(tmp_path, content, message):
    path = tmp_path / 'other.pth'
    torch.save(content, path)
    with pytest.raises(ValueError, match=f'other.pth.*{message}'):
        build_teacher(toys.classifier(), str(path))


def test_refuses_a_file_that_is_no_checkpoint(tmp_path):
    path = tmp_path / 'notes.pth'
    path.write_text('not a checkpoint')
    with pytest.raises(ValueError, match='notes.pth'):
        build_teacher(toys.classifier(), str(path))


class Hostile:
    def __init__(self, victim):
        self.victim = victim

    def __reduce__(self):
        return open, (str(self.victim), 'w')


def test_a_hostile_pickle_does_not_run(tmp_path):
    path, victim = tmp_path / 'hostile.pth', tmp_path / 'victim'
    path.write_bytes(pickle.dumps(Hostile(victim)))
    with pytest.raises(ValueError, match='hostile.pth'):
        build_teacher(toys.classifier(), str(path))
    torch.save({'state_dict': Hostile(victim)}, path)
    with pytest.raises(ValueError, match='hostile.pth'):
        build_teacher(toys.classifier(), str(path))
    assert not victim.exists()


def test_refuses_weights_of_another_width_or_class_count_and_names_them(tmp_path, trained):
    path = tmp_path / 'teacher.pth'
    torch.save(trained.state_dict(), path)
    with pytest.raises(
        ValueError,
        match=r'does not fit this ImageClassifier: size mismatch for head.*'
        r'\[5, 32\]\) from checkpoint.*\[7, 32\]',
    ):
        build_teacher(toys.classifier(num_classes=7), str(path))
    with pytest.raises(ValueError, match='size mismatch for backbone.conv1.weight'):
        build_teacher(toys.classifier(width=8), str(path))


def test_refuses_weights_of_a_deeper_network_though_every_weight_would_find_its_place(tmp_path):
    deep, shallow = toys.classifier(), toys.classifier()
    deep['backbone']['depth'] = 34
    path = tmp_path / 'deep.pth'
    torch.save(MODELS.build(deep).state_dict(), path)
    with pytest.raises(ValueError, match='Unexpected key.*backbone.layer1.2'):
        build_teacher(shallow, str(path))


def test_needs_logits_of_two_dimensions():
    config = toys.classifier()
    config['head'] = None
    with pytest.raises(TypeError, match=r'must return logits of shape \(N, num_classes\), got a tuple'):
        classifier_logits(MODELS.build(config), torch.zeros(2, 3, 8, 8))


def preprocessor(mean):
    return dict(type='ClsDataPreprocessor', mean=[mean] * 3, std=[60.0] * 3, to_rgb=True)


def test_refuses_a_teacher_that_expects_other_inputs():
    with DefaultScope.overwrite_default_scope('r2kd_mm'):
        teacher = MODELS.build(toys.classifier(data_preprocessor=preprocessor(120.0)))
        check_same_inputs(teacher, MODELS.build(preprocessor(120.0)))
        with pytest.raises(ValueError, match=r'normalised with .*120.0.* but data_preprocessor gives it .*100.0'):
            check_same_inputs(teacher, MODELS.build(preprocessor(100.0)))


def test_says_what_a_teacher_expects_where_the_run_does_not_say_what_it_gives(caplog):
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    try:
        with DefaultScope.overwrite_default_scope('r2kd_mm'):
            teacher = MODELS.build(toys.classifier(data_preprocessor=preprocessor(120.0)))
            check_same_inputs(teacher, MODELS.build(preprocessor(120.0)))
            assert 'normalised' not in caplog.text
            check_same_inputs(teacher, MODELS.build(dict(type='ClsDataPreprocessor')))
    finally:
        logger.removeHandler(caplog.handler)
    assert re.search('trained on images normalised with .*120.* its pipeline must do so', caplog.text)


@pytest.mark.parametrize('prefix', [None, 'net.'])
def test_a_teacher_may_load_its_weights_by_its_own_init_cfg(tmp_path, trained, prefix):
    path = str(tmp_path / 'teacher.pth')
    torch.save({f'{prefix or ""}{name}': weight for name, weight in trained.state_dict().items()}, path)
    init_cfg = dict(type='Pretrained', checkpoint=path, prefix=prefix)
    teacher = build_teacher(dict(toys.classifier(), init_cfg=init_cfg), None).eval()
    images, _ = toys.batch()
    assert torch.equal(classifier_logits(teacher, images), classifier_logits(trained, images))
    with pytest.raises(ValueError, match='does not fit this ImageClassifier'):
        build_teacher(dict(toys.classifier(num_classes=7), init_cfg=init_cfg), None)


def test_the_prefix_that_would_fit_is_named(tmp_path, trained):
    path = str(tmp_path / 'teacher.pth')
    torch.save({f'net.{name}': weight for name, weight in trained.state_dict().items()}, path)
    with pytest.raises(ValueError, match=r"The names fit with prefix='net\.'"):
        build_teacher(toys.classifier(), path)


def test_a_network_of_the_zoo_that_loads_its_checkpoint_is_a_teacher_with_weights(tmp_path):
    saved = build_classifier('cifar/resnet8')
    torch.save(saved.state_dict(), tmp_path / 'teacher.pth')
    config = dict(type=build_classifier, name='cifar/resnet8', checkpoint=str(tmp_path / 'teacher.pth'))
    teacher = build_teacher(config, None)
    assert all(torch.equal(weight, saved.state_dict()[name]) for name, weight in teacher.state_dict().items())
    with pytest.raises(ValueError, match='the teacher has no weights'):
        build_teacher(dict(config, checkpoint=None), None)


def test_the_name_of_a_set_of_weights_chooses_it(tmp_path, trained):
    path = tmp_path / 'teacher.pth'
    raw = {name: torch.zeros_like(weight) for name, weight in trained.state_dict().items()}
    torch.save({'state_dict': raw, 'state_dict_ema': trained.state_dict()}, path)
    images, _ = toys.batch()
    averaged = build_teacher(toys.classifier(), f'{path}#state_dict_ema').eval()
    assert torch.equal(classifier_logits(averaged, images), classifier_logits(trained, images))
    assert not build_teacher(toys.classifier(), str(path)).backbone.conv1.weight.any()


@pytest.mark.parametrize(
    'wrap',
    [
        lambda state: {'state_dict': {f'model.{name}': value for name, value in state.items()}, 'epoch': 3},
        lambda state: {
            'state_dict': {f'model._orig_mod.{name}': value for name, value in state.items()}
            | {'criterion.weight': torch.ones(2)}
        },
        lambda state: {f'module._orig_mod.{name}': value for name, value in state.items()},
        lambda state: {'model_ema': {f'module.{name}': value for name, value in state.items()}, 'epoch': 3},
    ],
    ids=['lightning', 'compiled lightning', 'parallel and compiled', 'average'],
)
def test_loads_what_training_loops_of_others_save(tmp_path, trained, wrap):
    path = tmp_path / 'teacher.pth'
    torch.save(wrap(trained.state_dict()), path)
    images, _ = toys.batch()
    teacher = build_teacher(toys.classifier(), str(path)).eval()
    assert torch.equal(classifier_logits(teacher, images), classifier_logits(trained, images))


def test_loads_safetensors(tmp_path, trained):
    safetensors = pytest.importorskip('safetensors.torch')
    path = tmp_path / 'teacher.safetensors'
    safetensors.save_file(trained.state_dict(), path)
    images, _ = toys.batch()
    teacher = build_teacher(toys.classifier(), str(path)).eval()
    assert torch.equal(classifier_logits(teacher, images), classifier_logits(trained, images))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r'teacher\.safetensors. is damaged'):
        build_teacher(toys.classifier(), str(path))


def test_says_which_prefixes_were_tried(tmp_path, trained):
    torch.save({'encoder.weight': torch.ones(2)}, tmp_path / 'teacher.pth')
    with pytest.raises(ValueError, match=r'Prefixes that were tried: module\., _orig_mod\., architecture\., model\.'):
        build_teacher(toys.classifier(), str(tmp_path / 'teacher.pth'))
