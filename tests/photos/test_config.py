"""Each stage of `r2kd-mm distill` has a complete config that can be read and follows the installed recipe."""

import pytest
import torch
import toys
from mmengine.config import Config
from torch.nn import functional as F

from r2kd_mm.engine.run_config import read_changed_config
from r2kd_mm.networks import Inputs, NamedNetwork
from r2kd_mm.photos.config import Data, Recipe, adapted, classifier_run, distillation_run, installed, write_config
from r2kd_mm.photos.options import METHODS
from r2kd_mm.registry import MODELS, VISBACKENDS
from r2kd_mm.runs.state import settings_digest

INPUTS = Inputs(24, (127.5,) * 3, (127.5,) * 3, interpolation='bicubic')
OTHER = Inputs(32, (100.0,) * 3, (50.0,) * 3, to_rgb=False)
NETWORK = NamedNetwork('toy', toys.classifier())
DATA = Data('/photos', ('cat', 'dog', 'eel'), 'train', 'valid', workers=0)


@pytest.fixture
def distilled():
    return distillation_run(NETWORK, INPUTS, adapted(toys.classifier(), OTHER), 'x.pth', 'r2kd', DATA, Recipe(7))


def test_the_file_is_read_as_the_fields_that_it_was_written_from(distilled, tmp_path):
    path = tmp_path / 'configs' / 'student.py'
    write_config(distilled, path, ['A title.'])
    assert read_changed_config(str(path), {}).to_dict() == distilled
    text = path.read_text()
    assert text.startswith('# A title.\n')
    assert '# the recipe: configs/_base_/schedules/own_data.py\noptim_wrapper = dict(' in text
    before = path.stat().st_mtime_ns
    write_config(distilled, path, ['A title.'])
    assert path.stat().st_mtime_ns == before  # the same text is not written again


def test_teacher_and_student_get_their_own_images(distilled):
    teacher = distilled['model']['teacher']
    assert (teacher['size'], teacher['mean'], teacher['to_rgb']) == (32, [100.0] * 3, False)
    assert distilled['data_preprocessor'] == dict(
        type='ClsDataPreprocessor', mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True
    )
    train, val = (distilled[f'{part}_dataloader']['dataset'] for part in ('train', 'val'))
    assert (train['split'], val['split'], val['data_root']) == ('train', 'valid', '/photos')
    assert train['pipeline'][1]['scale'] == 24
    assert [step.get('scale', step.get('crop_size')) for step in val['pipeline'][1:3]] == [27, 24]
    assert distilled['test_dataloader'] == distilled['val_dataloader']


def test_the_schedule_follows_the_length_of_the_run(distilled):
    assert distilled['train_cfg']['max_epochs'] == 7
    assert all('T_max' not in schedule for schedule in distilled['param_scheduler'])
    model = dict(distilled['model']['architecture'], type='ImageClassifier')
    cfg = Config(dict(param_scheduler=distilled['param_scheduler']))
    runner = toys.runner(model, '/tmp', epochs=7)
    optim = runner.build_optim_wrapper(dict(optimizer=dict(type='SGD', lr=1.0)))
    runner.optim_wrapper = optim
    schedulers = runner.build_param_scheduler(cfg.param_scheduler)
    values = []
    for _ in range(7 * len(runner.train_dataloader)):
        values.append(optim.param_groups[0]['lr'])
        optim.update_params(sum(p.sum() for p in runner.model.parameters()) * 0)
        for scheduler in schedulers:
            scheduler.step()
    assert values[0] == pytest.approx(0.01)
    assert values[-1] < 0.02  # near 0 in its last step
    assert max(values) > 0.7


def test_what_the_user_changes_is_in_the_config():
    recipe = Recipe(3, batch_size=8, lr=0.1, flip=False, amp=True, options={'train_cfg.val_interval': 3})
    cfg = classifier_run(NETWORK, INPUTS, DATA, recipe)
    assert cfg['optim_wrapper']['optimizer']['lr'] == 0.1
    assert cfg['optim_wrapper']['type'] == 'AutocastOptimWrapper'
    assert cfg['train_dataloader']['batch_size'] == cfg['val_dataloader']['batch_size'] == 8
    assert not any(step['type'] == 'RandomFlip' for step in cfg['train_dataloader']['dataset']['pipeline'])
    assert cfg['train_cfg']['val_interval'] == 3
    assert cfg['val_evaluator']['topk'] == (1,)


def test_loggers_are_added_to_that_of_the_results():
    cfg = classifier_run(NETWORK, INPUTS, DATA, Recipe(3, loggers=('tensorboard', 'wandb', 'mlflow')))
    kinds = [backend['type'] for backend in cfg['visualizer']['vis_backends']]
    assert kinds == ['LocalVisBackend', 'TensorboardVisBackend', 'WandbVisBackend', 'MLflowVisBackend']
    assert all(VISBACKENDS.get(kind) for kind in kinds)
    plain = classifier_run(NETWORK, INPUTS, DATA, Recipe(3))
    assert settings_digest(Config(cfg)) == settings_digest(Config(plain))  # so a finished run is not repeated


def test_a_small_batch_has_a_lower_rate():
    base = installed('schedules/own_data')['optim_wrapper']['optimizer']['lr']
    rates = [
        classifier_run(NETWORK, INPUTS, DATA, Recipe(3, size))['optim_wrapper']['optimizer']['lr']
        for size in (8, 32, 64)
    ]
    assert rates == [base / 4, base, base]
    started = classifier_run(NETWORK, INPUTS, DATA, Recipe(3, pretrained=True))
    assert started['optim_wrapper']['optimizer']['lr'] == pytest.approx(base / 10)


@pytest.mark.parametrize('method', METHODS)
def test_every_method_has_a_config(method):
    cfg = distillation_run(NETWORK, INPUTS, toys.classifier(), 'x.pth', method, DATA, Recipe(3))
    assert cfg['model']['losses'] == installed(f'methods/{method}')['model']['losses']
    assert cfg['optim_wrapper']['clip_grad'] == dict(max_norm=5.0)
    assert any(hook['type'] == 'TeacherCheckHook' for hook in cfg['custom_hooks'])


def test_the_light_methods_leave_cross_entropy_a_say():
    """Each term of them, at the published temperature 4, has a sixteenth of the published weight."""
    student, teacher = torch.randn(2, 8, 5, generator=torch.Generator().manual_seed(0))
    for method, terms in (('dist', ['loss_dist']), ('r2kd', ['loss_value', 'loss_rank'])):
        published, light = (installed(f'methods/{name}')['model'] for name in (method, f'{method}_light'))
        assert {**published, 'losses': None} == {**light, 'losses': None}
        for term in terms:
            values = [MODELS.build(model['losses'][term])(student, teacher) for model in (published, light)]
            assert values[1] == pytest.approx(values[0] / 16)
    published, light = (installed(f'methods/{name}')['model'] for name in ('kd', 'kd_light'))
    loss = MODELS.build(light['losses']['loss_kd'])
    expected = F.kl_div(student.log_softmax(1), teacher.log_softmax(1), reduction='batchmean', log_target=True)
    assert loss(student, teacher) == pytest.approx(0.9 * expected)
    assert (published['task_loss_weight'], light['task_loss_weight']) == (0.1, 1.0)
