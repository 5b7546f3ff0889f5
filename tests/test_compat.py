"""Each cure against its fault: first that the fault is still there without the cure, then that it is gone with it."""

import copy
import json
import os
import subprocess
import sys
import time
import warnings
from collections import Counter, OrderedDict, deque, namedtuple
from importlib import import_module, metadata
from pathlib import Path

import mmcv
import mmengine
import mmengine.runner.checkpoint as mmengine_checkpoint
import mmrazor
import numpy as np
import pytest
import ranks
import torch
import toys
from mmengine.config import Config, ConfigDict
from mmengine.hooks import EMAHook, Hook
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.model import BaseAveragedModel
from mmengine.registry import PARAM_SCHEDULERS, DefaultScope
from mmengine.runner import Runner
from mmengine.runner.checkpoint import CheckpointLoader
from mmengine.utils import digit_version
from mmpretrain.datasets import CustomDataset
from mmrazor.models.task_modules.recorder import ModuleInputsRecorder, ModuleOutputsRecorder
from PIL import Image
from torch import nn
from yapf.yapflib import yapf_api

from r2kd_mm import checkpoint, compat, distributed
from r2kd_mm.registry import DATASETS, MODELS

TORCH = digit_version(torch.__version__)
MODULES_ARE_A_DICT = not isinstance(nn.Module()._modules, OrderedDict)
IS_FORK = any(found.metadata['Name'] == 'onedl-mmengine' for found in metadata.distributions())
IMPORTED_EARLIER = ('checkpoint', 'hue', 'mmrazor import')
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


@pytest.fixture(scope='module')
def upstream(runner_checkpoint) -> dict:
    """What the stack does in processes that import r2kd_mm late, as ``{fault: what was seen}``."""
    seen = {}
    for script in (UNTOUCHED, ONLY_IMPORTABLE):
        environment = dict(os.environ, PACKAGE=str(Path(compat.__file__).parent), CHECKPOINT=str(runner_checkpoint))
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


# A package r2kd_mm whose cures are not applied, so that a process can choose.
WITHOUT_CURES = """
import importlib, json, os, sys, types, warnings
package = types.ModuleType('r2kd_mm')
package.__path__ = [os.environ['PACKAGE']]
sys.modules['r2kd_mm'] = package
from r2kd_mm import checkpoint, compat, distributed
from r2kd_mm.import_hook import wrap_import
def import_r2kd_mm():
    del sys.modules['r2kd_mm']
    importlib.import_module('r2kd_mm')
seen = {}
def attempt(name, function):
    try:
        function()
        seen[name] = ''
    except Exception as error:
        seen[name] = f'{type(error).__name__}: {error}'
"""

# only the cure without which mmpretrain cannot be imported, and all others once that has been seen
UNTOUCHED = (
    WITHOUT_CURES
    + """
wrap_import('torchvision', compat.declare_missing_torchvision_operators)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter('always')
    import mmpretrain.models
seen['mmpretrain import'] = ' '.join(str(warning.message) for warning in caught)
attempt('mmrazor import', lambda: __import__('mmrazor.models'))
from mmengine.dist import init_dist
os.environ.update(RANK='0', WORLD_SIZE='1', LOCAL_RANK='0', MASTER_ADDR='127.0.0.1', MASTER_PORT='29511')
attempt('init_dist', lambda: init_dist('pytorch', backend='gloo'))
import mmcv, numpy
from mmengine.config import Config, ConfigDict
from mmengine.runner.checkpoint import CheckpointLoader
from yapf.yapflib import yapf_api
layouts, lay_out = [], yapf_api.FormatTree
yapf_api.FormatTree = lambda *args, **options: layouts.append(1) or lay_out(*args, **options)
def look(when):
    attempt(f'checkpoint{when}', lambda: CheckpointLoader.load_checkpoint(os.environ['CHECKPOINT'], map_location='cpu'))
    attempt(f'hue{when}', lambda: mmcv.adjust_hue(numpy.zeros((1, 1, 3), numpy.uint8), -0.1, backend='cv2'))
    layouts.clear()
    cfg = Config(dict(a=1, when=when))
    cfg.pretty_text, cfg.pretty_text
    seen[f'layouts of a config{when}'] = len(layouts)
look('')
import_r2kd_mm()
look(' once r2kd_mm is imported')
attempt('mmrazor import once r2kd_mm is imported', lambda: __import__('mmrazor.models'))
print(json.dumps(seen))
"""
)

# only the cures without which mmrazor cannot be imported, and all others once its faults have been seen
ONLY_IMPORTABLE = (
    WITHOUT_CURES
    + """
for name, cures in compat.CURES.items():
    if {compat.declare_missing_torchvision_operators, compat.leave_out_quantization} & set(cures):
        wrap_import(name, cures[0])
import mmrazor.models
seen['recursion limit'] = sys.getrecursionlimit()

import torch, toys
from mmengine.registry import DefaultScope
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
def record_of_a_0_that_becomes_1():
    recorder = ModuleOutputsRecorder('0')
    network = torch.nn.Sequential(torch.nn.Identity())
    recorder.initialize(network)
    with recorder:
        network(torch.zeros(1)).add_(1)
    return recorder.get_record_data().item()
seen['record of a 0 that became 1'] = record_of_a_0_that_becomes_1()
seen['total without distill.kd'] = 'distill.kd' in shown and total.item() == shown['student.loss'].item()
import_r2kd_mm()
seen['cured'] = model.train() is model and record_of_a_0_that_becomes_1() == 0
attempt('kd once r2kd_mm is imported', lambda: distiller('kd'))
print(json.dumps(seen))
"""
)


class TestOrderOfImports:
    """The stack may be imported before r2kd_mm."""

    def test_mmengine_and_mmcv_are_cured(self, upstream):
        cured = {name: value for name, value in upstream.items() if name.endswith(' once r2kd_mm is imported')}
        assert 'must contain' in cured.pop('kd once r2kd_mm is imported')
        assert cured.pop('layouts of a config once r2kd_mm is imported') == 1
        assert cured == dict.fromkeys((f'{name} once r2kd_mm is imported' for name in IMPORTED_EARLIER), '')

    def test_mmrazor_is_cured(self, upstream):
        assert upstream['cured']

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
                BaseAveragedModel.update_parameters,
                mmrazor.digit_version,
            )

        before = patched()
        compat.apply()
        assert patched() == before

    def test_what_a_cure_waits_for_exists(self):
        for name in compat.CURES:
            assert import_module(name)


class TestImports:
    def test_mmrazor_cannot_be_imported_untouched(self, upstream):
        assert 'torch>=1.13' in upstream['mmrazor import'], 'the fault is gone: drop the cure'

    def test_mmrazor_sees_the_true_torch_after_its_import(self):
        from mmrazor.models.quantizers import native_quantizer
        from mmrazor.models.task_modules.tracer import fx_tracer

        assert mmrazor.digit_version is mmengine.utils.digit_version
        for module in (fx_tracer, native_quantizer):
            assert module.digit_version(torch.__version__) == TORCH

    def test_mmpretrain_warns_untouched_and_not_through_us(self, upstream):
        assert 'MultiScaleDeformableAttention' in upstream['mmpretrain import'], 'the fault is gone: drop the cure'

        def load():
            warnings.warn('Fail to import ``MultiScaleDeformableAttention`` from ``mmcv.ops``', stacklevel=1)
            warnings.warn('something else', stacklevel=1)

        with pytest.warns(UserWarning, match='something else') as caught:
            compat.ignore_missing_operators(load)
        assert [str(warning.message) for warning in caught] == ['something else']

    def test_what_mmrazor_seldom_needs_is_imported_when_it_is_used(self, monkeypatch):
        monkeypatch.delitem(sys.modules, 'sklearn.tree', raising=False)
        found = {}

        def load():
            exec('from sklearn.tree import DecisionTreeRegressor', found)
            assert type(sys.modules['sklearn.tree']) is not type(sys)

        compat.put_off_rare_imports(load)
        assert 'sklearn.tree' not in sys.modules
        tree = found['DecisionTreeRegressor'](max_depth=1)
        assert tree.fit([[0.0], [1.0]], [2, 3]).predict([[1.0]]).tolist() == [3]
        assert type(sys.modules['sklearn.tree']) is type(sys)

    def test_the_margins_of_ofd_are_those_of_scipy(self):
        from mmrazor.models.distillers import OFDDistiller

        norm = sys.modules[OFDDistiller.__module__].norm
        assert norm.cdf(0.0) == 0.5

    def test_a_package_that_is_not_installed_is_missed_when_it_is_used(self, monkeypatch):
        monkeypatch.setitem(sys.modules, 'mmrazor.seldom', None)
        with pytest.raises(ModuleNotFoundError, match=r'mmrazor\.seldom'):
            compat._Rare('mmrazor.seldom').anything()

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
            compat.keep_recursion_limit(load)
        assert sys.getrecursionlimit() == limit


class TestTorchvision:
    @staticmethod
    def load_that_wants(*operators):
        def load():
            for operator in operators:
                if not hasattr(torch.ops.torchvision, operator):
                    raise RuntimeError(f'operator torchvision::{operator} does not exist')

        return load

    def test_imports_here(self):
        import torchvision

        assert torchvision.transforms.functional.hflip(torch.tensor([[[1, 2]]])).tolist() == [[[2, 1]]]

    def test_declares_each_missing_operator_and_says_so_once(self):
        with pytest.warns(UserWarning, match=r'compiled operators \(toy_a, toy_b\) cannot be called') as caught:
            compat.declare_missing_torchvision_operators(self.load_that_wants('toy_a', 'toy_b'))
        assert len(caught) == 1

    def test_is_silent_where_nothing_is_missing(self):
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            compat.declare_missing_torchvision_operators(self.load_that_wants())

    @pytest.mark.parametrize(
        'message',
        [
            'CUDA is broken',
            'operator aten::conv9d does not exist',
            'operator torchvision::toy_c does not exist',  # although it has been declared
        ],
    )
    def test_other_errors_pass(self, message):
        def load():
            raise RuntimeError(message)

        with pytest.raises(RuntimeError, match=message):
            compat.declare_missing_torchvision_operators(load)


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


class TestCheckpoints:
    @pytest.mark.skipif(
        digit_version('2.6.0') > TORCH, reason='torch < 2.6 does not refuse the checkpoints of the Runner'
    )
    @pytest.mark.skipif(IS_FORK, reason='onedl-mmengine loads its checkpoints, and runs the code in hostile ones')
    def test_mmengine_refuses_its_own_checkpoint_untouched(self, upstream):
        assert 'HistoryBuffer' in upstream['checkpoint'], 'the fault is gone: drop the cure'

    def test_mmengine_loads_through_us(self, runner_checkpoint):
        assert 'message_hub' in CheckpointLoader.load_checkpoint(str(runner_checkpoint), map_location='cpu')


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
        state = checkpoint.load_checkpoint_file(tmp_path / 'saved.pth')
        whole = scheduled(name, 8)[1]
        assert scheduled(name, 5, state)[1] == whole[3:]
        assert len(set(whole)) > 1

    def test_what_mmengine_writes_without_us_is_refused(self, tmp_path):
        untouched = mmengine_checkpoint.save_checkpoint.__wrapped__
        untouched(dict(meta=dict(root=tmp_path)), str(tmp_path / 'saved.pth'))
        with pytest.raises(ValueError, match='is refused: it wants pathlib'):
            checkpoint.load_checkpoint_file(tmp_path / 'saved.pth')

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
        loaded = checkpoint.load_checkpoint_file(tmp_path / 'saved.pth')['meta']
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
        assert checkpoint.plain(weights) is weights
        hub = dict(history=HistoryBuffer([1.0], [1]), best=(1, [2.0, None]))
        assert checkpoint.plain(hub) is hub

    @pytest.mark.parametrize(
        ('checkpoint', 'message'),
        [
            (dict(my_hook=dict(rng=torch.Generator())), r'my_hook\.rng of the checkpoint is a torch\.\S*Generator'),
            (
                dict(param_schedulers=[dict(last=deque([1], maxlen=1))]),
                r'param_schedulers\.0\.last .* collections\.deque',
            ),
        ],
    )
    def test_a_state_that_is_not_plain_is_refused_by_its_place(self, tmp_path, checkpoint, message):
        with pytest.raises(TypeError, match=message):
            mmengine_checkpoint.save_checkpoint(checkpoint, str(tmp_path / 'saved.pth'))
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


class WeightsOfTests(Hook):
    """Keep the weights that the last test or validation measured."""

    def after_test_iter(self, runner, *args, **kwargs):
        self.weights = copy.deepcopy(runner.model.state_dict())

    after_val_iter = after_test_iter


@pytest.mark.parametrize('hook', ['mmengine.EMAHook', 'mmpretrain.EMAHook'])
class TestAveragedWeights:
    @staticmethod
    def runner(work_dir, hook, seen, **fields):
        images = dict(dataset=toys.Images(seed=1), batch_size=40, sampler=dict(type='DefaultSampler', shuffle=False))
        test = dict(test_dataloader=images, test_cfg=dict(), test_evaluator=dict(type='Accuracy'))
        hooks = [dict(type=hook, momentum=0.01), seen]
        return toys.runner(toys.classifier(), work_dir, hooks=hooks, **test, **fields)

    def test_what_is_tested_after_training_is_what_the_checkpoint_holds(self, hook, tmp_path):
        seen = WeightsOfTests()
        runner = self.runner(tmp_path, hook, seen, epochs=2)
        runner.train()
        saved = torch.load(tmp_path / 'epoch_2.pth', weights_only=False)
        for measure in (runner.test, runner.val, runner.test):
            measure()
            assert all(torch.equal(seen.weights[name], weight) for name, weight in saved['state_dict'].items())
        raw = saved['ema_state_dict']['module.head.layers.0.fc.weight']
        assert not torch.equal(seen.weights['head.layers.0.fc.weight'], raw)
        assert torch.equal(runner.model.head.layers[0].fc.weight, raw)  # training would go on from there

    def test_after_a_resume_too(self, hook, tmp_path):
        self.runner(tmp_path, hook, WeightsOfTests()).train()
        seen = WeightsOfTests()
        runner = self.runner(tmp_path, hook, seen, epochs=2, resume=True, load_from=str(tmp_path / 'epoch_1.pth'))
        runner.train()
        log = max(tmp_path.glob('*/*.log')).read_text()
        assert 'training goes on from the raw weights, and EMAHook from the averaged ones' in log
        assert 'several sets of weights' not in log
        for name in ('epoch_2.pth', 'epoch_1.pth'):  # such as the best one
            runner.load_checkpoint(str(tmp_path / name))
            runner.test()
            saved = torch.load(tmp_path / name, weights_only=False)['state_dict']
            assert all(torch.equal(seen.weights[key], weight) for key, weight in saved.items())

    def test_each_training_begins_an_average_of_its_own(self, hook, tmp_path):
        runner = self.runner(tmp_path, hook, WeightsOfTests())
        runner.test()  # before the weights are initialised
        runner.train()
        average = next(hook for hook in runner.hooks if isinstance(hook, EMAHook))
        assert average.ema_model.steps == 4


def class_folders(folder, **changes):
    """Solid images: b is red, c is blue; and the fields of a data set of them."""
    for name, colour in (('b red', 'red'), ('C_blue', 'blue')):
        (folder / 'images' / name).mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (8, 8), colour).save(folder / 'images' / name / '0.png')
    return dict(dict(data_root=str(folder), data_prefix='images'), **changes)


class TestClassNames:
    @pytest.mark.parametrize('classes', [['c-blue', 'B Red'], ['water', 'fire'], None])
    def test_names_in_the_order_of_the_folders_and_names_of_another_kind_pass(self, classes, tmp_path):
        dataset = CustomDataset(**class_folders(tmp_path, classes=classes))
        assert list(dataset.CLASSES) == (classes or ['C_blue', 'b red'])

    def test_names_in_another_order_than_the_folders_are_refused(self, tmp_path):
        message = (
            r"label 0 is the folder 'C_blue', and classes calls it 'b red'; give classes=\['C_blue', 'b red'\], or"
        )
        with pytest.raises(compat.MisnamedClasses, match=message):
            CustomDataset(**class_folders(tmp_path, classes=['b red', 'C_blue']))
        dataset = dict(
            type='mmpretrain.CustomDataset', **class_folders(tmp_path, metainfo=dict(classes=['b red', 'C_blue']))
        )
        with pytest.raises(compat.MisnamedClasses, match=message):
            DATASETS.build(dict(type='RepeatDataset', dataset=dataset, times=2))

    def test_names_in_another_order_than_an_annotation_file_are_refused(self, tmp_path):
        (tmp_path / 'list.txt').write_text('b red/0.png 0\nC_blue/0.png 1\n')
        fields = class_folders(tmp_path, ann_file='list.txt')
        assert CustomDataset(**fields, classes=['b red', 'C_blue']).get_data_info(1)['gt_label'] == 1
        with pytest.raises(
            compat.MisnamedClasses, match="label 0 is the folder 'b red', and classes calls it 'C_blue'"
        ):
            CustomDataset(**fields, classes=['C_blue', 'b red'])

    def test_folders_that_are_no_classes_say_nothing(self, tmp_path):
        for name in ('train', 'other'):
            (tmp_path / 'images' / name).mkdir(parents=True)
        (tmp_path / 'list.txt').write_text('train/0.png 0\ntrain/1.png 1\nother/2.png 1\n')
        dataset = CustomDataset(str(tmp_path), 'images', 'list.txt', classes=['ship', 'train'])
        assert dataset.CLASSES == ('ship', 'train')


@pytest.mark.skipif(torch.cuda.is_available(), reason='with CUDA the launchers of MMEngine are left alone')
def test_mmengine_cannot_launch_without_a_gpu_untouched(upstream):
    assert upstream['init_dist'], 'the fault is gone: drop init_cpu_process_group'


@pytest.mark.parametrize(
    ('name', 'home'), [('load_checkpoint_file', checkpoint), ('init_cpu_process_group', distributed)]
)
def test_what_moved_is_found_under_its_old_name_with_one_warning(name, home):
    with pytest.warns(DeprecationWarning, match=f'compat.{name} is now {home.__name__}.{name}') as caught:
        assert getattr(compat, name) is getattr(home, name)
    assert len(caught) == 1
    assert not hasattr(compat, 'no_such_name')


def test_a_package_beside_python_is_none_of_its_own(tmp_path, monkeypatch):
    from mmengine.config import utils

    monkeypatch.setattr(utils, 'PYTHON_ROOT_DIR', str(Path(compat.__file__).parents[2]))
    upstream = utils._is_builtin_module.__wrapped__
    assert upstream('r2kd_mm.losses'), 'the fault is gone: drop know_builtin_modules_by_name'
    path = tmp_path / 'run.py'
    path.write_text('from r2kd_mm.losses import DISTLoss\nmodel = dict(type=DISTLoss)\n')
    assert "type='r2kd_mm.losses.DISTLoss'" in Config.fromfile(path).pretty_text
    names = ('os.path', 'sys', '_thread', 'mmengine.config', 'torch', 'mmengine.runner', '.base')
    found = [utils._is_builtin_module(name) for name in names]
    assert found == [upstream(name) for name in names] == [True] * 4 + [False] * 3
