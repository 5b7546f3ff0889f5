"""Record once, for all tests of the fixes in r2kd_mm.compat, how the packages behave without the fixes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import toys

from r2kd_mm import compat

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
wrap_import('torchvision', compat.torchvision.declare_missing_torchvision_operators)
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
    if {compat.torchvision.declare_missing_torchvision_operators, compat.mmrazor.leave_out_quantization} & set(cures):
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


@pytest.fixture(scope='package')
def upstream(runner_checkpoint) -> dict:
    """Return what the stack does in processes that import r2kd_mm late, as ``{fault: what was seen}``."""
    seen = {}
    for script in (UNTOUCHED, ONLY_IMPORTABLE):
        environment = dict(os.environ, PACKAGE=str(Path(compat.__file__).parents[1]), CHECKPOINT=str(runner_checkpoint))
        process = subprocess.run(
            [sys.executable, '-W', 'ignore', '-c', script],
            env=environment,
            cwd=Path(toys.__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
        seen |= json.loads(process.stdout.splitlines()[-1])
    return seen
