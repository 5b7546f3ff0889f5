"""Run ``tools/compare.py`` as a user does, for two epochs on the digits."""

import json
import signal

import pytest
import toolbox

NETWORK = toolbox.ROOT / 'configs/supervised/res14_digits.py'
KD = toolbox.ROOT / 'configs/kd/kd_res14_res6_digits.py'
SHORT = ['train_cfg.max_epochs=2', 'train_cfg.val_interval=1', 'default_hooks.checkpoint.interval=1']


def compare(out, *arguments, options=()):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(out)  # a folder without the teacher that the configs name
        return toolbox.run_forked('compare.py', *arguments, '--out', out, '--cfg-options', *SHORT, *options)


@pytest.fixture(scope='module')
def compared(tmp_path_factory):
    """A comparison of a network with a distillation whose teacher is missing."""
    out = tmp_path_factory.mktemp('compare')
    done = compare(out, NETWORK, KD, '--seeds', '0', '1', '--jobs', '2', '--baseline', 'res14_digits')
    return out, done


@pytest.mark.slow
def test_a_failed_run_is_reported_and_does_not_sink_the_others(compared):
    out, done = compared
    assert done.returncode == 1
    assert "failed: kd_res14_res6_digits, seed 1: checkpoint 'work_dirs/res14_digits/epoch_60.pth'" in done.stderr
    assert 'Traceback' not in done.stderr
    assert '[4/4]' in done.stdout
    assert '| res14_digits |' in (out / 'table.md').read_text()
    methods = json.loads((out / 'results.json').read_text())['methods']
    assert [(method['name'], list(method['runs'])) for method in methods] == [('res14_digits', ['0', '1'])]
    assert (out / 'accuracy.png').is_file()


@pytest.mark.slow
def test_what_is_finished_is_skipped_and_what_changed_is_trained_anew(compared):
    out, _ = compared
    again = compare(out, NETWORK, '--seeds', '1', '0')
    assert again.returncode == 0, again.stderr
    assert '2 of 2 runs are finished and are not repeated' in again.stdout
    changed = compare(out, NETWORK, '--seeds', '0', options=['optim_wrapper.optimizer.lr=0.02'])
    assert changed.returncode == 0, changed.stderr
    assert 'res14_digits, seed 0: its folder holds a run of another config or teacher, so it is trained again' in (
        changed.stdout
    )
    assert '; what is there is kept as seed_0.set_aside until the new one is finished' in changed.stdout


@pytest.mark.parametrize(
    ('arguments', 'message'),
    toolbox.quick_first(
        [
            ([NETWORK, '--seeds', '0', '1', '0'], '--seeds 0 is given twice'),
            ([NETWORK, NETWORK], "2 configs have the name 'res14_digits'"),
            ([NETWORK, '--baseline', 'kd'], "--baseline 'kd' is none of the methods that are compared: res14_digits"),
            ([NETWORK, '--cfg-options', 'optim_wraper.lr=1'], "did you mean 'optim_wrapper'?"),
            ([NETWORK.with_name('none.py')], 'none.py'),
        ]
    ),
)
def test_a_slip_is_one_clear_error_before_anything_is_trained(arguments, message, tmp_path):
    done = toolbox.run_forked('compare.py', *arguments, '--out', tmp_path / 'out')
    assert done.returncode == 1
    assert done.stderr.count('error: ') == 1
    assert message in done.stderr
    assert 'Traceback' not in done.stderr
    assert 'runs to train' not in done.stdout


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on(tmp_path):
    command = toolbox.command('compare.py', NETWORK, '--out', tmp_path, '--seeds', '0')
    process = toolbox.start(command)
    assert '1 runs to train' in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=toolbox.TIMEOUT)
    assert process.returncode == 1
    assert 'interrupted; the same command skips what is finished' in errors
    assert 'Traceback' not in errors
