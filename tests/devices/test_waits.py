"""Where a training step waits for the device: nowhere but where this file allows it."""

import pytest
import toolbox
from devices import pretend, runs

# The log reads the numbers of all steps since the last log in one transfer.
LOG = ('r2kd_mm/compat/mmengine.py', '_move_waiting')

AUGMENTATIONS = [
    dict(type='CutMix'),
    None,
    dict(type='CutMix', per_image=True),
    dict(type='Mixup'),
    dict(type='Mixup', per_image=True),
    dict(type='Cutout'),
    dict(type='CutMixPick'),
]
SGD = dict(type='SGD', lr=0.05, momentum=0.9)
SETTINGS = dict(
    amp_and_clip=dict(
        optim_wrapper=dict(type='AutocastOptimWrapper', optimizer=SGD, clip_grad=dict(max_norm=1.0)),
    ),
    clip_by_value=dict(optim_wrapper=dict(optimizer=SGD, clip_grad=dict(type='value', clip_value=1.0))),
    accumulation=dict(optim_wrapper=dict(optimizer=SGD, accumulative_counts=2)),
    average=dict(hooks=[dict(type='EMAHook')]),
    fused=dict(optim_wrapper=dict(optimizer=dict(SGD, fused=True))),
    schedule=dict(param_scheduler=[dict(type='CosineAnnealingLR', T_max=4, by_epoch=False)]),
)


def assert_waits(steps: list[list[pretend.Wait]], allowed: set[tuple[str, str]] = frozenset()) -> None:
    """The first step may prepare the teachers; a step with a log may read the numbers, once."""
    assert len(steps) == 4
    for number, waits in enumerate(steps[1:], start=2):
        of_log = [wait for wait in waits if (wait.file, wait.function) == LOG]
        assert len(of_log) == (number % 2 == 0), f'step {number}'
        others = [str(wait) for wait in waits if (wait.file, wait.function) not in {LOG, *allowed}]
        assert not others, f'step {number}'


@pytest.mark.parametrize('augmentation', toolbox.quick_first(AUGMENTATIONS), ids=str)
def test_a_step_waits_for_nothing_but_the_log(augmentation, tmp_path):
    assert_waits(runs.waits_of_steps(tmp_path, runs.distiller(augmentation=augmentation)))


@pytest.mark.parametrize('name', toolbox.quick_first(list(SETTINGS)))
def test_nor_do_the_parts_around_it(name, tmp_path):
    assert_waits(runs.waits_of_steps(tmp_path, **SETTINGS[name]))
