"""Each distiller option trains on the simulated device with the losses of the CPU, and no step waits for the device."""

import sys

import pytest
import toolbox
import torch
import toys
from devices import pretend, runs
from distillers import test_features

from r2kd_mm.losses import correlation_distance
from r2kd_mm.registry import MODELS

TWO_TEACHERS = dict(
    type='TeacherEnsemble',
    members=dict(teacher=dict(teacher=runs.small(6), weight=0.5), other=dict(teacher=runs.small(8), weight=0.5)),
)
OPTIONS = dict(
    plain_engine=dict(teacher_engine='plain'),
    fast_engine=dict(teacher_engine='fast'),
    exact_engine=dict(),
    joint_views=dict(joint_views=True),
    channels_last=dict(channels_last=True),
    own_batch=dict(gather=False),
    train_mode=dict(pruned_teacher_mode='train'),
    n_m_pruner=dict(teacher=runs.small(8), pruner=dict(type='NMPruner', n=2, m=4)),
    confidence=dict(weighting=dict(type='ConfidenceWeights')),
    consistency=dict(augmentation=dict(type='Cutout'), consistency=dict(type='KLDivergenceLoss')),
    two_teachers=dict(type='LogitDistiller', teacher=TWO_TEACHERS, pruner=None),
    learned=dict(type='LogitDistiller', teacher=dict(TWO_TEACHERS, weighting=dict(type='LearnedWeights')), pruner=None),
    labels=dict(losses=dict(loss_dkd=dict(type='DKDLoss'), loss_mlkd=dict(type='MLKDLoss'))),
    cmkd=dict(losses=dict(loss_cmkd=dict(type='CMKDLoss'))),
)


def steps(fields, device):
    """The losses of three steps and the weights after them, with the waits of the last two."""
    torch.manual_seed(0)
    fields = runs.distiller(**fields)
    if fields['pruner'] is None:
        del fields['pruner']
    model = MODELS.build(dict(fields, _scope_='r2kd_mm')).to(device).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    losses, waits = [], []
    for seed in range(3):
        images, samples = toys.batch(8, seed=seed)
        images = images if device == 'cpu' else images.pin_memory()
        with pretend.recorded_waits() as found:
            data = model.data_preprocessor(dict(inputs=images, data_samples=samples), training=True)
            terms = model.loss(**data)
            loss = model.parse_losses(terms)[0]
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        losses.append(loss.item())
        waits += found if seed else []
    return losses, waits


@pytest.mark.parametrize('name', toolbox.quick_first(list(OPTIONS)))
def test_an_option_trains_as_on_the_cpu(name):
    expected, _ = steps(OPTIONS[name], 'cpu')
    losses, waits = steps(OPTIONS[name], pretend.NAME)
    assert losses == pytest.approx(expected, rel=1e-3)
    assert not waits, str(waits[0])


@pytest.mark.slow
def test_features_are_matched_as_on_the_cpu():
    results = []
    for device in ('cpu', pretend.NAME):
        model = test_features.build().to(device).train()
        images, samples = toys.batch(6)
        data = model.data_preprocessor(dict(inputs=images, data_samples=samples), training=True)
        losses = model.loss(**data)
        results.append({name: value.item() for name, value in losses.items()})
    assert results[1] == pytest.approx(results[0], rel=1e-4)


PLANTED = dict(
    mixed=(lambda value: value + torch.zeros(value.shape), pretend.MixedDevices),
    moved_away=(lambda value: value.cpu(), pretend.MixedDevices),
    waits=(lambda value: value * float(value.abs().max() > 0), None),
    mask=(lambda value: value + 0 * value[value > 0].sum(), None),
)


@pytest.mark.parametrize('name', PLANTED)
def test_a_mistake_planted_in_the_package_is_seen(name, monkeypatch):
    change, refused = PLANTED[name]
    module = sys.modules[correlation_distance.__module__]
    real = module.correlation_distance
    monkeypatch.setattr(
        module, 'correlation_distance', lambda student, *rest, **options: real(change(student), *rest, **options)
    )
    if refused is not None:
        with pytest.raises(refused):
            steps({}, pretend.NAME)
    else:
        _, waits = steps({}, pretend.NAME)
        seen = [wait for wait in waits if wait.file == 'tests/devices/test_distillers.py']
        assert len(seen) == 4  # two views in two steps
