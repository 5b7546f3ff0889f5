"""R2KD distils students that mmrazor prunes or searches during training; each config does what its name says."""

import random

import exports
import pytest
import torch
from mmpretrain.structures import DataSample
from mmrazor.models.architectures.dynamic_ops import DynamicMixin
from mmrazor.structures import export_fix_subnet

from r2kd_mm.distillers.algorithms import sub_networks
from r2kd_mm.distillers.student import unwrap_student
from r2kd_mm.export import load_student
from r2kd_mm.export.ship import ship
from r2kd_mm.pruning.n_m import choose_in_groups
from r2kd_mm.registry import MODELS

L1 = 'compose-l1_res14_res14_digits'
GROUP_FISHER = 'compose-group-fisher_res14_res14_digits'
SUBNET = 'compose-subnet_res14_res14_digits'
SLIMMABLE = 'compose-slimmable_res14_res14_digits'
AUTOSLIM = 'compose-autoslim_res14_res14_digits'
DMCP = 'compose-dmcp_res14_res14_digits'
WIDTH = 16 * 4 + 32 * 3 + 64 * 3  # channels of all units of the ResNet-14


def channels(model):
    """Count the channels left of those that mmrazor could remove."""
    return sum(int(unit.mutable_channel.activated_channels) for unit in model.mutator.units)


def images(count=20):
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def samples(count=20):
    return [DataSample().set_gt_label(index % 10) for index in range(count)]


@torch.no_grad()
def logits(model):
    return model.eval()(images(), mode='tensor')


@pytest.mark.parametrize('name', [L1, GROUP_FISHER, SUBNET, AUTOSLIM])
def test_every_weight_of_the_student_learns(name, unmoved):
    assert unmoved(name) == []


# of Group Fisher, one in iteration 0 and one in iteration 2
@pytest.mark.parametrize(('name', 'left'), [(L1, WIDTH // 2), (GROUP_FISHER, WIDTH - 2)])
def test_channels_go_while_the_rest_learns(name, left, trained):
    model = trained(name).model
    assert channels(model) == left


@pytest.mark.parametrize('name', [L1, GROUP_FISHER, SLIMMABLE])
def test_the_static_network_that_mmrazor_exports_says_what_the_student_says(name, trained):
    model = trained(name).model
    _, static = export_fix_subnet(model, 'mutator', slice_weight=True)
    network = unwrap_student(static.architecture)
    torch.testing.assert_close(logits(network), logits(model))
    assert not any(isinstance(module, DynamicMixin) for module in network.modules())


@pytest.mark.parametrize('name', [L1, GROUP_FISHER, SLIMMABLE, SUBNET])
def test_the_student_to_export_is_what_is_left_of_it(name, trained):
    runner = trained(name)
    student = load_student(f'{runner.work_dir}/epoch_2.pth')
    torch.testing.assert_close(student.network(images()), logits(runner.model))
    assert student.config is None  # plain mmpretrain cannot build it
    assert not any(isinstance(module, DynamicMixin) for module in student.network.modules())


@pytest.mark.parametrize(('name', 'options'), [(L1, {'model.architecture.prune_times': 3}), (GROUP_FISHER, {})])
@pytest.mark.slow
def test_a_resumed_run_ends_like_one_that_was_not_interrupted(name, options, run, tmp_path):
    whole = run(name, tmp_path / 'whole', epochs=3, **options)
    whole.train()
    checkpoint = f'{tmp_path}/whole/epoch_1.pth'
    resumed = run(name, tmp_path / 'resumed', epochs=3, resume=True, load_from=checkpoint, **options)
    resumed.train()
    for key, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[key], value), key


@pytest.mark.slow
def test_what_is_left_is_written_and_distilled_further(trained, run, tmp_path):
    pruned = trained(L1)
    options = {
        'model.architecture.fix_subnet': f'{pruned.work_dir}/fix_subnet.json',
        'model.architecture.init_cfg': dict(
            type='Pretrained',
            checkpoint=f'{pruned.work_dir}/fix_subnet_weight.pth',
            prefix='architecture.architecture.',
        ),
    }
    narrow = run(SUBNET, tmp_path, **options)
    torch.testing.assert_close(logits(narrow.model), logits(pruned.model))
    parameters = [sum(value.numel() for value in runner.model.parameters()) for runner in (narrow, pruned)]
    assert parameters[0] < 0.3 * parameters[1]
    before = logits(narrow.model)
    narrow.train()
    assert not torch.equal(logits(narrow.model), before)


class TestGroupFisher:
    def test_the_losses_of_both_views_decide(self, run, tmp_path):
        model = run(GROUP_FISHER, tmp_path).model
        mutator = model.mutator
        mutator.start_record_info()
        sum(model.loss(images(), samples()).values()).backward()
        operation = next(mutator.mutable_units[0].input_related_dynamic_ops)
        assert len(operation.recorded_input) == len(operation.recorded_grad) == 2
        assert all(gradient.abs().sum() > 0 for gradient in operation.recorded_grad)

    def test_without_its_hook_it_is_refused(self, run, tmp_path):
        runner = run(GROUP_FISHER, tmp_path, custom_hooks=[])
        with pytest.raises(ValueError, match='nothing prunes it: add dict.type=GroupFisherHook'):
            runner.train()


class TestSubNetworks:
    def test_a_slimmable_student_learns_in_both_widths_and_is_scored_in_both(self, trained, unmoved):
        history = trained(SLIMMABLE).message_hub.log_scalars
        for index in (0, 1):
            assert history[f'train/subnet_{index}.clean.loss_rank'].current() > 0
            assert f'val/subnet_{index}.accuracy/top1' in history
        # mmrazor makes a batch normalisation for each width, and at full width takes that which the layer has anyway
        assert all(
            '.candidate_bn.' in name and name.split('.')[-2] in ('16', '32', '64') for name in unmoved(SLIMMABLE)
        )

    def test_autoslim_trains_the_largest_the_smallest_and_random_sub_networks(self, trained):
        history = trained(AUTOSLIM).message_hub.log_scalars
        terms = {key.split('/')[1].split('.')[0] for key in history if '_subnet.' in key}
        assert terms == {'max_subnet', 'min_subnet', 'random0_subnet', 'random1_subnet'}

    @pytest.mark.parametrize('name', [SLIMMABLE, AUTOSLIM])
    def test_a_step_is_the_mean_over_the_sub_networks_each_taught_by_the_teacher(self, name, run, tmp_path):
        model = run(name, tmp_path).model.eval()
        random.seed(0)
        losses = model.loss(images(), samples())
        random.seed(0)
        choices = sub_networks(model.architecture)
        for key, choose in choices.items():
            choose()
            student = model(images(), mode='tensor')
            loss = model.distillation_losses['loss_value'](student, model.teacher_logits(images()))
            torch.testing.assert_close(losses[f'{key}.clean.loss_value'], loss / len(choices))
        assert channels(model) == WIDTH  # the largest comes last, and is evaluated
        torch.testing.assert_close(model.step_logits['clean', 'student'], student)

    def test_an_autoslim_that_would_teach_itself_is_refused(self, run, tmp_path):
        own = {'model.architecture.distiller.distill_losses': dict(loss_own=dict(type='L2Loss'))}
        with pytest.raises(ValueError, match=r"has distill_losses of its own, \['loss_own'\], which would not be"):
            run(AUTOSLIM, tmp_path, **own)


class TestDMCP:
    def test_its_sub_networks_learn_from_the_largest_by_our_losses(self, trained):
        runner = trained(DMCP)
        assert runner.message_hub.log_scalars['train/min_subnet1.loss_value'].current() > 0
        widest = runner.model.mutator.arch_params['9']  # those of units below 20 channels decide about 0.05 * 16 = 0
        assert widest.abs().sum() > 0  # from 0

    def test_it_cannot_be_the_student_of_a_distiller(self, trained):
        with pytest.raises(ValueError, match='DMCP cannot be the architecture of a distiller: it works in its own'):
            build_distiller(trained(DMCP).cfg.model)


def build_distiller(architecture):
    losses = dict(loss_rank=dict(type='RankDistanceLoss'))
    return MODELS.build(dict(type='R2KD', architecture=architecture, teacher=None, losses=losses))


def test_dcff_whose_checkpoints_lack_a_part_cannot_be_the_student(run, tmp_path):
    pruned = run(L1, tmp_path).cfg.model.architecture
    mutator = dict(pruned.mutator_cfg, type='DCFFChannelMutator', channel_unit_cfg=dict(type='DCFFChannelUnit'))
    with pytest.raises(ValueError, match='what it fuses its filters by is in no checkpoint'):
        build_distiller(dict(type='DCFF', architecture=pruned.architecture, mutator_cfg=mutator))


@pytest.mark.slow
def test_pruned_students_are_shipped_next_to_the_plain_one(trained, tmp_path):
    plain = exports.write_checkpoint(tmp_path / 'plain.pth', 'supervised/res14_digits.py')
    checkpoint = torch.load(plain, weights_only=False)
    for weight in checkpoint['state_dict'].values():
        if weight.ndim > 1 and weight.shape[1] % 4 == 0:
            weight *= choose_in_groups(weight, 2, 4)
    torch.save(checkpoint, tmp_path / 'two_of_four.pth')
    students = dict(
        plain=plain, half_the_channels=f'{trained(L1).work_dir}/epoch_2.pth', two_of_four=tmp_path / 'two_of_four.pth'
    )
    shipped = ship(students, ['torchscript-float32', 'mmpretrain-float32'], tmp_path / 'out')
    size = {choice.student: choice.bytes for choice in shipped.choices if choice.target == 'torchscript-float32'}
    assert size['half_the_channels'] < 0.5 * size['plain']
    assert size['two_of_four'] == pytest.approx(size['plain'], rel=0.01)
    assert shipped.zeros['plain'] == shipped.zeros['half_the_channels'] == 0
    assert 0.49 < shipped.zeros['two_of_four'] < 0.5  # the first convolution has one input
    assert 'two_of_four: 50 % of its weights are 0' in (tmp_path / 'out' / 'table.md').read_text()
    assert 'half_the_channels as mmpretrain-float32' in shipped.refused
