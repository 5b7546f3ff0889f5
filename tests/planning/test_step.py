"""The predicted memory of a training step equals the memory that a real step needs."""

import copy

import pytest
import torch
import toys
from common import most_allocated
from devices import runs
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope

from r2kd_mm.planning.step import AVERAGES, COPIES, GRADIENTS, STATE, TAKEN_BACK, WEIGHTS, PlannedStep
from r2kd_mm.registry import MODELS

IMAGES, SIDE = 64, toys.batch(2)[0].shape[-1]
SGD = dict(type='SGD', lr=0.01, momentum=0.9)


def config(distiller=None, **fields) -> Config:
    return Config(dict(dict(model=distiller or runs.distiller(), optim_wrapper=dict(optimizer=SGD)), **fields))


def planned(cfg: Config, images: int = IMAGES, on_gpu: bool = False) -> float:
    step = PlannedStep(copy.deepcopy(cfg), SIDE, on_gpu)
    return max(step.trace(images).peak, step.preparation)


def measured(cfg: Config) -> int:
    def two_steps() -> None:
        model = MODELS.build(copy.deepcopy(cfg.model.to_dict())).train()
        wrapper = build_optim_wrapper(model, copy.deepcopy(cfg.optim_wrapper))
        for count in (2, IMAGES):
            for _batch in range(cfg.optim_wrapper.get('accumulative_counts', 1)):
                inputs, samples = toys.batch(count)
                pixels = inputs.to(torch.uint8)  # as data loaders give them, and the plan counts them
                del inputs
                model.train_step(dict(inputs=pixels, data_samples=samples), wrapper)

    return most_allocated(two_steps)


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('r2kd_mm')


@pytest.mark.parametrize(
    'cfg',
    [
        config(),
        *(
            pytest.param(cfg, marks=pytest.mark.slow)
            for cfg in (
                config(runs.distiller(teacher_engine='plain', augmentation=None)),
                config(runs.distiller(channels_last=True)),
                config(optim_wrapper=dict(type='AutocastOptimWrapper', optimizer=SGD)),
                config(optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.01), accumulative_counts=3)),
            )
        ),
    ],
    ids=['as_it_is', 'plain_engine', 'channels_last', 'amp', 'accumulation'],
)
def test_the_peak_is_that_of_the_allocator(cfg):
    assert planned(cfg) == pytest.approx(measured(cfg), rel=0.03)


def test_what_stays_between_steps_is_named():
    step = PlannedStep(config(custom_hooks=[dict(type='EMAHook'), dict(type='FiniteCheckHook')]), SIDE, on_gpu=True)
    parameters = sum(parameter.numel() for parameter in step.model.parameters())
    live = step.trace(IMAGES).live
    assert live[STATE] == 4 * parameters  # the momentum
    assert live[TAKEN_BACK] == 4 * 2 * parameters  # weights and momentum
    assert live[GRADIENTS] == 0  # freed after the update
    assert live[WEIGHTS] >= 4 * parameters
    assert live[AVERAGES] >= live[WEIGHTS]
    # each teacher, its folded copy, and the values that it had
    teachers = sum(parameter.numel() for teacher in step.model.teachers.values() for parameter in teacher.parameters())
    assert live[COPIES] == pytest.approx(4 * 3 * teachers, rel=0.1)


@pytest.mark.slow
def test_a_plan_is_the_same_when_it_is_made_again():
    step = PlannedStep(config(), SIDE)
    first = step.trace(IMAGES).peak
    assert step.trace(2 * IMAGES).peak > first
    assert step.trace(IMAGES).peak == first


@pytest.mark.slow
def test_a_machine_with_a_gpu_plans_mixed_precision_alike(monkeypatch):
    amp = config(optim_wrapper=dict(type='AutocastOptimWrapper', optimizer=SGD))
    here = planned(amp)
    monkeypatch.setattr('r2kd_mm.engine.optim.get_device', lambda: 'cuda')
    assert planned(amp) == here < planned(config())


def test_an_augmentation_that_reads_the_pixels_is_noted():
    step = PlannedStep(config(runs.distiller(augmentation=dict(type='AutoAugment'))), SIDE)
    step.trace(IMAGES)
    assert step.notes == ['AutoAugment reads the pixels: its own memory and time are left out']


@pytest.mark.parametrize('missing', ['model', 'optim_wrapper'])
def test_a_config_that_trains_nothing_is_refused(missing):
    cfg = config(**{missing: None})
    with pytest.raises(ValueError, match=f'has no {missing}, so it trains nothing; give the config of a training'):
        PlannedStep(cfg, SIDE)
