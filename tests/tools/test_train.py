"""train.py writes over no earlier run, and says where a resumed one has nothing to go on from."""

import pytest
import toolbox

CONFIG = toolbox.ROOT / 'configs/supervised/res6_digits.py'
SHORT = ('--no-validate', '--cfg-options', 'train_cfg.max_epochs=1', 'default_hooks.checkpoint.interval=1')


@pytest.fixture(scope='module')
def work_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp('work')
    finished = toolbox.run_forked('train.py', CONFIG, '--work-dir', folder, *SHORT)
    assert finished.returncode == 0, finished.stderr
    return folder


def test_the_same_command_twice_keeps_the_first_run(work_dir):
    written = (work_dir / 'epoch_1.pth').stat().st_mtime_ns
    finished = toolbox.run_forked('train.py', CONFIG, '--work-dir', work_dir, *SHORT)
    assert finished.returncode == 1
    assert f"error: work_dir '{work_dir}' holds epoch_1.pth of an earlier run (res6_digits.py, " in finished.stderr
    assert 'Epoch(train)' not in finished.stdout
    assert (work_dir / 'epoch_1.pth').stat().st_mtime_ns == written

    finished = toolbox.run_forked('train.py', CONFIG, '--work-dir', work_dir, '--overwrite', *SHORT)
    assert finished.returncode == 0, finished.stderr
    assert (work_dir / 'epoch_1.pth').stat().st_mtime_ns > written


@pytest.mark.parametrize('asked', [['--resume', *SHORT], [*SHORT, 'resume=True']], ids=['flag', 'config'])
def test_nothing_to_go_on_from_is_said(asked, tmp_path):
    finished = toolbox.run_forked('train.py', CONFIG, '--work-dir', tmp_path, *asked)
    assert finished.returncode == 0, finished.stderr
    assert f"warning: no checkpoint in '{tmp_path}': starting anew" in finished.stderr


def test_nothing_is_said_where_there_is_something_to_go_on_from(work_dir):
    finished = toolbox.run_forked('train.py', CONFIG, '--work-dir', work_dir, '--resume', *SHORT)
    assert finished.returncode == 0, finished.stderr
    assert 'starting anew' not in finished.stderr


def test_resume_and_overwrite_contradict_each_other():
    finished = toolbox.run_forked('train.py', CONFIG, '--resume', '--overwrite')
    assert finished.returncode == 2
    assert 'not allowed with argument' in finished.stderr
