"""Whole runs on the simulated device: validation, averaged weights, replay, resume, and changed teacher weights."""

from functools import partial

import pytest
import torch
import toys
from devices import pretend, runs
from mmengine.optim.optimizer import amp_optimizer_wrapper
from mmengine.runner import Runner, amp

from r2kd_mm.hooks.replay import fill_store
from r2kd_mm.registry import MODELS

pytestmark = pytest.mark.slow
METRICS = [dict(type='Accuracy'), dict(type='TeacherAgreement'), dict(type='CalibrationError')]


def whole_run(folder, **fields) -> Runner:
    fields = dict(
        dict(
            train_cfg=dict(type='ResumableTrainLoop', max_epochs=2),
            optim_wrapper=dict(
                optimizer=dict(type='SGD', lr=0.01, momentum=0.9), clip_grad=dict(max_norm=1.0), accumulative_counts=2
            ),
            default_hooks=dict(
                logger=dict(type='LoggerHook', interval=2), checkpoint=dict(type='CheckpointHook', interval=1)
            ),
            hooks=[dict(type='EMAHook')],
        ),
        **fields,
    )
    return runs.runner(folder, **fields)


def saved(path):
    return torch.load(path, map_location='cpu', weights_only=False)


def test_a_resumed_run_ends_in_the_same_weights(tmp_path):
    whole_run(tmp_path / 'whole').train()
    resumed = whole_run(tmp_path / 'resumed', resume=True, load_from=str(tmp_path / 'whole' / 'epoch_1.pth'))
    resumed.train()
    assert next(resumed.model.parameters()).device.type == pretend.NAME
    one, other = saved(tmp_path / 'whole' / 'epoch_2.pth'), saved(tmp_path / 'resumed' / 'epoch_2.pth')
    for part in ('state_dict', 'ema_state_dict'):
        torch.testing.assert_close(other[part], one[part], rtol=0, atol=0)
    torch.testing.assert_close(other['optimizer']['state'], one['optimizer']['state'], rtol=0, atol=0)


def test_a_replay_is_filled_and_read_without_waits(tmp_path):
    def model():
        return runs.distiller(
            augmentation=dict(type='Cutout'), replay=dict(folder=str(tmp_path / 'store'), dtype='float32')
        )

    hooks = [dict(type='ReplayHook')]
    cycle = dict(type='ResumableTrainLoop', max_epochs=1, cycle=1)
    fill_store(runs.runner(tmp_path / 'fill', model(), hooks=hooks, train_cfg=cycle))
    steps = runs.waits_of_steps(tmp_path / 'train', model(), hooks=hooks, train_cfg=cycle)
    of_log = [[wait for wait in step if wait.function == '_move_waiting'] for step in steps[1:]]
    assert [len(step) for step in steps[1:]] == [len(log) for log in of_log] == [1, 0, 1]


def test_a_teacher_whose_weights_are_written_unseen_gives_nan_and_then_an_error():
    model = MODELS.build(dict(runs.distiller(), _scope_='r2kd_mm')).to(pretend.NAME)
    teacher, engine = model.teacher, model.step.targets.engine
    images = toys.batch(4)[0].to(pretend.NAME)
    assert engine.logits(teacher, images).cpu().isfinite().all()
    for parameter in teacher.parameters():
        parameter.data.numbers.mul_(2)  # past PyTorch's count of changes
    with pretend.recorded_waits() as waits:
        logits = engine.logits(teacher, images)
    assert not waits
    assert logits.cpu().isnan().all()  # which waits, so that the next call knows
    with pytest.raises(RuntimeError, match='were written through .data'):
        engine.logits(teacher, images)


def test_a_gradient_scaler_accumulates_and_waits_once_an_update(tmp_path, monkeypatch):
    # what is a GPU to MMEngine
    monkeypatch.setattr(amp_optimizer_wrapper, 'is_cuda_available', lambda: True)
    monkeypatch.setattr(amp_optimizer_wrapper, 'GradScaler', partial(torch.amp.GradScaler, pretend.NAME))
    monkeypatch.setattr(amp, 'autocast', partial(torch.autocast, pretend.NAME))
    weights, waits = [], []
    for scaling in (
        dict(type='AutocastOptimWrapper'),
        dict(type='AmpOptimWrapper', dtype='bfloat16', loss_scale=dict(init_scale=8.0)),
    ):
        optimizer = dict(type='SGD', lr=0.01, momentum=0.9)
        wrapper = dict(scaling, optimizer=optimizer, accumulative_counts=2)
        run, hook = runs.runner(tmp_path / scaling['type'], optim_wrapper=wrapper), runs.WaitsHook()
        run.register_hook(hook)
        run.train()
        weights.append({name: value.cpu() for name, value in run.model.state_dict().items()})
        waits.append(hook.steps)
    torch.testing.assert_close(*weights)  # a scale that is a power of two changes no digit
    of_scaler = [[wait for wait in step if wait.file.endswith('amp_optimizer_wrapper.py')] for step in waits[1]]
    assert [len(step) for step in of_scaler[2:]] == [0, 1]
    assert [len(step) for step in waits[1][2:]] == [len(step) + number for number, step in enumerate(waits[0][2:])]
