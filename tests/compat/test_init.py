"""Each fix for another package is applied when that package is imported."""

from importlib import import_module

import mmcv
import mmengine
import mmengine.runner.checkpoint as mmengine_checkpoint
import mmrazor
import pytest
import torch
from mmengine.model import BaseAveragedModel
from mmengine.runner import Runner
from mmrazor.models.task_modules.recorder import ModuleInputsRecorder, ModuleOutputsRecorder

from r2kd_mm import compat

IMPORTED_EARLIER = ('checkpoint', 'hue', 'mmrazor import')


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


@pytest.mark.skipif(torch.cuda.is_available(), reason='with CUDA the launchers of MMEngine are left alone')
def test_mmengine_cannot_launch_without_a_gpu_untouched(upstream):
    assert upstream['init_dist'], 'the fault is gone: drop init_cpu_process_group'
