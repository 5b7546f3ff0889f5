"""A training step waits for the device only where this file allows it."""

import pytest
import toolbox
import torch
from devices import pretend, runs
from mmengine.logging import MessageHub

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


def assert_waits(
    iterations: list[list[pretend.Wait]], allowed: set[tuple[str, str]] = frozenset(), first: int = 1
) -> None:
    """The first step, of ``first`` iterations, may prepare and check; one with a log may read the numbers, once."""
    assert len(iterations) == 4
    for number, waits in enumerate(iterations[first:], start=first + 1):
        of_log = [wait for wait in waits if (wait.file, wait.function) == LOG]
        assert len(of_log) == (number % 2 == 0), f'iteration {number}'
        others = [str(wait) for wait in waits if (wait.file, wait.function) not in {LOG, *allowed}]
        assert not others, f'iteration {number}'


@pytest.mark.parametrize('augmentation', toolbox.quick_first(AUGMENTATIONS), ids=str)
def test_a_step_waits_for_nothing_but_the_log(augmentation, tmp_path):
    assert_waits(runs.waits_of_steps(tmp_path, runs.distiller(augmentation=augmentation)))


@pytest.mark.parametrize('name', toolbox.quick_first(list(SETTINGS)))
def test_nor_do_the_parts_around_it(name, tmp_path):
    first = SETTINGS[name].get('optim_wrapper', {}).get('accumulative_counts', 1)
    assert_waits(runs.waits_of_steps(tmp_path, **SETTINGS[name]), first=first)


def test_the_log_gets_every_number_in_its_order_by_one_wait():
    hub = MessageHub.get_instance('numbers_on_a_device')
    with pretend.recorded_waits() as waits:
        for number in range(3):
            hub.update_scalar('train/loss', torch.full((), number / 3, device=pretend.NAME))
            hub.update_scalar('train/norm', torch.full((), number / 7, dtype=torch.float64, device=pretend.NAME))
            hub.update_scalar('train/lr', 0.1)
            assert hub.get_scalar('train/lr').current() == 0.1
        hub.update_scalar('train/norm', 5.0)  # a number of the host waits its turn
        assert not waits
        history = {
            name: hub.state_dict()['log_scalars'][name].data[0].tolist() for name in ('train/loss', 'train/norm')
        }
    assert len(waits) == 1
    assert history['train/loss'] == torch.tensor([0, 1 / 3, 2 / 3]).tolist()
    assert history['train/norm'] == [0, 1 / 7, 2 / 7, 5]
