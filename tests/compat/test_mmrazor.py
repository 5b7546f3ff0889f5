"""The fixes for mmrazor: without the fix the fault is still there, with the fix it is gone."""

import sys
from collections import OrderedDict

import mmengine
import mmrazor
import pytest
import torch
import toys
from mmengine.logging import MessageHub
from mmengine.registry import DefaultScope
from mmengine.utils import digit_version
from mmrazor.models.mutators import DMCPChannelMutator
from mmrazor.models.task_modules.recorder import ModuleInputsRecorder, ModuleOutputsRecorder
from torch import nn

from r2kd_mm.compat import mmrazor as cures
from r2kd_mm.registry import MODELS

TORCH = digit_version(torch.__version__)

MODULES_ARE_A_DICT = not isinstance(nn.Module()._modules, OrderedDict)
BATCH_NORM_TAP = 'backbone.layer2.0.bn1'  # an in-place ReLU follows it


def distiller(loss_name: str = 'loss_feature', **fields) -> dict:
    """Stock mmrazor distillation of one batch-norm output."""
    tap = dict(feature=dict(type='ModuleOutputs', source=BATCH_NORM_TAP))
    return dict(
        type='mmrazor.SingleTeacherDistill',
        architecture=toys.classifier(),
        teacher=toys.classifier(),
        distiller=dict(
            type='ConfigurableDistiller',
            student_recorders=tap,
            teacher_recorders=tap,
            distill_losses={loss_name: dict(type='L2Loss')},
            loss_forward_mappings={
                loss_name: dict(
                    s_feature=dict(recorder='feature', from_student=True),
                    t_feature=dict(recorder='feature', from_student=False),
                )
            },
        ),
        **fields,
    )


def build(cfg: dict) -> nn.Module:
    with DefaultScope.overwrite_default_scope('r2kd_mm'):
        return MODELS.build(cfg)


def recorded_minimum(model: nn.Module) -> float:
    """Smallest value that the recorder saw at the batch norm of the student."""
    model.train()
    model(*toys.batch(), mode='loss')
    return model.distiller.get_record('feature', from_student=True).min().item()


class TestImports:
    def test_mmrazor_cannot_be_imported_untouched(self, upstream):
        assert 'torch>=1.13' in upstream['mmrazor import'], 'the fault is gone: drop the cure'

    def test_mmrazor_sees_the_true_torch_after_its_import(self):
        from mmrazor.models.quantizers import native_quantizer
        from mmrazor.models.task_modules.tracer import fx_tracer

        assert mmrazor.digit_version is mmengine.utils.digit_version
        for module in (fx_tracer, native_quantizer):
            assert module.digit_version(torch.__version__) == TORCH

    def test_what_mmrazor_seldom_needs_is_imported_when_it_is_used(self, monkeypatch):
        monkeypatch.delitem(sys.modules, 'sklearn.tree', raising=False)
        found = {}

        def load():
            exec('from sklearn.tree import DecisionTreeRegressor', found)
            assert type(sys.modules['sklearn.tree']) is not type(sys)

        cures.put_off_rare_imports(load)
        assert 'sklearn.tree' not in sys.modules
        tree = found['DecisionTreeRegressor'](max_depth=1)
        assert tree.fit([[0.0], [1.0]], [2, 3]).predict([[1.0]]).tolist() == [3]
        assert type(sys.modules['sklearn.tree']) is type(sys)

    def test_the_margins_of_ofd_equal_scipy(self):
        from mmrazor.models.distillers import OFDDistiller

        norm = sys.modules[OFDDistiller.__module__].norm
        assert norm.cdf(0.0) == 0.5

    def test_a_package_that_is_not_installed_is_missed_when_it_is_used(self, monkeypatch):
        monkeypatch.setitem(sys.modules, 'mmrazor.seldom', None)
        with pytest.raises(ModuleNotFoundError, match=r'mmrazor\.seldom'):
            cures._Rare('mmrazor.seldom').anything()

    def test_the_recursion_limit_is_kept(self, upstream):
        import mmrazor.models  # noqa: F401

        assert upstream['recursion limit'] == 2**20, 'the fault is gone: drop the cure'
        assert sys.getrecursionlimit() < 2**20

    def test_the_recursion_limit_is_restored_after_an_error_too(self):
        limit = sys.getrecursionlimit()

        def load():
            sys.setrecursionlimit(limit + 1)
            raise ImportError

        with pytest.raises(ImportError):
            cures.keep_recursion_limit(load)
        assert sys.getrecursionlimit() == limit


class TestSilentFaults:
    def test_dmcp_begins_where_its_parameters_have_a_gradient(self, monkeypatch):
        upstream = getattr(DMCPChannelMutator._build_arch_param, '__wrapped__', DMCPChannelMutator._build_arch_param)
        monkeypatch.setattr(DMCPChannelMutator, '_build_arch_param', upstream)
        monkeypatch.setattr(cures, '_gradient_at_bound_of_clamp', lambda: 0.0)  # as from torch 2.14 on
        cures.begin_dmcp_above_zero()
        parameter = DMCPChannelMutator._build_arch_param(None, 3)
        assert isinstance(parameter, nn.Parameter)
        assert torch.equal((-parameter.clamp(min=0)).exp(), torch.ones(3))  # as from 0
        (gradient,) = torch.autograd.grad(parameter.clamp(min=0).sum(), parameter)
        assert gradient.tolist() == [1, 1, 1]

    @pytest.mark.skipif(not MODULES_ARE_A_DICT, reason='torch < 2.5: nn.Module._modules is an OrderedDict, no fault')
    def test_a_recorder_sees_rectified_values_untouched(self, upstream):
        assert upstream['recorded minimum'] == 0, 'the fault is gone: drop the cure'

    def test_a_recorder_on_a_batch_norm_sees_negative_values(self):
        assert recorded_minimum(build(distiller())) < -1

    def test_the_teacher_is_switched_too_and_only_where_it_is_asked_for(self):
        def inplace(module):
            return {child.inplace for child in module.modules() if hasattr(child, 'inplace')}

        model = build(distiller())
        assert inplace(model.architecture) == inplace(model.teacher) == {False}
        model = build(distiller(module_inplace=True, teacher_module_inplace=True))
        assert True in inplace(model.architecture)
        assert True in inplace(model.teacher)

    @pytest.mark.parametrize('kind', [ModuleInputsRecorder, ModuleOutputsRecorder])
    def test_a_record_stays_when_its_tensor_is_changed(self, upstream, kind):
        assert upstream['record of a 0 that became 1'] == 1, 'the fault is gone: drop the cure'
        recorder = kind('0')
        network = nn.Sequential(nn.Identity())
        recorder.initialize(network)
        with recorder:
            network(torch.zeros(1)).add_(1)
        (value,) = recorder.get_record_data()
        assert value == 0
        recorder.reset_data_buffer()
        network(torch.zeros(1))
        assert recorder.data_buffer == []

    def test_a_resumed_run_prunes_from_the_structure_that_the_first_one_began_with(self):
        parse_cfg = dict(type='ChannelAnalyzer', demo_input=(1, 3, 8, 8), tracer_type='BackwardTracer')
        units = dict(type='L1MutableChannelUnit', default_args=dict(choice_mode='ratio'))
        mutator = dict(type='ChannelMutator', channel_unit_cfg=units, parse_cfg=parse_cfg)
        algorithm = build(dict(type='mmrazor.ItePruneAlgorithm', architecture=toys.classifier(), mutator_cfg=mutator))
        untouched = type(algorithm)._init_prune_config_manager.__wrapped__
        hub = MessageHub.get_current_instance()
        for name, value in dict(max_epochs=2, max_iters=8, iter=0).items():
            hub.update_info(name, value)
        full = algorithm._init_prune_config_manager().supernet
        assert set(full.values()) == {1.0}
        algorithm.mutator.set_choices(dict.fromkeys(full, 0.5))
        hub.update_info('iter', 4)
        assert set(untouched(algorithm).supernet.values()) == {0.5}, 'the fault is gone: drop the cure'
        assert algorithm._init_prune_config_manager().supernet == full
        hub.update_info('iter', 0)  # a new run that prunes further
        assert set(algorithm._init_prune_config_manager().supernet.values()) == {0.5}

    def test_the_switch_is_left_alone_where_it_works(self, monkeypatch):
        from mmrazor.models.algorithms import BaseAlgorithm

        untouched = object()
        monkeypatch.setattr(BaseAlgorithm, 'set_module_inplace_false', untouched)
        monkeypatch.setattr(cures, 'OrderedDict', dict)
        cures.switch_off_inplace_again()
        assert BaseAlgorithm.set_module_inplace_false is untouched

    def test_train_and_eval_return_the_model(self, upstream):
        assert upstream['train returns'] == 'None', 'the fault is gone: drop the cure'
        model = build(distiller())
        assert model.train() is model
        assert model.training
        assert model.eval() is model
        assert not model.training

    def test_train_still_freezes_the_batch_norm_of_the_teacher(self):
        model = build(distiller()).train()
        norms = [module for module in model.teacher.modules() if isinstance(module, nn.BatchNorm2d)]
        assert norms
        assert not any(norm.training for norm in norms)

    def test_a_loss_that_would_not_be_trained_is_refused(self, upstream):
        assert upstream['total without distill.kd'], 'the fault is gone: drop the cure'
        with pytest.raises(ValueError, match="must contain 'loss', got 'kd': MMEngine would show it and not train it"):
            build(distiller(loss_name='kd'))

    def test_a_loss_of_a_good_name_is_part_of_the_total(self):
        model = build(distiller())
        total, shown = model.parse_losses(model(*toys.batch(), mode='loss'))
        assert total.item() == pytest.approx(shown['student.loss'].item() + shown['distill.loss_feature'].item())
        assert shown['distill.loss_feature'].item() > 0
