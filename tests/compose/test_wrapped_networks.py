"""Students that mmpretrain wraps (timm, HuggingFace, LoRA): a checkpoint restores all their weights."""

import copy
import json
import re

import pytest
import toolbox
import torch
import toys
from mmengine.config import Config
from mmengine.hooks import EMAHook
from mmengine.model import ExponentialMovingAverage
from mmengine.registry import DefaultScope
from mmengine.runner.checkpoint import get_state_dict, load_state_dict

from r2kd_mm.export import load_student
from r2kd_mm.registry import MODELS
from r2kd_mm.teachers.build import build_teacher

timm = pytest.importorskip('timm', reason='networks of timm need the package timm')

SMALL = dict(img_size=toys.IMAGE_SIZE, patch_size=4, embed_dim=16, depth=1, num_heads=2)
TIMM = dict(
    resnet=dict(model_name='test_resnet'),
    vit=dict(model_name='vit_tiny_patch16_224', **SMALL),
    deit=dict(model_name='deit_tiny_distilled_patch16_224', **SMALL),
)


@pytest.fixture(scope='session')
def huggingface_folder(tmp_path_factory):
    """A folder that ``save_pretrained`` wrote, which is all that needs no network."""
    transformers = pytest.importorskip('transformers', reason='networks of HuggingFace need the package transformers')
    if not transformers.is_torch_available():
        pytest.skip('this version of transformers wants a later torch')
    folder = tmp_path_factory.mktemp('huggingface')
    config = transformers.ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], num_labels=5)
    transformers.ResNetForImageClassification(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(params=['resnet', 'vit', 'deit', 'huggingface'])
def student(request):
    """Config of a student that mmpretrain wraps."""
    if request.param == 'huggingface':
        folder = request.getfixturevalue('huggingface_folder')
        return dict(type='HuggingFaceClassifier', model_name=folder, pretrained=False)
    return dict(type='TimmClassifier', num_classes=toys.NUM_CLASSES, **TIMM[request.param])


def distiller(student, kind='LogitDistiller'):
    return dict(
        type=kind,
        architecture=student,
        teacher=toys.classifier(),
        allow_untrained_teacher=True,
        losses=dict(loss_kd=dict(type='KLDivergenceLoss')),
        **(dict(pruner=dict(type='MagnitudePruner', amount=0.1)) if kind == 'R2KD' else {}),
    )


def build(config, seed):
    """A model whose weights and statistics depend on the seed."""
    torch.manual_seed(seed)
    with DefaultScope.overwrite_default_scope('r2kd_mm'):
        model = MODELS.build(config)
    for name, buffer in model.named_buffers():
        if 'running' in name:  # in a new network these are what they are in every other
            buffer.uniform_(0.5, 1.5)
    return model.eval()


@torch.no_grad()
def logits(model):
    return model(toys.batch()[0], mode='tensor')


@pytest.mark.parametrize('kind', ['alone', 'LogitDistiller', 'R2KD'])
def test_a_strict_round_trip_keeps_the_logits(student, kind):
    config = student if kind == 'alone' else distiller(student, kind)
    saved, other = build(config, 0), build(config, 1)
    assert not torch.allclose(logits(saved), logits(other))
    other.load_state_dict(copy.deepcopy(saved.state_dict()))
    assert torch.equal(logits(saved), logits(other))


def test_a_checkpoint_of_the_runner_is_read_back(student):
    saved, other = build(distiller(student), 0), build(distiller(student), 1)
    load_state_dict(other, get_state_dict(saved), strict=True)
    assert torch.equal(logits(saved), logits(other))


def test_the_weights_have_the_names_of_the_network_itself(student):
    alone = build(student, 0)
    assert alone.state_dict().keys() == alone.model.state_dict().keys()
    inside = build(distiller(student), 0).state_dict()
    assert [f'architecture.{name}' for name in alone.state_dict()] == [
        name for name in inside if name.startswith('architecture.')
    ]


def test_what_0_1_0_saved_is_read(student):
    saved, other = build(distiller(student), 0), build(distiller(student), 1)
    weights = {name.replace('architecture.', 'architecture.model.'): w for name, w in saved.state_dict().items()}
    other.load_state_dict(weights)
    assert torch.equal(logits(saved), logits(other))
    alone = build(student, 2)
    alone.load_state_dict({name.removeprefix('architecture.'): weight for name, weight in weights.items()})
    assert torch.equal(logits(alone), logits(saved))


@pytest.mark.parametrize('inner', ['alone', 'distiller'])
def test_a_moving_average_round_trips(student, inner):
    config = student if inner == 'alone' else distiller(student)
    saved, other = (ExponentialMovingAverage(build(config, seed), momentum=0.5) for seed in (0, 1))
    saved.update_parameters(saved.module)
    other.load_state_dict(copy.deepcopy(saved.state_dict()))
    assert torch.equal(logits(saved.module), logits(other.module))
    assert saved.state_dict().keys() == {'steps', *(f'module.{name}' for name in saved.module.state_dict())}


def test_a_pruned_student_round_trips():
    algorithm = dict(
        type='ItePruneAlgorithm',
        architecture=dict(type='TimmClassifier', num_classes=toys.NUM_CLASSES, **TIMM['resnet']),
        mutator_cfg=dict(
            type='ChannelMutator',
            channel_unit_cfg=dict(type='L1MutableChannelUnit', default_args=dict(choice_mode='ratio')),
            parse_cfg=dict(type='ChannelAnalyzer', demo_input=(1, 3, 32, 32), tracer_type='BackwardTracer'),
        ),
    )
    saved, other = build(distiller(algorithm), 0), build(distiller(algorithm), 1)
    other.load_state_dict(copy.deepcopy(saved.state_dict()))
    assert torch.equal(logits(saved), logits(other))


def test_a_run_starts_from_the_weights_that_a_student_brought(student, tmp_path):
    brought = build(student, 0).model
    if student['type'] == 'TimmClassifier':
        torch.save(brought.state_dict(), tmp_path / 'student.pth')
        student = dict(student, checkpoint_path=str(tmp_path / 'student.pth'))
    else:
        brought.save_pretrained(tmp_path)
        student = dict(student, model_name=str(tmp_path), pretrained=True)
    with DefaultScope.overwrite_default_scope('r2kd_mm'):
        model = MODELS.build(distiller(student))
    model.init_weights()
    assert_equal(model.architecture.state_dict(), brought.state_dict())


def assert_equal(weights, expected):
    assert weights.keys() == expected.keys()
    assert [name for name, weight in weights.items() if not torch.equal(weight, expected[name])] == []


def test_a_teacher_that_brings_its_weights_needs_no_checkpoint(tmp_path):
    """``pretrained=True`` would download; ``pretrained_cfg_overlay`` has it read a file instead."""
    brought = timm.create_model('test_resnet')  # of 1000 classes
    torch.save(brought.state_dict(), tmp_path / 'teacher.pth')
    pretrained = dict(pretrained=True, pretrained_cfg_overlay=dict(file=str(tmp_path / 'teacher.pth')))
    config = dict(type='TimmClassifier', model_name='test_resnet', **pretrained)
    assert_equal(build_teacher(config, None).state_dict(), brought.state_dict())
    given = build_teacher(dict(config, pretrained=False, checkpoint_path=str(tmp_path / 'teacher.pth')), None)
    assert_equal(given.state_dict(), brought.state_dict())
    with pytest.raises(ValueError, match='classifier of the teacher has no weights.* 1000 classes, got num_classes=5'):
        build_teacher(dict(config, num_classes=toys.NUM_CLASSES), None)
    with pytest.raises(ValueError, match='the teacher has no weights'):
        build_teacher(dict(config, pretrained=False), None)


@pytest.mark.slow
def test_the_digits_are_tested_and_exported_with_the_weights_that_were_trained(tmp_path):
    cfg = Config.fromfile(toolbox.ROOT / 'configs/kd/kd_res14_res6_digits.py')
    start = tmp_path / 'start.pth'
    fields = dict(TIMM['vit'], num_classes=10, in_chans=1)
    torch.save(timm.create_model(**fields).state_dict(), start)
    cfg.model.architecture = dict(type='TimmClassifier', checkpoint_path=str(start), **fields)
    cfg.model.update(allow_untrained_teacher=True, teacher_ckpt=None)
    cfg.val_dataloader.dataset.indices = 200
    cfg.test_dataloader = cfg.val_dataloader
    cfg.train_cfg.max_epochs, cfg.default_hooks.checkpoint.interval = 1, 1
    cfg.dump(tmp_path / 'timm.py')
    trained = toolbox.run_forked('train.py', tmp_path / 'timm.py', '--work-dir', tmp_path / 'run')
    assert trained.returncode == 0, trained.stderr
    start.unlink()  # what the run began from is not needed any more
    tested = toolbox.run_forked(
        'test.py',
        tmp_path / 'timm.py',
        tmp_path / 'run/epoch_1.pth',
        '--work-dir',
        tmp_path / 'test',
        '--out',
        tmp_path / 'metrics.json',
        '--out-item',
        'metrics',
    )
    assert tested.returncode == 0, tested.stderr
    validated = re.findall(r'Epoch\(val\) .*accuracy/top1: ([\d.]+)', trained.stdout)[-1]
    assert f'{json.loads((tmp_path / "metrics.json").read_text())["accuracy/top1"]:.4f}' == validated
    student = load_student(tmp_path / 'run/epoch_1.pth')
    saved = torch.load(tmp_path / 'run/epoch_1.pth', weights_only=False)['state_dict']
    assert_equal(
        {f'architecture.{name}': weight for name, weight in student.network.classifier.state_dict().items()}, saved
    )


def test_lora_saves_its_own_weights_and_removes_no_others():
    arch = dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=16)
    transformer = dict(type='VisionTransformer', arch=arch, img_size=toys.IMAGE_SIZE, patch_size=4)
    model = build(dict(type='LoRAModel', module=transformer, rank=2, targets=[dict(type='qkv')]), 0)
    saved = [f'module.layers.0.attn.qkv.lora_{part}.weight' for part in ('down', 'up')]
    assert list(model.state_dict()) == saved
    assert list(ExponentialMovingAverage(model).state_dict()) == ['steps', *(f'module.{name}' for name in saved)]


@pytest.mark.slow
def test_a_resumed_run_with_a_moving_average_ends_like_one_that_was_not_interrupted(tmp_path):
    student = dict(type='TimmClassifier', num_classes=toys.NUM_CLASSES, **TIMM['vit'])
    resumed = dict(resume=True, load_from=str(tmp_path / 'whole' / 'epoch_1.pth'))
    ends = []
    for name, fields in (('whole', {}), ('resumed', resumed)):
        data = toys.Images(10)  # one batch: its order does not matter
        runner = toys.runner(
            distiller(student), tmp_path / name, epochs=2, train_data=data, hooks=[EMAHook(momentum=0.2)], **fields
        )
        runner.train()
        ends.append(torch.load(tmp_path / name / 'epoch_2.pth', weights_only=False))
    whole, resumed = ends
    for weights in ('state_dict', 'ema_state_dict'):
        torch.testing.assert_close(resumed[weights], whole[weights])
    assert not torch.equal(
        whole['state_dict']['architecture.head.weight'], whole['ema_state_dict']['module.architecture.head.weight']
    )
