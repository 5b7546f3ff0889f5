"""Each cure against its fault: first that the fault is still there without the cure, then that it is gone with it."""

import io
import json
import os
import pickle
import subprocess
import sys
import time
import warnings
from collections import Counter, OrderedDict, deque, namedtuple
from importlib import metadata
from pathlib import Path

import mmcv
import mmengine
import mmengine.runner.checkpoint as mmengine_checkpoint
import mmrazor
import numpy as np
import pytest
import ranks
import toolbox
import torch
import toys
from mmengine.config import Config, ConfigDict
from mmengine.dist import get_world_size
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.registry import PARAM_SCHEDULERS, DefaultScope
from mmengine.runner import Runner
from mmengine.runner.checkpoint import CheckpointLoader
from mmengine.utils import digit_version
from mmrazor.models.task_modules.recorder import ModuleInputsRecorder, ModuleOutputsRecorder
from torch import nn
from yapf.yapflib import yapf_api

from r2kd_mm import compat
from r2kd_mm.registry import MODELS

TORCH = digit_version(torch.__version__)
MODULES_ARE_A_DICT = not isinstance(nn.Module()._modules, OrderedDict)
IS_FORK = any(found.metadata['Name'] == 'onedl-mmengine' for found in metadata.distributions())
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


class RunsCode:
    """An object whose pickle creates a file when it is loaded."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return os.system, (f'touch "{self.trace}"',)


@pytest.fixture(scope='module')
def runner_checkpoint(tmp_path_factory) -> Path:
    """A checkpoint as MMEngine's Runner writes it."""
    work_dir = tmp_path_factory.mktemp('run')
    schedule = dict(type='MultiStepLR', milestones=[1])  # its milestones are a collections.Counter
    toys.runner(toys.classifier(), work_dir, param_scheduler=schedule).train()
    return work_dir / 'epoch_1.pth'


@pytest.fixture(scope='module')
def upstream(runner_checkpoint) -> dict:
    """What the stack does in processes that never import r2kd_mm, as ``{fault: what was seen}``."""
    seen = {}
    for script in (UNTOUCHED, ONLY_IMPORTABLE):
        environment = dict(os.environ, COMPAT=compat.__file__, CHECKPOINT=str(runner_checkpoint))
        process = subprocess.run(
            [sys.executable, '-W', 'ignore', '-c', script],
            env=environment,
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
        seen |= json.loads(process.stdout.splitlines()[-1])
    return seen


# torchvision's fault is taken out of the way first, since mmpretrain cannot be imported before
UNTOUCHED = """
import importlib.util, json, os, sys, warnings
seen = {}
def attempt(name, function):
    try:
        function()
        seen[name] = ''
    except Exception as error:
        seen[name] = f'{type(error).__name__}: {error}'

spec = importlib.util.spec_from_file_location('compat', os.environ['COMPAT'])
compat = importlib.util.module_from_spec(spec)
spec.loader.exec_module(compat)
compat.declare_missing_torchvision_operators()
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter('always')
    import mmpretrain.models
seen['mmpretrain import'] = ' '.join(str(warning.message) for warning in caught)
attempt('mmrazor import', lambda: __import__('mmrazor.models'))
from mmengine.runner import Runner
from mmengine.runner.checkpoint import CheckpointLoader
attempt('checkpoint', lambda: CheckpointLoader.load_checkpoint(os.environ['CHECKPOINT'], map_location='cpu'))
from mmengine.dist import init_dist
os.environ.update(RANK='0', WORLD_SIZE='1', LOCAL_RANK='0', MASTER_ADDR='127.0.0.1', MASTER_PORT='29511')
attempt('init_dist', lambda: init_dist('pytorch', backend='gloo'))
import mmcv, numpy
attempt('hue', lambda: mmcv.adjust_hue(numpy.zeros((1, 1, 3), numpy.uint8), -0.1, backend='cv2'))
from yapf.yapflib import yapf_api
from mmengine.config import Config
layouts, lay_out = [], yapf_api.FormatTree
yapf_api.FormatTree = lambda *args, **options: layouts.append(1) or lay_out(*args, **options)
cfg = Config(dict(a=1))
cfg.pretty_text, cfg.pretty_text
seen['layouts of a config'] = len(layouts)
print(json.dumps(seen))
"""

# only the cures without which mmrazor cannot be imported
ONLY_IMPORTABLE = """
import importlib.util, json, os, sys, warnings
spec = importlib.util.spec_from_file_location('compat', os.environ['COMPAT'])
compat = importlib.util.module_from_spec(spec)
spec.loader.exec_module(compat)
compat.declare_missing_torchvision_operators()
compat.import_mmpretrain()
compat.import_mmrazor()
seen = {'recursion limit': sys.getrecursionlimit()}

import torch, toys
from mmengine.registry import PARAM_SCHEDULERS, DefaultScope
from mmrazor.registry import MODELS
DefaultScope.get_instance('mmrazor', scope_name='mmrazor')
def classifier():
    cfg = toys.classifier()
    return dict(cfg, _scope_='mmpretrain')
def distiller(loss_name):
    tap = dict(feature=dict(type='ModuleOutputs', source='backbone.layer2.0.bn1'))
    mapping = {loss_name: dict(s_feature=dict(recorder='feature', from_student=True),
                               t_feature=dict(recorder='feature', from_student=False))}
    wiring = dict(type='ConfigurableDistiller', student_recorders=tap, teacher_recorders=tap,
                  distill_losses={loss_name: dict(type='L2Loss')}, loss_forward_mappings=mapping)
    return MODELS.build(dict(
        type='SingleTeacherDistill', architecture=classifier(), teacher=classifier(), distiller=wiring))
model = distiller('kd')
seen['train returns'] = str(model.train())
losses = model(*toys.batch(), mode='loss')
total, shown = model.parse_losses(losses)
seen['recorded minimum'] = model.distiller.get_record('feature', from_student=True).min().item()
from mmrazor.models.task_modules.recorder import ModuleOutputsRecorder
recorder = ModuleOutputsRecorder('0')
network = torch.nn.Sequential(torch.nn.Identity())
recorder.initialize(network)
with recorder:
    network(torch.zeros(1)).add_(1)
seen['record of a 0 that became 1'] = recorder.get_record_data().item()
seen['total without distill.kd'] = 'distill.kd' in shown and total.item() == shown['student.loss'].item()
print(json.dumps(seen))
"""


class TestImports:
    def test_mmrazor_cannot_be_imported_untouched(self, upstream):
        assert 'torch>=1.13' in upstream['mmrazor import'], 'the fault is gone: drop the cure'

    def test_mmrazor_is_imported_whole(self):
        for name in compat.MMRAZOR_MODULES:
            assert f'mmrazor.{name}' in sys.modules

    def test_mmrazor_sees_the_true_torch_after_its_import(self):
        from mmrazor.models.task_modules.tracer import fx_tracer

        assert mmrazor.digit_version is mmengine.utils.digit_version
        assert fx_tracer.digit_version(torch.__version__) == TORCH

    def test_mmpretrain_warns_untouched_and_not_through_us(self, upstream):
        assert 'MultiScaleDeformableAttention' in upstream['mmpretrain import'], 'the fault is gone: drop the cure'
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            compat.import_mmpretrain()

    def test_the_quiet_import_lets_other_warnings_through(self, monkeypatch):
        def import_with_warnings(name):
            warnings.warn(
                'Fail to import ``MultiScaleDeformableAttention`` from ``mmcv.ops.multi_scale_deform_attn``',
                stacklevel=1,
            )
            warnings.warn(f'something else in {name}', stacklevel=1)

        monkeypatch.setattr(compat, 'import_module', import_with_warnings)
        with pytest.warns(UserWarning, match='something else') as caught:
            compat.import_mmpretrain()
        assert {str(warning.message) for warning in caught} == {
            f'something else in mmpretrain.{name}' for name in compat.MMPRETRAIN_MODULES
        }

    def test_the_recursion_limit_is_kept(self, upstream):
        assert upstream['recursion limit'] == 2**20, 'the fault is gone: drop the cure'
        assert sys.getrecursionlimit() < 2**20

    def test_the_recursion_limit_is_restored_after_an_error_too(self):
        limit = sys.getrecursionlimit()

        def fail():
            with compat.keep_recursion_limit():
                sys.setrecursionlimit(limit + 1)
                raise ImportError

        pytest.raises(ImportError, fail)
        assert sys.getrecursionlimit() == limit


class TestTorchvision:
    @staticmethod
    def import_that_wants(*operators):
        def import_module(name):
            for operator in operators:
                if not hasattr(torch.ops.torchvision, operator):
                    raise RuntimeError(f'operator torchvision::{operator} does not exist')

        return import_module

    def test_imports_here(self):
        import torchvision

        assert torchvision.transforms.functional.hflip(torch.tensor([[[1, 2]]])).tolist() == [[[2, 1]]]

    def test_declares_each_missing_operator_and_says_so_once(self, monkeypatch):
        monkeypatch.setattr(compat, 'import_module', self.import_that_wants('toy_a', 'toy_b'))
        with pytest.warns(UserWarning, match=r'compiled operators \(toy_a, toy_b\) cannot be called') as caught:
            compat.declare_missing_torchvision_operators()
        assert len(caught) == 1

    def test_is_silent_where_nothing_is_missing(self, monkeypatch):
        monkeypatch.setattr(compat, 'import_module', self.import_that_wants())
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            compat.declare_missing_torchvision_operators()

    @pytest.mark.parametrize('message', ['CUDA is broken', 'operator aten::conv9d does not exist'])
    def test_other_errors_pass(self, monkeypatch, message):
        def import_module(name):
            raise RuntimeError(message)

        monkeypatch.setattr(compat, 'import_module', import_module)
        with pytest.raises(RuntimeError, match=message):
            compat.declare_missing_torchvision_operators()

    def test_ends_where_a_declaration_does_not_help(self, monkeypatch):
        def import_module(name):
            raise RuntimeError('operator torchvision::toy_c does not exist')

        monkeypatch.setattr(compat, 'import_module', import_module)
        with pytest.raises(RuntimeError, match='operator torchvision::toy_c does not exist'):
            compat.declare_missing_torchvision_operators()


class TestSilentFaults:
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
        monkeypatch.setattr(compat, 'OrderedDict', dict)
        compat.switch_off_inplace_again()
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

    def test_a_second_application_changes_nothing(self):
        from mmrazor.models.algorithms import BaseAlgorithm, ItePruneAlgorithm, SingleTeacherDistill
        from mmrazor.models.distillers import ConfigurableDistiller

        def patched():
            return (
                BaseAlgorithm.set_module_inplace_false,
                SingleTeacherDistill.train,
                ConfigurableDistiller.build_distill_losses,
                ItePruneAlgorithm._init_prune_config_manager,
                ModuleInputsRecorder.forward_hook,
                ModuleOutputsRecorder.forward_hook,
                mmcv.adjust_hue,
                mmengine.config.config.FormatCode,
                mmengine_checkpoint.save_checkpoint,
                Runner.setup_env,
                mmrazor.digit_version,
            )

        before = patched()
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            compat.apply()
        assert patched() == before


@pytest.fixture(params=['weights_only', 'unpickler of our own'])
def both_loaders(request, monkeypatch) -> None:
    """Run a test with the loader for torch 2.6 and later, and with that for older ones."""
    if request.param == 'weights_only' and digit_version('2.6.0') > TORCH:
        pytest.skip('this torch cannot allow HistoryBuffer under weights_only')
    monkeypatch.setattr(compat, '_safe_globals_take_names', lambda: request.param == 'weights_only')


@pytest.mark.usefixtures('both_loaders')
class TestCheckpoints:
    def test_a_checkpoint_of_the_runner_loads(self, runner_checkpoint):
        checkpoint = compat.load_checkpoint_file(runner_checkpoint)
        assert set(checkpoint) >= {'meta', 'state_dict', 'message_hub', 'optimizer'}
        history = checkpoint['message_hub']['log_scalars']['train/loss']
        assert isinstance(history, HistoryBuffer)
        assert history.data[0].shape == (4,)
        assert history.mean() == pytest.approx(history.data[0].mean())

    def test_a_bare_state_dict_loads(self, tmp_path):
        state = nn.BatchNorm2d(3).state_dict()
        torch.save(state, tmp_path / 'bare.pth')
        torch.testing.assert_close(dict(compat.load_checkpoint_file(tmp_path / 'bare.pth')), dict(state))

    @pytest.mark.parametrize('zipped', [True, False])
    def test_a_hostile_pickle_does_not_run(self, tmp_path, zipped):
        trace, path = tmp_path / 'trace', tmp_path / 'hostile.pth'
        torch.save(dict(state_dict=RunsCode(trace)), path, _use_new_zipfile_serialization=zipped)
        with pytest.raises(ValueError, match=r"hostile\.pth' is refused: it wants (posix|nt)\.system called or built"):
            compat.load_checkpoint_file(path)
        assert not trace.exists()
        with warnings.catch_warnings():  # the file does harm where nothing stops it
            warnings.simplefilter('ignore')
            torch.load(path, weights_only=False)
        assert trace.exists()

    def test_getattr_reaches_the_statistics_of_the_history_and_nothing_else(self, tmp_path):
        class Reaches:
            def __init__(self, obj, name):
                self.arguments = obj, name

            def __reduce__(self):
                return getattr, self.arguments

        torch.save(dict(method=Reaches(HistoryBuffer, 'mean')), tmp_path / 'good.pth')
        assert compat.load_checkpoint_file(tmp_path / 'good.pth')['method'] is HistoryBuffer.mean
        for arguments in [(HistoryBuffer, '__init__'), (HistoryBuffer, '__globals__'), (dict, 'mean')]:
            torch.save(dict(method=Reaches(*arguments)), tmp_path / 'bad.pth')
            with pytest.raises(ValueError, match=r'is refused|is no checkpoint'):
                compat.load_checkpoint_file(tmp_path / 'bad.pth')

    def test_an_unknown_class_is_refused_by_name(self, tmp_path):
        torch.save(dict(cfg=mmengine.Config(dict(a=1))), tmp_path / 'cfg.pth')
        with pytest.raises(ValueError, match=r'it wants mmengine\.config\.config\.Config called or built'):
            compat.load_checkpoint_file(tmp_path / 'cfg.pth')

    @pytest.mark.parametrize(
        'content', [b'a text file\n', b'<!DOCTYPE html>', b'\x89PNG\r\n\x1a\n' + bytes(range(256)), b'\0']
    )
    def test_another_kind_of_file_is_no_checkpoint(self, tmp_path, content):
        (tmp_path / 'other.pth').write_bytes(content)
        with pytest.raises(ValueError, match=r"other\.pth' is no checkpoint, or a damaged one .*expected a file that"):
            compat.load_checkpoint_file(tmp_path / 'other.pth')

    @pytest.mark.parametrize('zipped', [True, False])
    @pytest.mark.parametrize('fraction', [0.02, 0.5, 0.99])
    def test_a_truncated_file_is_told_as_such(self, tmp_path, zipped, fraction):
        path = tmp_path / 'cut.pth'
        torch.save(dict(weight=torch.ones(1000)), path, _use_new_zipfile_serialization=zipped)
        path.write_bytes(path.read_bytes()[: int(fraction * path.stat().st_size)])
        with pytest.raises(
            ValueError, match=r"cut\.pth' is (cut off|no checkpoint, or a damaged one).*copy or download it"
        ):
            compat.load_checkpoint_file(path)

    def test_a_flipped_bit_in_a_weight_is_found_by_its_checksum(self, tmp_path):
        path = tmp_path / 'flipped.pth'
        torch.save(dict(weight=torch.full((1000,), 0.25)), path)
        data = bytearray(path.read_bytes())
        data[data.index(np.float32(0.25).tobytes() * 10)] ^= 1
        path.write_bytes(data)
        assert not torch.equal(torch.load(path)['weight'], torch.full((1000,), 0.25))  # torch does not look
        with pytest.raises(ValueError, match=r"flipped\.pth' is damaged: the checksum of flipped/data/0 is wrong"):
            compat.load_checkpoint_file(path)

    @pytest.mark.skipif(not hasattr(torch.serialization, 'set_crc32_options'), reason='this torch always has checksums')
    def test_a_file_without_checksums_loads(self, tmp_path):
        torch.serialization.set_crc32_options(False)
        try:
            torch.save(dict(weight=torch.ones(3)), tmp_path / 'fast.pth')
        finally:
            torch.serialization.set_crc32_options(True)
        assert compat.load_checkpoint_file(tmp_path / 'fast.pth')['weight'].tolist() == [1, 1, 1]

    def test_a_config_that_mmengine_would_run_is_left_out(self, tmp_path):
        torch.save(dict(meta=dict(config='1 / 0', cfg='model = None')), tmp_path / 'old.pth')
        assert compat.load_checkpoint_file(tmp_path / 'old.pth') == dict(meta=dict(cfg='model = None'))

    def test_a_single_tensor_is_no_checkpoint(self, tmp_path):
        torch.save(torch.ones(2), tmp_path / 'tensor.pth')
        with pytest.raises(ValueError, match='holds one Tensor; expected a dict of weights'):
            compat.load_checkpoint_file(tmp_path / 'tensor.pth')


# What each scheduler of MMEngine needs to be built, by the start of its name.
SCHEDULER_FIELDS = dict(
    Constant=dict(end=3),
    CosineAnnealing=dict(T_max=8),
    CosineRestart=dict(periods=[2, 6], restart_weights=[1, 0.5], eta_min=0.0),
    Exponential=dict(gamma=0.9),
    Linear=dict(end=8),
    MultiStep=dict(milestones=[2, 4, 4]),
    OneCycle=dict(total_steps=8, eta_max=0.5),
    Poly=dict(end=8),
    ReduceOnPlateau=dict(monitor='loss', rule='less', patience=0),
    Step=dict(step_size=3),
)
SCHEDULERS = sorted(PARAM_SCHEDULERS.module_dict)


def scheduled(name: str, steps: int, state: dict | None = None) -> tuple:
    """A scheduler after so many steps, and the value of its parameter after each; ``state`` is loaded before."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    fields = next(fields for start, fields in SCHEDULER_FIELDS.items() if name.startswith(start))
    scheduler = PARAM_SCHEDULERS.build(
        dict(fields, type=name, **(dict(param_name='lr') if name.endswith('ParamScheduler') else {})),
        default_args=dict(optimizer=optimizer),
    )
    if state is not None:
        scheduler.load_state_dict(state['param_schedulers'][0])
        optimizer.load_state_dict(state['optimizer'])
    values = []
    for _ in range(steps):
        optimizer.step()
        scheduler.step(*([dict(loss=1.0)] if name.startswith('ReduceOnPlateau') else []))
        values.append(optimizer.param_groups[0][scheduler.param_name])
    return scheduler, values


class TestPlainCheckpoints:
    @pytest.mark.parametrize('name', SCHEDULERS)
    def test_every_scheduler_of_mmengine_goes_on_from_its_checkpoint(self, tmp_path, name):
        scheduler, _ = scheduled(name, 3)
        optimizer = scheduler.optimizer.state_dict()
        mmengine_checkpoint.save_checkpoint(
            dict(param_schedulers=[scheduler.state_dict()], optimizer=optimizer), str(tmp_path / 'saved.pth')
        )
        state = compat.load_checkpoint_file(tmp_path / 'saved.pth')
        whole = scheduled(name, 8)[1]
        assert scheduled(name, 5, state)[1] == whole[3:]
        assert len(set(whole)) > 1

    def test_what_mmengine_writes_without_us_is_refused(self, tmp_path):
        untouched = mmengine_checkpoint.save_checkpoint.__wrapped__
        untouched(dict(meta=dict(root=tmp_path)), str(tmp_path / 'saved.pth'))
        with pytest.raises(ValueError, match='is refused: it wants pathlib'):
            compat.load_checkpoint_file(tmp_path / 'saved.pth')

    def test_what_stands_in_meta_is_written_plainly(self, tmp_path):
        Point = namedtuple('Point', 'x y')
        palette = np.array([[1, 2], [3, 4]], np.uint8)
        meta = dict(
            classes=np.array(['cat', 'dog']),
            palette=palette,
            count=np.int64(3),
            split=ConfigDict(root=tmp_path, names=deque(['a'], maxlen=3)),
            point=Point(1, np.float32(0.5)),
            both=frozenset({1, 2}),
            kinds=[ConfigDict, torch.float16],
            counter=Counter('aab'),
        )
        mmengine_checkpoint.save_checkpoint(dict(meta=meta), str(tmp_path / 'saved.pth'))
        loaded = compat.load_checkpoint_file(tmp_path / 'saved.pth')['meta']
        assert loaded.pop('palette').tolist() == palette.tolist()
        assert loaded == dict(
            classes=['cat', 'dog'],
            count=3,
            split=dict(root=str(tmp_path), names=['a']),
            point=(1, 0.5),
            both={1, 2},
            kinds=["<class 'mmengine.config.config.ConfigDict'>", torch.float16],
            counter=Counter('aab'),
        )
        assert [type(loaded[name]) for name in ('split', 'point', 'count')] == [dict, tuple, int]

    def test_what_is_plain_stays_the_object_that_it_is(self):
        weights = nn.Linear(2, 2).state_dict()
        assert compat.plain(weights) is weights
        hub = dict(history=HistoryBuffer([1.0], [1]), best=(1, [2.0, None]))
        assert compat.plain(hub) is hub

    def test_a_state_that_is_not_plain_is_refused_by_its_place(self, tmp_path):
        with pytest.raises(TypeError, match=r'my_hook\.rng of the checkpoint is a torch\.\S*Generator'):
            mmengine_checkpoint.save_checkpoint(dict(my_hook=dict(rng=torch.Generator())), str(tmp_path / 'saved.pth'))
        assert not (tmp_path / 'saved.pth').exists()


NEW_YEAR = 1767225599.0  # the last second of a minute, an hour, a day, a month and a year


def start_in_one_second(work_dir, starts: int) -> list[str]:
    """The names of the folders of so many starts, all of them in the same second."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr('mmengine.runner.runner.time.time', lambda: NEW_YEAR)
        return [Path(toys.runner(toys.classifier(), work_dir).log_dir).name for _ in range(starts)]


class TestRunFolders:
    def test_each_start_has_one_of_its_own_though_all_are_in_one_second(self, tmp_path, monkeypatch):
        monkeypatch.setenv('TZ', 'UTC')
        time.tzset()
        names = ['20251231_235959', '20260101_000000', '20260101_000001']
        assert start_in_one_second(tmp_path, 3) == names
        logs = [len(list(tmp_path.glob(f'{name}/*.log'))) for name in names]
        assert logs == [1, 1, 1]
        monkeypatch.undo()
        time.tzset()

    @pytest.mark.slow
    def test_all_ranks_of_a_start_have_the_same(self, tmp_path):
        first, second = ranks.run_on_ranks(2, start_in_one_second, str(tmp_path), 2)
        assert first == second
        assert len(set(first)) == 2


class TestCheckpointLoader:
    @pytest.mark.skipif(
        digit_version('2.6.0') > TORCH, reason='torch < 2.6 does not refuse the checkpoints of the Runner'
    )
    @pytest.mark.skipif(IS_FORK, reason='onedl-mmengine loads its checkpoints, and runs the code in hostile ones')
    def test_mmengine_refuses_its_own_checkpoint_untouched(self, upstream):
        assert 'HistoryBuffer' in upstream['checkpoint'], 'the fault is gone: drop the cure'

    def test_mmengine_loads_through_us(self, runner_checkpoint):
        assert 'message_hub' in CheckpointLoader.load_checkpoint(str(runner_checkpoint), map_location='cpu')

    def test_the_home_directory_is_expanded(self, runner_checkpoint, monkeypatch):
        monkeypatch.setenv('HOME', str(runner_checkpoint.parent))
        assert 'state_dict' in compat.load_checkpoint_file('~/epoch_1.pth')

    def test_a_missing_file(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"no\.pth' does not exist; check the path"):
            CheckpointLoader.load_checkpoint(str(tmp_path / 'no.pth'))

    def test_a_folder(self, tmp_path):
        with pytest.raises(ValueError, match='is a folder; name the file in it'):
            compat.load_checkpoint_file(tmp_path)

    def test_an_empty_file(self, tmp_path):
        (tmp_path / 'empty.pth').touch()
        with pytest.raises(ValueError, match=r"empty\.pth' is empty; copy or download it again"):
            compat.load_checkpoint_file(tmp_path / 'empty.pth')

    @pytest.mark.parametrize('url', ['https://example.org/hostile.pth', 'http://example.org/hostile.pth'])
    def test_a_downloaded_pickle_does_not_run_either(self, tmp_path, monkeypatch, url):
        def download(url, path, progress):
            torch.save(RunsCode(tmp_path / 'trace'), path)

        monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
        monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
        with pytest.raises(ValueError, match='system called or built while it loads'):
            CheckpointLoader.load_checkpoint(url, map_location='cpu')
        assert not (tmp_path / 'trace').exists()

    def test_a_download_is_made_once(self, tmp_path, monkeypatch):
        calls = []

        def download(url, path, progress):
            calls.append(url)
            torch.save(dict(weight=torch.ones(1)), path)

        monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
        for _ in range(2):
            checkpoint = compat.load_url('https://example.org/a/model.pth?x=1', model_dir=str(tmp_path))
            assert checkpoint['weight'].item() == 1
        assert calls == ['https://example.org/a/model.pth?x=1']
        assert (tmp_path / 'model.pth').is_file()

    def test_a_failed_download_is_explained(self, tmp_path, monkeypatch):
        def download(url, path, progress):
            raise OSError('no route to host')

        monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
        with pytest.raises(ValueError, match=r'cannot be downloaded \(no route to host\); check the address'):
            compat.load_url('https://example.org/model.pth', model_dir=str(tmp_path))

    def test_the_unpickler_of_our_own_allows_what_torch_allows(self):
        assert restricted_loads(OrderedDict(a=1)) == OrderedDict(a=1)
        with pytest.raises(pickle.UnpicklingError, match=r'GLOBAL pathlib\S*'):
            restricted_loads(Path('x'))

    def test_the_unpickler_of_our_own_knows_plain_types_that_an_old_torch_does_not(self, monkeypatch):
        monkeypatch.setattr('torch._weights_only_unpickler._get_allowed_globals', dict)
        for value in [Counter('aab'), {1, 2}, 1j, bytearray(b'a'), b'a', torch.Size([2]), torch.device('cpu')]:
            assert restricted_loads(value) == value


def restricted_loads(obj):
    return compat.RestrictedUnpickler(io.BytesIO(pickle.dumps(obj, protocol=2))).load()


class TestHue:
    @pytest.fixture
    def image(self) -> np.ndarray:
        return np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)

    @pytest.mark.skipif(digit_version(np.__version__) < digit_version('2'), reason='numpy 1 wraps negative numbers')
    def test_a_negative_factor_fails_untouched(self, upstream):
        assert 'OverflowError' in upstream['hue'], 'the fault is gone: drop the cure'

    @pytest.mark.parametrize('backend', ['cv2', 'pillow'])
    @pytest.mark.parametrize('factor', [0.1, 0.3])
    def test_backwards_undoes_forwards(self, image, backend, factor):
        there_and_back = mmcv.adjust_hue(mmcv.adjust_hue(image, factor, backend=backend), -factor, backend=backend)
        assert np.abs(there_and_back.astype(int) - image).mean() < 3  # HSV in 8 bits rounds
        changed = mmcv.adjust_hue(image, -factor, backend=backend)
        assert np.abs(changed.astype(int) - image).mean() > 10

    @pytest.mark.parametrize('backend', ['cv2', 'pillow'])
    def test_the_own_path_equals_that_of_mmcv_where_both_work(self, image, backend):
        def refuse(*args):
            raise OverflowError

        expected = mmcv.adjust_hue(image, 0.3, backend=backend)
        np.testing.assert_array_equal(compat._adjust_hue(refuse, image, 0.3, backend), expected)

    def test_mmcv_still_checks_the_factor(self, image):
        with pytest.raises(ValueError, match=r'hue_factor:-0\.6 is not in'):
            mmcv.adjust_hue(image, -0.6, backend='cv2')

    def test_color_jitter_runs_with_hue(self, image):
        from mmpretrain.registry import TRANSFORMS

        jitter = TRANSFORMS.build(dict(type='ColorJitter', hue=(-0.2, -0.1)))
        assert jitter(dict(img=image))['img'].shape == image.shape


class TestConfigLayout:
    def test_a_config_is_laid_out_each_time_untouched(self, upstream):
        assert upstream['layouts of a config'] == 2, 'the fault is gone: drop the cure'

    def test_it_is_laid_out_once_until_it_changes(self, monkeypatch):
        layouts, lay_out = [], yapf_api.FormatTree

        def counted(*args, **options):
            layouts.append(args)
            return lay_out(*args, **options)

        monkeypatch.setattr(yapf_api, 'FormatTree', counted)
        cfg = Config(dict(only_here=[1, 2], model=dict(type='A')))
        assert cfg.pretty_text == cfg.pretty_text == "model = dict(type='A')\nonly_here = [\n    1,\n    2,\n]\n"
        assert len(layouts) == 1
        cfg.model.type = 'B'
        assert "type='B'" in cfg.pretty_text
        assert len(layouts) == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason='with CUDA the launchers of MMEngine are left alone')
class TestCpuLaunch:
    @pytest.fixture(autouse=True)
    def _clean_environment(self, monkeypatch):
        for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT'):
            monkeypatch.setenv(name, '')  # so that what the function sets is taken back
            monkeypatch.delenv(name)
        yield
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()

    def test_mmengine_cannot_launch_untouched(self, upstream):
        assert upstream['init_dist'], 'the fault is gone: drop the cure'

    @pytest.mark.parametrize(
        ('launcher', 'names'),
        [
            ('pytorch', dict(RANK='0', WORLD_SIZE='1', LOCAL_RANK='0')),
            ('slurm', dict(SLURM_PROCID='0', SLURM_NTASKS='1', SLURM_LOCALID='0')),
            ('mpi', dict(OMPI_COMM_WORLD_RANK='0', OMPI_COMM_WORLD_SIZE='1', OMPI_COMM_WORLD_LOCAL_RANK='0')),
        ],
    )
    def test_each_launcher_joins_its_processes(self, monkeypatch, launcher, names):
        port = toolbox.free_port()
        for name, value in dict(names, MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port)).items():
            monkeypatch.setenv(name, value)
        compat.init_cpu_process_group(launcher)
        assert torch.distributed.get_backend() == 'gloo'
        assert get_world_size() == 1
        assert os.environ['LOCAL_RANK'] == '0'  # read by the Runner
        compat.init_cpu_process_group(launcher)  # a second call leaves the group alone

    def test_slurm_meets_on_the_first_node_of_the_job(self, monkeypatch, tmp_path):
        scontrol = tmp_path / 'scontrol'  # stands for SLURM's, which the machines of the tests do not have
        scontrol.write_text('#!/bin/sh\n[ "$*" = "show hostnames node[3-4]" ] && printf "node3\\nnode4\\n"\n')
        scontrol.chmod(0o755)
        monkeypatch.setenv('PATH', str(tmp_path), prepend=os.pathsep)
        monkeypatch.setenv('SLURM_NODELIST', 'node[3-4]')
        assert compat._launcher_environment('slurm')['MASTER_ADDR'] == 'node3'
        monkeypatch.setenv('MASTER_ADDR', 'login')
        assert compat._launcher_environment('slurm')['MASTER_ADDR'] == 'login'

    def test_no_launcher_no_group(self):
        compat.init_cpu_process_group('none')
        assert not torch.distributed.is_initialized()

    def test_missing_variables_are_named(self, monkeypatch):
        monkeypatch.setenv('RANK', '0')
        with pytest.raises(
            ValueError, match=r"launcher='pytorch' needs MASTER_ADDR, WORLD_SIZE, LOCAL_RANK in the env"
        ):
            compat.init_cpu_process_group('pytorch')

    def test_an_unknown_launcher_is_refused(self):
        with pytest.raises(ValueError, match="launcher must be one of 'none', 'pytorch', 'slurm', 'mpi', got 'torch'"):
            compat.init_cpu_process_group('torch')
