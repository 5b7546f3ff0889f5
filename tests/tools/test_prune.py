"""prune.py writes a checkpoint whose smallest weights are zero, or nothing."""

import pytest
import toolbox
import torch
from mmengine.registry import DefaultScope

from r2kd_mm.registry import MODELS

NETWORK = dict(
    type='ImageClassifier',
    backbone=dict(type='MobileNetV1', widen_factor=0.1),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=3, in_channels=104),
)


@pytest.fixture(scope='module')
def student(tmp_path_factory):
    """Config and checkpoint of a distillation, and the weights of its student."""
    folder = tmp_path_factory.mktemp('student')
    (folder / 'config.py').write_text(f"default_scope = 'r2kd_mm'\nmodel = dict(type='R2KD', architecture={NETWORK})\n")
    with DefaultScope.overwrite_default_scope('r2kd_mm'):
        weights = MODELS.build(NETWORK).state_dict()
    saved = {f'architecture.{name}': value for name, value in weights.items()}
    torch.save(dict(state_dict=saved), folder / 'student.pth')
    return folder / 'config.py', folder / 'student.pth', weights


@pytest.mark.parametrize('scope', ['layer', 'global'])
def test_the_smallest_weights_are_zero_and_the_rest_as_before(student, scope, tmp_path):
    config, checkpoint, weights = student
    finished = toolbox.run_forked(
        'prune.py', config, checkpoint, tmp_path / 'new/pruned.pth', '--amount', '0.3', '--scope', scope
    )
    assert finished.returncode == 0, finished.stderr
    pruned = torch.load(tmp_path / 'new/pruned.pth')['state_dict']
    assert pruned.keys() == weights.keys()
    matrices = {name for name, value in weights.items() if value.ndim >= 2}
    lost = {name: int((value == 0).sum()) for name, value in pruned.items() if name in matrices}
    for name, value in weights.items():
        kept = (pruned[name] != 0) if name in matrices else torch.ones_like(value, dtype=torch.bool)
        assert torch.equal(pruned[name][kept], value[kept])
    equal_shares = all(count == round(0.3 * weights[name].numel()) for name, count in lost.items())
    assert equal_shares is (scope == 'layer')
    zeros, total = sum(lost.values()), sum(weights[name].numel() for name in matrices)
    assert zeros == pytest.approx(0.3 * total, abs=len(matrices))
    assert f'{zeros:,} of' in finished.stdout.splitlines()[-2]
    assert all(f'{name} ' in finished.stdout for name in matrices)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(amount='30'), 'amount is the fraction of weights to remove and must be in [0, 1), got 30.0'),
        (dict(checkpoint='/no/such.pth'), '/no/such.pth'),
    ],
)
def test_a_mistake_writes_nothing(student, changes, message, tmp_path):
    config, checkpoint, _ = student
    finished = toolbox.run_forked(
        'prune.py',
        config,
        changes.get('checkpoint', checkpoint),
        tmp_path / 'pruned.pth',
        '--amount',
        changes.get('amount', '0.1'),
    )
    assert finished.returncode == 1
    assert message in finished.stderr
    assert 'Traceback' not in finished.stderr
    assert not list(tmp_path.iterdir())
