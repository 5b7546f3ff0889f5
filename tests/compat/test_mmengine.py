"""The fixes for mmengine's configs and averaged weights: the fault without the fix, then the fix."""

import copy
from pathlib import Path

import pytest
import torch
import toys
from mmengine.config import Config
from mmengine.hooks import EMAHook, Hook
from yapf.yapflib import yapf_api

from r2kd_mm import compat


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
        assert torch.equal(runner.model.head.layers[0].fc.weight, raw)  # training would continue from there

    def test_after_a_resume_too(self, hook, tmp_path):
        self.runner(tmp_path, hook, WeightsOfTests()).train()
        seen = WeightsOfTests()
        runner = self.runner(tmp_path, hook, seen, epochs=2, resume=True, load_from=str(tmp_path / 'epoch_1.pth'))
        runner.train()
        log = max(tmp_path.glob('*/*.log')).read_text()
        assert 'Training continues from the raw weights of the checkpoint, and EMAHook from the averaged ones' in log
        assert 'several sets of weights' not in log
        for name in ('epoch_2.pth', 'epoch_1.pth'):  # such as the best one
            runner.load_checkpoint(str(tmp_path / name))
            runner.test()
            saved = torch.load(tmp_path / name, weights_only=False)['state_dict']
            assert all(torch.equal(seen.weights[key], weight) for key, weight in saved.items())

    def test_each_training_starts_its_own_average(self, hook, tmp_path):
        runner = self.runner(tmp_path, hook, WeightsOfTests())
        runner.test()  # before the weights are initialised
        runner.train()
        average = next(hook for hook in runner.hooks if isinstance(hook, EMAHook))
        assert average.ema_model.steps == 4


def test_a_package_next_to_python_is_not_builtin(tmp_path, monkeypatch):
    from mmengine.config import utils

    monkeypatch.setattr(utils, 'PYTHON_ROOT_DIR', str(Path(compat.__file__).parents[3]))
    upstream = utils._is_builtin_module.__wrapped__
    assert upstream('r2kd_mm.losses'), 'the fault is gone: drop know_builtin_modules_by_name'
    path = tmp_path / 'run.py'
    path.write_text('from r2kd_mm.losses import DISTLoss\nmodel = dict(type=DISTLoss)\n')
    assert "type='r2kd_mm.losses.DISTLoss'" in Config.fromfile(path).pretty_text
    names = ('os.path', 'sys', '_thread', 'mmengine.config', 'torch', 'mmengine.runner', '.base')
    found = [utils._is_builtin_module(name) for name in names]
    assert found == [upstream(name) for name in names] == [True] * 4 + [False] * 3
