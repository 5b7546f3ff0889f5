"""The fixes for mmengine's Runner: the fault without the fix, then the fix."""

import time
from collections import Counter, deque, namedtuple
from importlib import metadata
from pathlib import Path

import mmengine.runner.checkpoint as mmengine_checkpoint
import numpy as np
import pytest
import ranks
import torch
import toys
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from mmengine.registry import PARAM_SCHEDULERS
from mmengine.runner.checkpoint import CheckpointLoader
from mmengine.utils import digit_version
from torch import nn

from r2kd_mm import checkpoint
from r2kd_mm.plain import plain

TORCH = digit_version(torch.__version__)
IS_FORK = any(found.metadata['Name'] == 'onedl-mmengine' for found in metadata.distributions())


class TestCheckpoints:
    @pytest.mark.skipif(
        digit_version('2.6.0') > TORCH, reason='torch < 2.6 does not refuse the checkpoints of the Runner'
    )
    @pytest.mark.skipif(IS_FORK, reason='onedl-mmengine loads its checkpoints, and runs the code in hostile ones')
    def test_mmengine_refuses_its_own_checkpoint_untouched(self, upstream):
        assert 'HistoryBuffer' in upstream['checkpoint'], 'the fault is gone: drop the cure'

    def test_mmengine_loads_through_us(self, runner_checkpoint):
        assert 'message_hub' in CheckpointLoader.load_checkpoint(str(runner_checkpoint), map_location='cpu')


# What each scheduler of MMEngine needs to be built, by the start of its name.
SCHEDULER_FIELDS = dict(
    Constant=dict(end=3),
    CosineAnnealing=dict(T_max=8),
    CosineRestart=dict(periods=[2, 6], restart_weights=[1, 0.5], eta_min=0.0),
    Exponential=dict(gamma=0.9),
    Linear=dict(end=8),
    MultiStep=dict(milestones=[2, 4, 4]),
    OneCycle=dict(total_steps=8, eta_max=0.5),
    Poly=dict(end=8),
    ReduceOnPlateau=dict(monitor='loss', rule='less', patience=0),
    Step=dict(step_size=3),
)
SCHEDULERS = sorted(PARAM_SCHEDULERS.module_dict)


def scheduled(name: str, steps: int, state: dict | None = None) -> tuple:
    """Return a scheduler after ``steps`` steps, and its value after each; ``state`` is loaded before."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    fields = next(fields for start, fields in SCHEDULER_FIELDS.items() if name.startswith(start))
    scheduler = PARAM_SCHEDULERS.build(
        dict(fields, type=name, **(dict(param_name='lr') if name.endswith('ParamScheduler') else {})),
        default_args=dict(optimizer=optimizer),
    )
    if state is not None:
        scheduler.load_state_dict(state['param_schedulers'][0])
        optimizer.load_state_dict(state['optimizer'])
    values = []
    for _ in range(steps):
        optimizer.step()
        scheduler.step(*([dict(loss=1.0)] if name.startswith('ReduceOnPlateau') else []))
        values.append(optimizer.param_groups[0][scheduler.param_name])
    return scheduler, values


class TestPlainCheckpoints:
    @pytest.mark.parametrize('name', SCHEDULERS)
    def test_every_scheduler_of_mmengine_resumes_from_its_checkpoint(self, tmp_path, name):
        scheduler, _ = scheduled(name, 3)
        optimizer = scheduler.optimizer.state_dict()
        mmengine_checkpoint.save_checkpoint(
            dict(param_schedulers=[scheduler.state_dict()], optimizer=optimizer), str(tmp_path / 'saved.pth')
        )
        state = checkpoint.load_checkpoint_file(tmp_path / 'saved.pth')
        whole = scheduled(name, 8)[1]
        assert scheduled(name, 5, state)[1] == whole[3:]
        assert len(set(whole)) > 1

    def test_what_mmengine_writes_without_us_is_refused(self, tmp_path):
        untouched = mmengine_checkpoint.save_checkpoint.__wrapped__
        untouched(dict(meta=dict(root=tmp_path)), str(tmp_path / 'saved.pth'))
        with pytest.raises(ValueError, match='is refused: it wants pathlib'):
            checkpoint.load_checkpoint_file(tmp_path / 'saved.pth')

    def test_what_stands_in_meta_is_written_plainly(self, tmp_path):
        Point = namedtuple('Point', 'x y')
        palette = np.array([[1, 2], [3, 4]], np.uint8)
        meta = dict(
            classes=np.array(['cat', 'dog']),
            palette=palette,
            count=np.int64(3),
            split=ConfigDict(root=tmp_path, names=deque(['a'], maxlen=3)),
            point=Point(1, np.float32(0.5)),
            both=frozenset({1, 2}),
            kinds=[ConfigDict, torch.float16],
            counter=Counter('aab'),
        )
        mmengine_checkpoint.save_checkpoint(dict(meta=meta), str(tmp_path / 'saved.pth'))
        loaded = checkpoint.load_checkpoint_file(tmp_path / 'saved.pth')['meta']
        assert loaded.pop('palette').tolist() == palette.tolist()
        assert loaded == dict(
            classes=['cat', 'dog'],
            count=3,
            split=dict(root=str(tmp_path), names=['a']),
            point=(1, 0.5),
            both={1, 2},
            kinds=["<class 'mmengine.config.config.ConfigDict'>", torch.float16],
            counter=Counter('aab'),
        )
        assert [type(loaded[name]) for name in ('split', 'point', 'count')] == [dict, tuple, int]

    def test_what_is_plain_stays_the_object_that_it_is(self):
        weights = nn.Linear(2, 2).state_dict()
        assert plain(weights) is weights
        hub = dict(history=HistoryBuffer([1.0], [1]), best=(1, [2.0, None]))
        assert plain(hub) is hub

    @pytest.mark.parametrize(
        ('checkpoint', 'message'),
        [
            (dict(my_hook=dict(rng=torch.Generator())), r'my_hook\.rng of the checkpoint is a torch\.\S*Generator'),
            (
                dict(param_schedulers=[dict(last=deque([1], maxlen=1))]),
                r'param_schedulers\.0\.last .* collections\.deque',
            ),
        ],
    )
    def test_a_state_that_is_not_plain_is_refused_by_its_place(self, tmp_path, checkpoint, message):
        with pytest.raises(TypeError, match=message):
            mmengine_checkpoint.save_checkpoint(checkpoint, str(tmp_path / 'saved.pth'))
        assert not (tmp_path / 'saved.pth').exists()


NEW_YEAR = 1767225599.0  # the last second of a minute, an hour, a day, a month and a year


def start_in_one_second(work_dir, starts: int) -> list[str]:
    """Return the names of the folders of ``starts`` starts, all in the same second."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr('mmengine.runner.runner.time.time', lambda: NEW_YEAR)
        return [Path(toys.runner(toys.classifier(), work_dir).log_dir).name for _ in range(starts)]


class TestRunFolders:
    def test_each_start_has_its_own_folder_though_all_are_in_one_second(self, tmp_path, monkeypatch):
        monkeypatch.setenv('TZ', 'UTC')
        time.tzset()
        names = ['20251231_235959', '20260101_000000', '20260101_000001']
        assert start_in_one_second(tmp_path, 3) == names
        logs = [len(list(tmp_path.glob(f'{name}/*.log'))) for name in names]
        assert logs == [1, 1, 1]
        monkeypatch.undo()
        time.tzset()

    @pytest.mark.slow
    def test_all_ranks_of_a_start_have_the_same(self, tmp_path):
        first, second = ranks.run_on_ranks(2, start_in_one_second, str(tmp_path), 2)
        assert first == second
        assert len(set(first)) == 2
