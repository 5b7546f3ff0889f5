"""Runs are found and grouped by method; a run that cannot be analysed is refused."""

import json
import re

import numpy as np
import pytest
import toolbox
import torch
from run_folders import ALONE, R2KD, write_run

from r2kd_mm.report import RunError, find_groups
from r2kd_mm.report.trained_runs import Series, common_steps, label_noise, read_run, read_scalars


def write_lines(folder, start, *rows, resume=False):
    """Write the log of a run started at ``start``, with its config next to it; a row of text is written as it is."""
    path = folder / start / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True)
    path.with_name('config.py').write_text(f'resume = {resume}')
    path.write_text('\n'.join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


def write_epochs(folder, start, first, last, loss, resume=False):
    """The log of epochs of two iterations, each followed by a validation that says ten times the loss."""
    rows = [
        row
        for epoch in range(first, last + 1)
        for row in (
            dict(loss=loss, epoch=epoch, iter=2 * epoch, step=2 * epoch),
            {'accuracy/top1': 10 * loss, 'step': epoch},
        )
    ]
    return write_lines(folder, start, *rows, resume=resume)


def change_meta(checkpoint, **changes):
    """Have a checkpoint say something else of its run."""
    content = torch.load(checkpoint, weights_only=False)
    content['meta'].update(changes)
    torch.save(content, checkpoint)


def values(scalars, name):
    """Select the logged values by step."""
    return dict(zip(scalars[name].steps.tolist(), scalars[name].values.tolist()))


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


def test_scalars_come_from_all_that_a_run_was_resumed_from_and_the_later_value_counts(tmp_path):
    rows = [{'loss': 1.5, 'step': 2}, {'loss': 1, 'step': 3}, 'null', '{"loss": 1}']
    logs = [
        write_lines(tmp_path, '20260101_000000', {'loss': 5, 'step': 1}, {'loss': 4.0, 'step': 2}, '{"loss": 3.0, "st'),
        write_lines(tmp_path, '20260102_000000', *rows, resume=True),
    ]
    scalars, unreadable = read_scalars(logs)
    assert unreadable == 3
    assert scalars.keys() == {'loss'}
    assert values(scalars, 'loss') == {1: 5, 2: 1.5, 3: 1}


def test_what_was_logged_before_a_start_from_scratch_does_not_count(tmp_path):
    logs = [
        write_epochs(tmp_path, '20260101_000000', 1, 5, loss=5),
        write_epochs(tmp_path, '20260102_000000', 1, 1, loss=3),
        write_epochs(tmp_path, '20260103_000000', 2, 2, loss=1, resume=True),
    ]
    scalars, _ = read_scalars(logs)
    assert values(scalars, 'loss') == {2: 3, 4: 1}
    assert values(scalars, 'accuracy/top1') == {1: 30, 2: 10}


def test_what_a_run_was_resumed_from_counts_up_to_there(tmp_path):
    logs = [
        write_epochs(tmp_path, '20260101_000000', 1, 5, loss=5),
        write_epochs(tmp_path, '20260102_000000', 5, 9, loss=4, resume=True),  # from epoch 4
        write_epochs(tmp_path, '20260103_000000', 3, 4, loss=1, resume=True),  # from epoch 2: --resume epoch_2.pth
    ]
    scalars, _ = read_scalars(logs)
    assert values(scalars, 'loss') == {2: 5, 4: 5, 6: 1, 8: 1}
    assert values(scalars, 'accuracy/top1') == {1: 50, 2: 50, 3: 10, 4: 10}


def test_a_start_from_scratch_that_left_no_checkpoint_is_passed_over(tmp_path):
    logs = [
        write_epochs(tmp_path, '20260101_000000', 1, 5, loss=5),
        write_epochs(tmp_path, '20260102_000000', 1, 1, loss=3),  # stopped, since --resume was forgotten
        write_epochs(tmp_path, '20260103_000000', 6, 6, loss=1, resume=True),
    ]
    scalars, _ = read_scalars(logs)
    assert values(scalars, 'loss') == {**dict.fromkeys((2, 4, 6, 8, 10), 5), 12: 1}


def test_only_what_led_to_the_last_checkpoint_and_its_validation_is_read(tmp_path):
    folder = write_run(tmp_path / 'run')
    change_meta(folder / 'epoch_200.pth', experiment_name='res6_digits_20261121_120000')
    expected = read_run(folder)
    write_epochs(folder, '20261122_000000', 1, 3, loss=7)  # stopped before its first checkpoint
    assert read_run(folder).scalars.keys() == expected.scalars.keys()
    assert values(read_run(folder).scalars, 'loss') == values(expected.scalars, 'loss')
    assert read_run(folder).config.model == expected.config.model
    log = write_lines(folder, '20261123_000000', {'accuracy/top1': 61.0, 'step': 200})
    log.with_name('config.py').write_text(f'{expected.config.pretty_text}\nresume = True')  # killed while it validated
    assert values(read_run(folder).scalars, 'accuracy/top1') == {100: 40, 200: 61}


@pytest.mark.slow
def test_neither_an_earlier_run_nor_a_test_in_the_folder_is_taken_for_the_run(tmp_path):
    config = toolbox.ROOT / 'configs' / ALONE
    for epochs in (3, 2):
        options = (f'train_cfg.max_epochs={epochs}', 'train_cfg.val_interval=1', 'default_hooks.checkpoint.interval=1')
        finished = toolbox.run_forked(
            'train.py', config, '--work-dir', tmp_path, '--overwrite', '--cfg-options', *options
        )
        assert finished.returncode == 0, finished.stderr
    recorded = (tmp_path / config.name).read_text()
    finished = toolbox.run_forked('test.py', config, tmp_path / 'epoch_2.pth', '--work-dir', tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert (tmp_path / config.name).read_text() == recorded
    run = read_run(tmp_path)
    assert (run.checkpoint.name, run.config.train_cfg.max_epochs) == ('epoch_2.pth', 2)
    assert run.scalars['accuracy/top1'].steps.tolist() == [1, 2]


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
    with pytest.raises(RunError, match="'.*nowhere' is not a folder"):
        find_groups([tmp_path / 'nowhere'])
    with pytest.raises(RunError, match='is not a run and holds none: expected a work_dir of tools/train.py'):
        find_groups([tmp_path])


def test_a_run_without_config_is_refused(tmp_path):
    write_run(tmp_path / 'run')
    next(tmp_path.glob('run/*/vis_data/config.py')).unlink()
    with pytest.raises(RunError, match='has no config'):
        find_groups([tmp_path])


def test_a_run_without_checkpoint_or_not_at_its_end_is_refused(tmp_path):
    folder = write_run(tmp_path / 'run')
    checkpoint = folder / 'epoch_200.pth'
    change_meta(checkpoint, epoch=20)
    with pytest.raises(RunError, match='is not finished: its last checkpoint is of epoch 20 of 200'):
        find_groups([folder])
    stopped = torch.load(checkpoint, weights_only=False)
    stopped['message_hub'] = dict(runtime_info=dict(early_stopping=[dict(has_stopped=True)]))
    torch.save(stopped, checkpoint)
    assert read_run(folder).checkpoint == checkpoint  # EarlyStoppingHook has ended it there
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


def test_images_that_only_lie_elsewhere_are_the_same_and_others_are_refused(tmp_path):
    data = dict(images=2, classes=3, sha256='same')
    for name, root, recorded in (('a', 'data/a', {}), ('b', 'data/b', data), ('c', 'moved', data)):
        folder = write_run(tmp_path / name, **{'val_dataloader.dataset.data_root': root})
        change_meta(folder / 'epoch_200.pth', r2kd_mm=dict(val_data=recorded))
    assert len(find_groups([tmp_path])) == 3
    change_meta(tmp_path / 'c/epoch_200.pth', r2kd_mm=dict(val_data=data | dict(images=4, sha256='other')))
    message = "c' was validated on other images than '.*b': 4 images of 3 classes in 'moved' and 2 .* in 'data/b', "
    with pytest.raises(RunError, match=message):
        find_groups([tmp_path])
