"""Two networks or transforms count as equal only if all that determines their logits is equal, whatever they print."""

import copy
import functools
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import toolbox
import torch
import toys
from mmcv.transforms import Compose

from r2kd_mm.augmentations import CutMix
from r2kd_mm.registry import MODELS
from r2kd_mm.teachers.identity import describe, digest_of_weights


class Silent:
    """Prints the same whatever it does."""

    def __init__(self, amount):
        self.amount = amount

    def __repr__(self):
        return 'Silent()'


class Slotted:
    __slots__ = ('amount',)

    def __init__(self, amount):
        self.amount = amount


def adding(amount):
    return lambda value: value + amount


class Counter(torch.nn.Module):
    def __init__(self, stride):
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 1, 1, stride=stride)
        torch.nn.init.ones_(self.conv.weight), torch.nn.init.zeros_(self.conv.bias)


PAIRS = dict(
    text=('a', 'b'),
    kind=(1, 1.0),
    entry=(dict(a=1, b=2), dict(a=1, b=3)),
    attribute=(Silent(1), Silent(2)),
    nested=(Silent(dict(part=[Silent(1)])), Silent(dict(part=[Silent(2)]))),
    slot=(Slotted(1), Slotted(2)),
    array=(np.zeros(2000), np.eye(1, 2000, 1000)[0]),
    tensor=(torch.zeros(3), torch.zeros(3, dtype=torch.float64)),
    closure=(adding(1), adding(2)),
    code=(lambda value: value + 1, lambda value: value - 1),
    argument=(functools.partial(max, 1), functools.partial(max, 2)),
    method=(Silent(1).__repr__, Silent(2).__repr__),
    state=(re.compile('a'), re.compile('b')),
    stride=(Counter(1), Counter(2)),
    ours=(CutMix(alpha=1.0), CutMix(alpha=0.5)),
)


@pytest.mark.parametrize('kind', PAIRS)
def test_a_difference_is_seen_and_a_copy_is_none(kind):
    one, other = PAIRS[kind]
    assert describe(one) != describe(other)
    assert describe(copy.deepcopy(one)) == describe(one)
    assert '0x' not in describe(one)


def test_a_file_is_described_by_its_content(tmp_path):
    path = tmp_path / 'policy.json'
    described = []
    for content in ('first', 'second'):
        path.write_text(content)
        described.append([describe(part) for part in (Silent(str(path)), dict(policy=path))])
    assert all(first != second for first, second in zip(*described))
    path.unlink()
    assert describe(str(path)) not in (described[0][0], described[1][0])


def test_a_part_within_itself_is_described():
    part = Silent(1)
    part.amount = [part]
    assert 'within itself' in describe(part)


def test_what_is_shared_and_what_is_equal_are_one():
    """Equal constants are described equally, even if Python keeps them as one object."""
    pair = (0.1, 0.2)
    assert describe([pair, pair]) == describe([pair, tuple(map(float, ('0.1', '0.2')))])


def test_generators_and_devices_decide_nothing():
    assert describe(np.random.default_rng(1)) == describe(np.random.default_rng(2))
    assert describe(torch.device('cpu')) == describe(torch.device('cuda'))


def test_the_use_of_a_network_is_no_difference():
    network = MODELS.build(dict(toys.classifier(), _scope_='r2kd_mm')).eval()
    before, digest = describe(network), digest_of_weights(network)
    network(toys.batch()[0], mode='tensor')
    assert (describe(network), digest_of_weights(network)) == (before, digest)
    next(network.parameters()).data[0] += 1
    assert describe(network) != before
    assert digest_of_weights(network) != digest


def test_a_pipeline_is_described_by_its_transforms():
    def pipeline(pad):
        steps = [dict(type='AutoAugment', policies='imagenet', hparams=dict(pad_val=pad)), dict(type='PackInputs')]
        return Compose([dict(step, _scope_='mmpretrain') for step in steps])

    assert describe(pipeline(0)) == describe(pipeline(0)) != describe(pipeline(255))


def test_what_cannot_be_described_is_refused():
    with pytest.raises(TypeError, match='nobody knows what a .*generator is made of, .* give the part .* as a config'):
        describe(Silent(x for x in ()))


@pytest.mark.slow
def test_the_source_of_a_class_of_the_user_counts_in_any_process(tmp_path):
    described = []
    for operator in ('+', '+', '-'):
        Path(tmp_path, 'mine.py').write_text(
            textwrap.dedent(f"""
            class View:
                def __call__(self, images):
                    return images {operator} 1
            """)
        )
        command = 'import r2kd_mm, mine; from r2kd_mm.teachers.identity import describe; print(describe(mine.View()))'
        variables = dict(toolbox.environment(), PYTHONDONTWRITEBYTECODE='1')
        variables['PYTHONPATH'] += f':{tmp_path}'
        done = subprocess.run([sys.executable, '-c', command], capture_output=True, text=True, env=variables)
        described.append(done.stdout)
    assert described[0] == described[1] != described[2]
    assert 'mine.View' in described[0]
