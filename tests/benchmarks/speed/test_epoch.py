import json

import epoch
import pytest
import toolbox

CONFIG = toolbox.ROOT / 'configs' / 'r2kd' / 'r2kd_res14_res6_digits.py'
ROUNDS = 2
SCRIPT = '../benchmarks/speed/epoch.py'


@pytest.fixture(scope='module')
def result(tmp_path_factory):
    out = tmp_path_factory.mktemp('epoch') / 'epoch.json'
    finished = toolbox.run_forked(
        SCRIPT,
        CONFIG,
        '--rounds',
        str(ROUNDS),
        '--processes',
        '2',
        '--steps',
        '1',
        '--out',
        out,
    )
    assert finished.returncode == 0, finished.stderr
    assert out.with_suffix('.md').read_text() in finished.stdout
    return json.loads(out.read_text())


@pytest.mark.slow
def test_the_runner_and_the_bare_loop_train_on_as_many_batches(result):
    measured = result['epoch']
    assert measured['iterations'] == 5
    for loop in ('runner_seconds', 'bare_seconds'):
        assert [len(times) for times in measured[loop]] == [5] * ROUNDS
        assert min(min(times) for times in measured[loop]) > 0


@pytest.mark.slow
def test_the_overhead_is_the_difference_of_the_loops(result):
    measured = result['epoch']
    mean = [
        sum(runner) / 5 - sum(bare) / 5 for runner, bare in zip(measured['runner_seconds'], measured['bare_seconds'])
    ]
    assert measured['loops'][f'{epoch.OVERHEAD}, mean']['median'] == pytest.approx(sum(mean) / 2)


@pytest.mark.slow
def test_the_hooks_of_the_config_are_timed_and_the_parts_make_up_the_iteration(result):
    watched = result['epoch']['watched']
    assert {'train_step', 'FiniteCheckHook', 'LoggerHook', epoch.REST} <= set(watched['parts'])
    assert sum(watched['parts'].values()) == pytest.approx(watched['seconds'])
    assert min(watched['parts'].values()) >= 0


@pytest.mark.slow
def test_the_throughput_of_processes_is_that_of_their_median_steps(result):
    one, *groups = result['processes'].values()
    assert list(result['processes']) == ['one process', '2 processes, gather=True', '2 processes, gather=False']
    assert one['throughput'] == 1
    for case in groups:
        assert case['throughput'] == pytest.approx(2 * one['median'] / case['median'])
        assert len(case['seconds']) == ROUNDS
