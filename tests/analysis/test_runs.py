"""Runs are found, grouped by method, and refused where they cannot be analysed."""

import json
import re

import numpy as np
import pytest
import torch
from run_folders import R2KD, write_run

from r2kd_mm.analysis import RunError, find_groups
from r2kd_mm.analysis.runs import Series, common_steps, label_noise, read_run, read_scalars


def write_lines(folder, start, *rows):
    """A log of the run started at ``start``; a row that is text is written as it is."""
    path = folder / start / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True)
    path.write_text('\n'.join(row if isinstance(row, str) else json.dumps(row) for row in rows))


def test_folders_of_seeds_are_one_method_wherever_the_search_begins(runs):
    for paths in (
        [runs],
        [runs / 'alone', runs / 'r2kd'],
        [runs / 'alone', runs / 'r2kd/seed_0', runs / 'r2kd/seed_1'],
    ):
        groups = find_groups(paths)
        assert {group.name: [run.seed for run in group.runs] for group in groups} == dict(alone=[0], r2kd=[0, 1])
    assert len(find_groups([runs / 'alone', runs / 'alone'])[0].runs) == 1


def test_work_dirs_that_differ_by_the_seed_are_one_method(tmp_path):
    for seed in (3, 4):
        write_run(tmp_path / f'small_seed{seed}', seed=seed)
    (group,) = find_groups(sorted(tmp_path.iterdir()))
    assert (group.name, [run.seed for run in group.runs]) == ('small', [3, 4])


def test_a_compared_method_keeps_its_name_and_names_can_be_given(tmp_path, runs):
    write_run(tmp_path / 'R2KD_CutMix' / 'seed_7', R2KD, 7, experiment_name='R2KD, CutMix, seed 7')
    assert find_groups([tmp_path])[0].name == 'R2KD, CutMix'
    assert [group.name for group in find_groups([runs], ['A', 'B'])] == ['A', 'B']
    with pytest.raises(RunError, match='--names gives 1 names for 2 methods: alone, r2kd'):
        find_groups([runs], ['A'])


def test_scalars_come_from_all_starts_and_the_later_value_counts(tmp_path):
    write_lines(tmp_path, '20260101_000000', {'loss': 5, 'step': 1}, {'loss': 4.0, 'step': 2}, '{"loss": 3.0, "st')
    write_lines(tmp_path, '20260102_000000', {'loss': 1.5, 'step': 2}, {'loss': 1, 'step': 3}, 'null', '{"loss": 1}')
    scalars, unreadable = read_scalars(tmp_path)
    assert unreadable == 3
    assert scalars.keys() == {'loss'}
    assert scalars['loss'].steps.tolist() == [1, 2, 3]
    assert scalars['loss'].values.tolist() == [5, 1.5, 1]


def test_common_steps_are_those_of_all_seeds():
    first, second = (
        Series(np.array([1, 2, 3]), np.array([1.0, 2, 3])),
        Series(np.array([2, 3, 9]), np.array([5.0, 6, 7])),
    )
    steps, values = common_steps([first, second])
    assert steps.tolist() == [2, 3]
    assert values.tolist() == [[2, 3], [5, 6]]


def test_the_share_of_wrong_labels_is_found_inside_of_wrapped_data(runs):
    config = read_run(runs / 'alone').config
    assert label_noise(config) == 0
    config.train_dataloader.dataset = dict(type='RepeatDataset', dataset=dict(type='X', label_noise=0.2))
    assert label_noise(config) == 0.2


def test_a_folder_that_is_no_run_is_named(tmp_path):
    with pytest.raises(RunError, match="'.*nowhere' is no folder"):
        find_groups([tmp_path / 'nowhere'])
    with pytest.raises(RunError, match='is no run and holds none: expected a work_dir of tools/train.py'):
        find_groups([tmp_path])


def test_a_run_without_config_is_refused(tmp_path):
    write_run(tmp_path / 'run')
    next(tmp_path.glob('run/*/vis_data/config.py')).unlink()
    with pytest.raises(RunError, match='has no config'):
        find_groups([tmp_path])


def test_a_run_without_checkpoint_or_not_at_its_end_is_refused(tmp_path):
    folder = write_run(tmp_path / 'run')
    checkpoint = folder / 'epoch_200.pth'
    content = torch.load(checkpoint, weights_only=False)
    content['meta']['epoch'] = 20
    torch.save(content, checkpoint)
    with pytest.raises(RunError, match='is not finished: its last checkpoint is of epoch 20 of 200'):
        find_groups([folder])
    checkpoint.unlink()
    with pytest.raises(RunError, match='has no checkpoint epoch_200.pth'):
        find_groups([folder])
    (folder / 'last_checkpoint').unlink()
    with pytest.raises(RunError, match='has no checkpoint: it is still in its first epochs'):
        find_groups([folder])


def test_what_cannot_be_compared_is_refused(tmp_path):
    write_run(tmp_path / 'a' / 'seed_0')
    write_run(tmp_path / 'a' / 'seed_1', seed=0)
    with pytest.raises(RunError, match="two runs of 'a' have one seed, 0"):
        find_groups([tmp_path / 'a'])
    write_run(tmp_path / 'b' / 'same')
    write_run(tmp_path / 'c' / 'same')
    with pytest.raises(RunError, match=f"two methods are called 'same': {re.escape(str(tmp_path))}/b/same, .*--names"):
        find_groups([tmp_path / 'b', tmp_path / 'c'])
    assert len(find_groups([tmp_path / 'b', tmp_path / 'c'], ['b', 'c'])) == 2
    write_run(tmp_path / 'd', **{'val_dataloader.dataset.split_seed': 1})
    with pytest.raises(RunError, match=r"'d' was validated on other data than 'same'.*'split_seed': 1"):
        find_groups([tmp_path / 'b', tmp_path / 'd'])
