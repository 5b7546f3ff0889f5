import copy
import gc
import logging
import re
import weakref

import pytest
import torch
import toys
from mmengine.model import ExponentialMovingAverage
from mmengine.registry import DefaultScope
from sklearn.datasets import load_digits
from small_networks import EXACT_TOLERANCE, Net, conv_norm, difference, folded_norms, images, logits, norms, settled
from torch import nn

from r2kd_mm.functional import pearson
from r2kd_mm.pruning import MagnitudePruner
from r2kd_mm.registry import MODELS
from r2kd_mm.teachers import engine as engine_module
from r2kd_mm.teachers.engine import TeacherEngine
from r2kd_mm.teachers.folding import try_out
from r2kd_mm.zoo import build_classifier, list_models

CPU = torch.device('cpu')
BF16_TOLERANCE = 1e-2  # as small_networks.EXACT_TOLERANCE
# Of the networks of one family, the smallest; CIFAR and Tiny-ImageNet networks differ by a pooling layer in VGG alone.
SMALL = ('resnet8', 'resnet8x4', 'vgg8', 'wrn_16_2', 'mobilenetv2', 'shufflenetv1', 'shufflenetv2')
ZOO = {
    **{f'cifar/{name}': 32 for name in SMALL},
    'tiny/vgg8': 64,
    'imagenet/mobilenetv1': 32,
}
QUICK = ('cifar/resnet8', 'cifar/wrn_16_2')  # of `make test`


def classifier(**fields):
    with DefaultScope.overwrite_default_scope('r2kd_mm'):
        return MODELS.build(toys.classifier(**fields))


@pytest.fixture
def network():
    return settled(classifier())


# -------------------------------------------------------------------------------------------- agreement of the logits
@pytest.mark.parametrize(
    ('name', 'size'),
    [pytest.param(*item, marks=() if item[0] in QUICK else pytest.mark.slow) for item in ZOO.items()],
)
def test_a_network_of_the_zoo_is_folded_and_gives_the_same_logits(name, size):
    network = settled(build_classifier(name), size)
    inputs = images(size=size)
    assert 0 < difference(TeacherEngine.from_config('exact'), network, inputs) < EXACT_TOLERANCE
    bf16 = TeacherEngine('bf16')
    assert EXACT_TOLERANCE < difference(bf16, network, inputs) < BF16_TOLERANCE
    assert pearson(bf16.logits(network, inputs), logits(network, inputs)).min() > 0.999
    # a pre-activation block begins with a batch norm of a sum
    not_folded = {'cifar/wrn_16_2': 6}.get(name, 0)
    assert len(folded_norms(network, size)) == len(norms(network)) - not_folded


def test_the_families_of_the_zoo_are_all_tried():
    def families(names):
        return {re.sub(r'\d.*', '', name.split('/')[1]) for name in names}

    assert families(ZOO) == families(list_models())


@pytest.mark.parametrize(
    ('backbone', 'channels'),
    [
        pytest.param(dict(type='ResNet', depth=50), 2048, marks=pytest.mark.slow),
        pytest.param(
            dict(type='VGG', depth=11, norm_cfg=dict(type='BN'), with_last_pool=True), 512, marks=pytest.mark.slow
        ),
        (dict(type='MobileNetV2', widen_factor=0.25), 1280),
    ],
    ids=lambda value: value['type'] if isinstance(value, dict) else '',
)
def test_every_batch_norm_of_mmpretrains_networks_is_folded(backbone, channels):
    config = dict(
        type='mmpretrain.ImageClassifier',
        backbone=backbone,
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=10, in_channels=channels),
    )
    with DefaultScope.overwrite_default_scope('r2kd_mm'):
        network = settled(MODELS.build(config), 64)
    assert difference(TeacherEngine.from_config('exact'), network, images(2, 64)) < EXACT_TOLERANCE
    assert folded_norms(network, 64) == norms(network) != []


@pytest.mark.parametrize(('dtype', 'tolerance'), [('float32', EXACT_TOLERANCE), ('bf16', 2 * BF16_TOLERANCE)])
def test_a_transformer_gives_the_same_logits(dtype, tolerance):
    config = dict(
        type='ImageClassifier',
        backbone=dict(
            type='VisionTransformer',
            arch=dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64),
            img_size=16,
            patch_size=4,
        ),
        head=dict(type='VisionTransformerClsHead', num_classes=10, in_channels=32),
    )
    with DefaultScope.overwrite_default_scope('r2kd_mm'):
        network = MODELS.build(config)
    network.init_weights()
    nn.init.normal_(network.head.layers.head.weight)  # mmpretrain starts with zeros, and so with logits of zero
    network.eval().requires_grad_(False)
    assert difference(TeacherEngine(dtype), network, images(size=16)) < tolerance


@pytest.mark.slow
def test_bf16_keeps_the_accuracy_of_a_network_that_knows_the_digits():
    digits = load_digits()
    inputs = torch.from_numpy(digits.images).float()[:, None].expand(-1, 3, -1, -1) / 8 - 1
    labels = torch.from_numpy(digits.target)
    network = settled(build_classifier('cifar/resnet20', 10))
    with torch.no_grad():  # ridge regression from random features to the labels
        features = network.extract_feat(inputs)[0].double()
        features, mean = features - features.mean(0), features.mean(0)
        gram = features.T @ features
        gram.diagonal().add_(1e-3 * gram.diagonal().mean())
        fit = torch.linalg.solve(gram, features.T @ nn.functional.one_hot(labels).double())
        network.head.fc.weight.copy_(fit.T)
        network.head.fc.bias.copy_(-mean @ fit)
    plain, bf16 = logits(network, inputs), TeacherEngine('bf16').logits(network, inputs)
    accuracies = [(given.argmax(1) == labels).float().mean() for given in (plain, bf16)]
    assert min(accuracies) > 0.8
    assert abs(accuracies[0] - accuracies[1]) < 0.02
    # the features are random and the decisions close, unlike those of a trained network
    assert (plain.argmax(1) == bf16.argmax(1)).float().mean() > 0.9


def test_a_pruned_copy_is_folded_as_it_is(network):
    pruned, _ = MagnitudePruner(0.5)(network)
    inputs = images()
    assert not torch.allclose(logits(pruned, inputs), logits(network, inputs), atol=1e-3)
    assert difference(TeacherEngine(), pruned, inputs) < EXACT_TOLERANCE


# -------------------------------------------------------------------------------------------- the network
@pytest.mark.parametrize('dtype', ['float32', 'bf16', 'auto', None])
@pytest.mark.parametrize('flags', [False, True])
def test_the_network_is_left_as_it_is(network, dtype, flags):
    before = copy.deepcopy(network)
    TeacherEngine(dtype, fuse=flags, channels_last=flags).logits(network, images())
    after = network.state_dict()
    for name, value in before.state_dict().items():
        assert value.dtype == after[name].dtype
        assert value.stride() == after[name].stride()
        assert torch.equal(value, after[name])
    assert [type(module) for module in network.modules()] == [type(module) for module in before.modules()]
    assert not any(module._forward_hooks for module in network.modules())


def test_a_copy_is_made_once_and_freed_with_its_network(monkeypatch):
    network = settled(Net(conv_norm))
    copies = []
    monkeypatch.setattr(engine_module, 'try_out', lambda *given: copies.append(given[0]) or try_out(*given))
    engine = TeacherEngine()
    for size in (4, 4, 3):
        engine.logits(network, images(size))
    assert len(copies) == 1
    prepared = weakref.ref(engine._prepared[network].network)
    copies.clear()
    del network
    gc.collect()
    assert len(engine._prepared) == 0
    assert prepared() is None


@pytest.mark.parametrize(
    'change',
    [
        lambda network: network.backbone.conv1.weight.mul_(2),
        lambda network: network.load_state_dict({k: v * 2 for k, v in network.state_dict().items()}),
        lambda network: network.double(),
        lambda network: setattr(network.backbone.conv1, 'weight', nn.Parameter(network.backbone.conv1.weight * 2)),
    ],
    ids=['in place', 'loaded', 'converted', 'replaced'],
)
def test_changed_weights_are_noticed(network, change):
    engine = TeacherEngine()
    engine.logits(network, images())
    change(network)
    inputs = images().to(next(network.parameters()).dtype)
    assert engine.logits(network, inputs).dtype == inputs.dtype
    assert difference(engine, network, inputs) < EXACT_TOLERANCE


def test_a_teacher_with_a_sparse_buffer_teaches_and_its_changes_are_noticed():
    class Graph(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer('links', torch.tensor([[0.0, 2.0], [3.0, 0.0]]).to_sparse())

        def forward(self, images):
            return (self.links @ images.flatten(1).T).T

    network, images = Graph().eval(), torch.ones(4, 2, 1, 1)
    engine = TeacherEngine()
    assert engine.logits(network, images).tolist() == [[2, 3]] * 4
    network.links.mul_(2)
    assert engine.logits(network, images).tolist() == [[4, 6]] * 4


def test_an_averaged_teacher_is_as_it_is_after_each_update(network):
    average = ExponentialMovingAverage(network, momentum=0.5, update_buffers=True).eval().requires_grad_(False)
    engine = TeacherEngine()
    for _ in range(3):
        before = engine.logits(average.module, images())
        with torch.no_grad():
            for weight in network.parameters():
                weight.mul_(1.5)
        average.update_parameters(network)
        assert difference(engine, average.module, images()) < EXACT_TOLERANCE
    assert not torch.equal(before, engine.logits(average.module, images()))


@pytest.mark.parametrize('calls', [1, 2, 50])
def test_weights_written_behind_the_back_of_pytorch_are_refused(network, calls):
    engine = TeacherEngine()

    def ask(times):
        for _ in range(times):
            engine.logits(network, images(1))

    ask(calls)
    network.backbone.conv1.weight.data[0, 0, 0, 0] += 1  # one of all of them
    with pytest.raises(RuntimeError, match=r"weights of ImageClassifier were written through \.data, .*'plain'"):
        ask(calls + 1)


@pytest.mark.parametrize('calls', [1, 3, 50, 120])
def test_an_average_written_behind_the_back_of_pytorch_is_refused_before_it_teaches(network, calls):
    engine = TeacherEngine()
    for _ in range(calls):
        engine.logits(network, images(1))
    for weight in network.parameters():
        weight.data.mul_(0.9).add_(0.01)
    with pytest.raises(RuntimeError, match=r'were written through \.data'):
        engine.logits(network, images(1))


def test_a_moved_network_gets_a_copy_of_its_own(network):
    engine = TeacherEngine()
    engine.logits(network, images())
    moved = copy.deepcopy(network).double()
    assert engine.logits(moved, images().double()).dtype == torch.float64
    assert len(engine._prepared) == 2


def test_a_copy_of_the_engine_shares_what_is_prepared():
    engine = TeacherEngine()
    assert copy.deepcopy(dict(engine=engine))['engine'] is engine


# -------------------------------------------------------------------------------------------- train mode
def test_a_network_in_train_mode_runs_as_it_is():
    network = settled(classifier(dropout=0.5)).train()
    other = copy.deepcopy(network)
    engine = TeacherEngine('bf16')
    torch.manual_seed(3)
    given = engine.logits(network, images())
    torch.manual_seed(3)
    assert torch.equal(given, logits(other, images()))
    assert all(torch.equal(a, b) for a, b in zip(network.buffers(), other.buffers()))
    assert len(engine._prepared) == 0


def test_views_join_where_each_image_has_logits_of_its_own(network):
    engine = TeacherEngine()
    assert engine.can_join(network)
    both = engine.logits(network, torch.cat([images(), images(seed=2)]))
    torch.testing.assert_close(both[:4], engine.logits(network, images()))
    assert not TeacherEngine.from_config('plain').can_join(network)
    assert not TeacherEngine(join_views=False).can_join(network)
    assert not engine.can_join(Net(conv_norm, norm=nn.BatchNorm2d(4, track_running_stats=False)).eval())
    network.backbone.bn1.train()
    assert not engine.can_join(network)


# -------------------------------------------------------------------------------------------- arithmetic
def test_exact_means_float32_under_autocast_too(network):
    engine = TeacherEngine.from_config('exact')
    expected = engine.logits(network, images())
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(engine.logits(network, images()), expected)
        plain = TeacherEngine.from_config('plain').logits(network, images())
    assert plain.dtype == torch.float32
    assert not torch.allclose(plain, expected, rtol=1e-5)


def test_a_network_in_train_mode_is_float32_under_autocast_too(network):
    network.train()
    expected = TeacherEngine().logits(copy.deepcopy(network), images())
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(TeacherEngine().logits(network, images()), expected)


@pytest.mark.parametrize(
    ('engine', 'expected'), [('exact', torch.float64), ('plain', torch.float64), (dict(dtype='bf16'), torch.float32)]
)
def test_a_float64_network_stays_so_where_nothing_else_is_asked_for(network, engine, expected):
    network.double()
    inputs = images().double()
    given = TeacherEngine.from_config(engine).logits(network, inputs)
    assert given.dtype == expected
    tolerance = 1e-12 if expected is torch.float64 else BF16_TOLERANCE
    assert (given - logits(network, inputs)).abs().max() < tolerance * logits(network, inputs).abs().max()


def test_plain_is_the_network_to_the_last_bit(network):
    assert torch.equal(TeacherEngine.from_config('plain').logits(network, images()), logits(network, images()))


def test_bf16_keeps_weights_in_bf16_and_logits_finer():
    network = settled(build_classifier('cifar/resnet8'), 32)
    engine = TeacherEngine('bf16', fuse=False)
    given = engine.logits(network, images(size=32))
    prepared = engine._prepared[network].network
    assert prepared.backbone.conv1.conv.weight.dtype == torch.bfloat16
    assert prepared.backbone.conv1.bn.weight.dtype == torch.float32
    assert not torch.equal(given, given.bfloat16().float())
    assert all(len(row.unique()) == 100 for row in given)  # classes that tie have no rank


@pytest.mark.parametrize('engine', ['exact', 'fast', 'plain'])
def test_the_logits_serve_as_constants_of_a_graph(network, engine):
    given = TeacherEngine.from_config(engine).logits(network.requires_grad_(True), images())
    student = torch.ones_like(given, requires_grad=True)
    (student * given).sum().backward()
    assert torch.equal(student.grad, given)
    assert not given.requires_grad


@pytest.mark.parametrize(('supported', 'dtype'), [(True, 'bf16'), (False, 'float32')])
def test_auto_is_bf16_where_the_processor_has_it(monkeypatch, supported, dtype):
    monkeypatch.setattr(torch.cpu, '_is_avx512_bf16_supported', lambda: supported, raising=False)
    assert engine_module.resolve_dtype('auto', CPU) == dtype
    assert TeacherEngine.from_config('fast').dtype == 'auto'


@pytest.mark.parametrize(('capability', 'dtype'), [((9, 0), 'bf16'), ((7, 5), 'float32')])
def test_auto_is_bf16_on_a_gpu_that_has_it(monkeypatch, capability, dtype):
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: capability)
    assert engine_module.resolve_dtype('auto', torch.device('cuda')) == dtype


def test_a_dtype_that_the_device_lacks_is_refused(monkeypatch, network):
    with pytest.raises(ValueError, match="dtype='fp16' is for GPUs, got a CPU; set 'bf16', 'float32' or 'auto'"):
        TeacherEngine('fp16').logits(network, images())
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: (7, 5))
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda device: 'Tesla T4')
    with pytest.raises(ValueError, match="compute capability 8.0 or later, got Tesla T4; set 'fp16', 'float32'"):
        engine_module.resolve_dtype('bf16', torch.device('cuda'))


# -------------------------------------------------------------------------------------------- compiling
@pytest.fixture
def compiled_graphs(monkeypatch):
    """Let torch.compile trace and count, without a compiler."""
    graphs = []
    torch._dynamo.reset()
    monkeypatch.setattr(
        engine_module,
        '_compile',
        lambda network, device: torch.compile(network, backend=lambda graph, _: graphs.append(graph) or graph.forward),
    )
    return graphs


@pytest.mark.parametrize('dtype', ['float32', pytest.param('bf16', marks=pytest.mark.slow)])
def test_a_smaller_batch_compiles_nothing_again(compiled_graphs, dtype):
    network = settled(Net(conv_norm))
    engine = TeacherEngine(dtype, compile=True)
    for size in (6, 6, 5, 1, 2):
        torch.testing.assert_close(
            engine.logits(network, images(size)), TeacherEngine(dtype).logits(network, images(size))
        )
    assert len(compiled_graphs) == 1


def test_the_caller_keeps_tensors_without_marks(compiled_graphs):
    network = settled(Net(conv_norm))
    inputs = images().to(memory_format=torch.channels_last)
    TeacherEngine(compile=True).logits(network, inputs)
    assert len(compiled_graphs) == 1
    assert not [name for name in vars(inputs) if 'dynamo' in name]


def test_a_failing_compiler_is_a_warning(monkeypatch, log):
    network = settled(Net(conv_norm))

    def fail(graph, example):
        raise OSError('g++ is not installed')

    torch._dynamo.reset()
    monkeypatch.setattr(engine_module, '_compile', lambda network, device: torch.compile(network, backend=fail))
    engine = TeacherEngine(compile=True)
    for _ in range(2):
        assert difference(engine, network, images()) < EXACT_TOLERANCE
    ((text, level),) = log
    assert level == logging.WARNING
    assert 'Net runs uncompiled, because torch.compile failed' in text
    assert 'g++ is not installed' in text
    assert 'set compile=False' in text


@pytest.mark.parametrize(('dtype', 'tolerance'), [('float32', EXACT_TOLERANCE), ('bf16', 2 * BF16_TOLERANCE)])
@pytest.mark.slow
def test_compiled_logits_agree(log, dtype, tolerance):
    network = settled(Net(conv_norm))
    torch._dynamo.reset()
    engine = TeacherEngine(dtype, compile=True)
    for size in (6, 5):
        assert difference(engine, network, images(size)) < tolerance
    if log:
        pytest.skip(f'no working compiler on this machine: {log[0][0]}')
    assert engine._prepared[network].compiled is not None


# -------------------------------------------------------------------------------------------- configs
def test_a_config_is_a_name_a_dict_or_an_engine():
    assert repr(TeacherEngine.from_config('exact')) == repr(TeacherEngine())
    assert TeacherEngine.from_config('plain').is_plain
    engine = TeacherEngine.from_config(dict(dtype='bf16', fuse=False, compile=True))
    assert repr(engine) == "TeacherEngine(dtype='bf16', fuse=False, channels_last=True, compile=True)"
    assert TeacherEngine.from_config(engine) is engine
    assert 'join_views' not in engine.settings  # as in the replay stores of version 0.1
    assert TeacherEngine(join_views=False).settings['join_views'] is False


@pytest.mark.parametrize(
    ('config', 'error', 'message'),
    [
        ('quick', ValueError, "one of ('exact', 'fast', 'plain') or a dict of ('dtype', 'fuse', 'channels_last', "),
        (None, TypeError, "one of ('exact', 'fast', 'plain') or a dict"),
        (
            dict(fused=True),
            ValueError,
            "has no field 'fused'; it has ('dtype', 'fuse', 'channels_last', 'compile', 'join_views')",
        ),
        (dict(dtype='bfloat16'), ValueError, "one of ('float32', 'bf16', 'fp16', 'auto', None), got 'bfloat16'"),
        (dict(compile='yes'), TypeError, "compile of a teacher engine must be True or False, got 'yes'"),
    ],
)
def test_a_mistake_in_a_config_says_what_is_known(config, error, message):
    with pytest.raises(error, match=re.escape(message)):
        TeacherEngine.from_config(config)
