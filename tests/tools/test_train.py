"""train.py does not overwrite an earlier run, and warns if --resume finds no checkpoint."""

import math

import pytest
import toolbox

from r2kd_mm.checkpoint import load_checkpoint_file

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
    assert f"warning: no checkpoint in '{tmp_path}': starting from scratch" in finished.stderr


@pytest.mark.slow
def test_nothing_is_said_where_there_is_something_to_go_on_from(work_dir):
    finished = toolbox.run_forked('train.py', CONFIG, '--work-dir', work_dir, '--resume', *SHORT)
    assert finished.returncode == 0, finished.stderr
    assert 'starting from scratch' not in finished.stderr


@pytest.mark.slow
def test_resume_and_overwrite_contradict_each_other():
    finished = toolbox.run_forked('train.py', CONFIG, '--resume', '--overwrite')
    assert finished.returncode == 2
    assert 'not allowed with argument' in finished.stderr


SCHEDULED = (
    'param_scheduler.0.end=1',
    'param_scheduler.1.begin=1',
    'param_scheduler.1.T_max=1',
    'param_scheduler.1.end=2',
    'default_hooks.logger.interval=1',
)


@pytest.mark.slow
def test_a_longer_run_follows_the_schedule_that_its_log_and_its_checkpoint_state(tmp_path):
    def train(*flags, epochs):
        options = ('--no-validate', '--cfg-options', *SCHEDULED, *SHORT[3:], f'train_cfg.max_epochs={epochs}')
        return toolbox.run_forked('train.py', CONFIG, '--work-dir', tmp_path, *flags, *options)

    finished = train(epochs=2)
    assert finished.returncode == 0, finished.stderr
    finished = train('--resume', epochs=4)
    assert finished.returncode == 1
    assert 'CosineAnnealingLR brings lr down to 0 after epoch 2, and the run continues until epoch 4' in finished.stderr
    for _ in range(2):  # a cluster that restarts the job gives the same command
        finished = train('--resume', '--allow-changes', epochs=4)
        assert finished.returncode == 0, finished.stderr
    checkpoint = load_checkpoint_file(tmp_path / 'epoch_4.pth')
    assert 'T_max=3' in checkpoint['meta']['cfg'].replace(' ', '')
    log = next(log for log in sorted(tmp_path.glob('*/*.log')) if 'Resumed with changes' in log.read_text()).read_text()
    assert 'param_scheduler.1.T_max: 1 -> 3' in log
    half_way = 0.1 * (1 + math.cos(math.pi / 3)) / 2  # one of three epochs of the cosine is over
    assert f'From here on lr {half_way:.3g} in epoch 3' in log
    assert f'lr: {half_way:.4e}' in log.split('Epoch(train)')[1]
