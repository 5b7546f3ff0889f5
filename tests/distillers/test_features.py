import pytest
import torch
import toys
from mmengine.model import ExponentialMovingAverage
from mmengine.optim import build_optim_wrapper
from mmrazor.models.distillers import ConfigurableDistiller
from ranks import run_on_ranks
from torch import nn

from r2kd_mm.augmentations import BatchAugmentation
from r2kd_mm.distillers.features import build_features, recorded
from r2kd_mm.registry import MODELS

TAP = 'backbone.layer2.1.bn2'
TEACHER_WIDTH, STUDENT_WIDTH = 12, 8  # channels of the tap
CONNECTOR = dict(
    type='TorchNNConnector',
    module_name='Conv2d',
    module_args=dict(in_channels=STUDENT_WIDTH, out_channels=TEACHER_WIDTH, kernel_size=1),
)


class Negative(BatchAugmentation):
    keeps_labels = False

    def __call__(self, images, context):
        return -images


def features(kind='ModuleOutputs', student=TAP, teacher=TAP, connectors=None, loss=None, **record):
    """Config of one loss between the maps of one module of each network."""
    if connectors is None:
        connectors = dict(regressor=CONNECTOR)
    return dict(
        type='ConfigurableDistiller',
        student_recorders=dict(map=dict(type=kind, source=student)),
        teacher_recorders=dict(map=dict(type=kind, source=teacher)),
        connectors=connectors,
        distill_losses=dict(loss_map=loss or dict(type='L2Loss', normalize=False)),
        loss_forward_mappings=dict(
            loss_map=dict(
                s_feature=dict(
                    dict(recorder='map', from_student=True, connector=next(iter(connectors), None)), **record
                ),
                t_feature=dict(recorder='map', from_student=False),
            )
        ),
    )


def build(**fields):
    torch.manual_seed(0)
    fields = dict(
        dict(
            architecture=toys.classifier(),
            teacher=toys.classifier(width=6),
            allow_untrained_teacher=True,
            losses=dict(loss_kd=dict(type='KLDivergenceLoss')),
            features=features(),
        ),
        **fields,
    )
    return MODELS.build(dict(type='LogitDistiller', **fields))


def output_of(network, tap, inputs):
    """Compute the output of the second normalisation of a block without the in-place operations behind it."""
    kept = []
    block = network.get_submodule(tap.rpartition('.')[0])
    handle = block.register_forward_pre_hook(lambda _module, args: kept.append(args[0].clone()))
    network(inputs, mode='tensor')
    handle.remove()
    hidden = torch.relu(block.bn1(block.conv1(kept[0])))
    return block.bn2(block.conv2(hidden))


def squared_error(model, images):
    """The loss of :func:`features`, by hand."""
    student = model.features.connectors['regressor'](output_of(model.architecture, TAP, images))
    return (student - output_of(model.teacher, TAP, images)).square().sum() / len(images)


class TestWhatIsMatched:
    @pytest.mark.parametrize('network', ['student', 'teacher'])
    def test_a_record_is_what_the_module_gave_before_anything_behind_it_changed_it(self, network):
        model = build()
        classifier = dict(student=model.architecture, teacher=model.teacher)[network].eval()
        assert classifier.get_submodule('backbone.layer2.1.relu').inplace
        images, _ = toys.batch()
        recorders = getattr(model.features, f'{network}_recorders')
        with recorded(recorders, classifier):
            classifier(images, mode='tensor')
        record = recorders.get_recorder('map').get_record_data()
        torch.testing.assert_close(record, output_of(classifier, TAP, images))
        assert record.min() < 0

    def test_inputs_are_those_before_the_module_changed_them(self):
        model = build(features=features('ModuleInputs', 'backbone.layer2.1.relu', 'backbone.layer2.1.relu', data_idx=0))
        images, _ = toys.batch()
        recorders = model.features.student_recorders
        with recorded(recorders, model.architecture):
            model.architecture(images, mode='tensor')
        first, second = (recorders.get_recorder('map').get_record_data(run, 0) for run in (0, 1))
        assert first.min() < 0  # behind the first normalisation of the block
        assert second.min() < 0  # behind the sum at its end

    @pytest.mark.parametrize('engine', ['exact', 'plain'])
    def test_the_loss_is_that_of_the_real_teachers_features_on_the_clean_images(self, engine):
        model = build(augmentation=Negative(), teacher_engine=engine).eval()
        images, samples = toys.batch()
        losses = model.loss(images, samples)
        assert set(losses) == {'student.loss', 'features.loss_map', 'clean.loss_kd', 'augmented.loss_kd'}
        torch.testing.assert_close(losses['features.loss_map'], squared_error(model, images))

    def test_the_losses_of_the_logits_stay_what_they_are(self):
        images, samples = toys.batch()
        with_features, without = (build(augmentation=Negative(), **more) for more in ({}, dict(features=None)))
        given, expected = with_features.loss(images, samples), without.loss(images, samples)
        for name in expected:
            torch.testing.assert_close(given[name], expected[name])

    def test_a_student_starts_the_same_with_features_and_without(self):
        starts = []
        for more in ({}, dict(features=None)):
            model = build(**more)
            model.init_weights()
            starts.append(model.architecture.state_dict())
        for name, value in starts[0].items():
            assert torch.equal(value, starts[1][name])

    def test_the_teacher_runs_once_on_the_clean_images(self):
        model = build(augmentation=Negative(), teacher_engine='plain')
        seen = []
        model.teacher.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
        images, samples = toys.batch()
        model.loss(images, samples)
        assert len(seen) == 2
        assert torch.equal(seen[0], images)
        assert torch.equal(seen[1], -images)

    def test_features_are_matched_where_no_logits_are(self):
        model = build().eval()
        model.step.objective.set_loss_scale('loss_kd', 0)
        images, samples = toys.batch()
        losses = model.loss(images, samples)
        assert set(losses) == {'student.loss', 'features.loss_map'}
        torch.testing.assert_close(losses['features.loss_map'], squared_error(model, images))

    def test_they_stop_with_the_distillation(self):
        model = build()
        model.distillation_stopped = True
        losses = model.loss(*toys.batch())
        assert set(losses) == {'student.loss', 'features.loss'}
        assert losses['features.loss'] == 0


class TestConnectors:
    def test_they_are_trained_and_saved_with_the_student(self):
        model = build()
        sum(model.loss(*toys.batch()).values()).backward()
        weight = model.features.connectors['regressor'].func.weight
        assert weight.grad.abs().sum() > 0
        assert 'features.connectors.regressor.func.weight' in model.state_dict()
        optimizer = build_optim_wrapper(model, dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1))).optimizer
        assert any(value is weight for group in optimizer.param_groups for value in group['params'])

    def test_they_move_with_the_student_and_the_teacher(self):
        model = build().double()
        images, samples = toys.batch()
        assert model.loss(images.double(), samples)['features.loss_map'].dtype is torch.float64

    def test_a_student_that_is_built_alone_takes_them_from_a_checkpoint(self):
        model, alone = build(), build(teacher=None)
        alone.load_state_dict(model.state_dict())

    def test_a_copy_of_the_distiller_matches_its_own_features(self):
        model = build()
        images, samples = toys.batch()
        model.loss(images, samples)
        average = ExponentialMovingAverage(model).module
        nn.init.zeros_(model.features.connectors['regressor'].func.weight)
        torch.testing.assert_close(
            average.eval().loss(images, samples)['features.loss_map'], squared_error(average, images)
        )
        assert not any(module._forward_hooks for module in (*model.modules(), *model.teacher.modules()))


def gradient_of_a_share(counts):
    """Gradient of the connector, averaged over ranks of which each has its part of one batch."""
    from torch import distributed

    model = build(teacher_engine='plain').eval()
    rank = distributed.get_rank()
    images, samples = toys.batch(sum(counts))
    start = sum(counts[:rank])
    end = start + counts[rank]
    sum(model.loss(images[start:end], samples[start:end]).values()).backward()
    gradient = model.features.connectors['regressor'].func.weight.grad
    distributed.all_reduce(gradient)
    return gradient / len(counts)


def test_uneven_batches_of_several_processes_train_as_one_batch_does():
    counts = [4, 2]
    model = build(teacher_engine='plain').eval()
    squared_error(model, toys.batch(sum(counts))[0]).backward()
    for gradient in run_on_ranks(2, gradient_of_a_share, counts):
        torch.testing.assert_close(gradient, model.features.connectors['regressor'].func.weight.grad)


def test_connectors_have_a_gradient_of_zero_once_the_distillation_is_stopped():
    model = build()
    model.distillation_stopped = True
    sum(model.loss(*toys.batch(6)).values()).backward()  # as DistributedDataParallel wants it of every parameter
    gradients = [parameter.grad for parameter in model.features.parameters()]
    assert gradients
    assert all(gradient is not None and not gradient.any() for gradient in gradients)


def without(config, field):
    return {name: value for name, value in config.items() if name != field}


def changed(**fields):
    return dict(features(), **fields)


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        (
            dict(features=features(student='backbone.layr2')),
            r"student_recorders: 'map' records 'backbone.layr2'.* the closest are 'backbone.layer2'",
        ),
        (
            dict(features=features(teacher='backbone.layer2.1.b2')),
            r"the teacher \(ImageClassifier\) has no such module; the closest are .*'backbone.layer2.1.bn2'",
        ),
        (
            dict(features=features(recorder='mop')),
            r"names the recorder 'mop', and student_recorders has only 'map'; did you mean 'map'",
        ),
        (
            dict(features=features(connector='regresor')),
            r"names the connector 'regresor', and connectors has only 'regressor'; did you mean",
        ),
        (
            dict(features=features(from_student='yes')),
            r"must be dict\(recorder=<name>, from_student=<True or False>\), got .*'yes'",
        ),
        (
            dict(features=features('FunctionOutputs')),
            r"'map' must be dict\(type=..., .* a type of 'ModuleOutputs', 'ModuleInputs', got .*'FunctionOutputs'",
        ),
        (dict(features=features('ModuleOutputs', student=3)), r"source=<name of a module>.*got .*'source': 3"),
        (dict(features=without(features(), 'distill_losses')), r'features need distill_losses, such as'),
        (
            dict(features=without(features(), 'loss_forward_mappings')),
            r"'loss_map' has no entry in loss_forward_mappings, so it would never be",
        ),
        (
            dict(features=changed(loss_forward_mappings=dict(loss_map={}, loss_mop={}))),
            r"names the loss 'loss_mop', and distill_losses has only 'loss_map'",
        ),
        (
            dict(features=changed(loss_forward_mappings=dict(loss_map=dict(feature={})))),
            r"the argument 'feature', and L2Loss has only 's_feature', 't_feature'",
        ),
        (dict(features=changed(distill_losses=dict(kd=dict(type='L2Loss')))), r"must contain 'loss', got 'kd'"),
        (
            dict(features=changed(distill_deliveries=dict(x=dict(type='MethodOutputs')))),
            r'features take no distill_deliveries',
        ),
        (
            dict(features=changed(type='BYOTDistiller')),
            r'must be a ConfigurableDistiller of mmrazor, got a BYOTDistiller',
        ),
        (dict(replay=dict(folder='logits')), r'a replay holds the logits of the teachers and no features'),
        (dict(joint_views=True), r'features are those of the clean images alone, which joint_views mixes'),
        (dict(compile_student=True), r'a compiled student shows no features'),
    ],
)
def test_a_config_that_would_match_nothing_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        build(**fields)


def test_a_ready_distiller_is_refused():
    with pytest.raises(TypeError, match=r'must be a config dict\(type=ConfigurableDistiller, ...\), got Configurable'):
        build_features(ConfigurableDistiller())


def regressor(in_channels, out_channels):
    arguments = dict(in_channels=in_channels, out_channels=out_channels, kernel_size=1)
    return dict(regressor=dict(CONNECTOR, module_args=arguments))


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        (
            features(connectors={}),
            r"'loss_map' \(L2Loss\) cannot compare \(6, 8, 4, 4\) \(s_feature, student recorder 'map'\) and "
            r"\(6, 12, 4, 4\) \(t_feature, teacher recorder 'map'\): The size .*; give one side a connector",
        ),
        (
            features(connectors=regressor(STUDENT_WIDTH, 1)),  # arithmetic takes them
            r"\(6, 1, 4, 4\) \(.* through connector 'regressor'\) and \(6, 12, 4, 4\) .* repeating the smaller one",
        ),
        (
            features(connectors={}, teacher='backbone.layer4.1.bn2', loss=dict(type='ATLoss')),  # so does this loss
            r'\(6, 8, 4, 4\) .* and \(6, 48, 1, 1\) .* repeating the smaller one',
        ),
        (
            features(connectors=regressor(3, TEACHER_WIDTH)),
            r"s_feature, student recorder 'map' through connector 'regressor' of 'loss_map': Given groups=1",
        ),
        (features(record_idx=1), r"s_feature, student recorder 'map' .* of 'loss_map': record_idx is illegal"),
    ],
)
def test_features_that_cannot_be_compared_are_named_with_their_shapes(config, message):
    with pytest.raises(ValueError, match=message):
        build(features=config).loss(*toys.batch())


def test_maps_of_different_widths_are_fine_where_the_loss_takes_them():
    model = build(features=features(connectors={}, loss=dict(type='ATLoss')))
    assert model.loss(*toys.batch())['features.loss_map'] > 0
