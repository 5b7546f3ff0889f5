"""On every engine (local, SLURM, Ray), a run that is killed once is resumed and ends with the same numbers."""

import importlib.util
import os
import socket
import threading
from argparse import Namespace
from pathlib import Path

import pytest
import toolbox
from probe_hooks import DevicesHook, KillAlwaysHook, KillOnceHook
from short_runs import NETWORK, SHORT

from r2kd_mm.runs import (
    LocalEngine,
    Method,
    State,
    complete,
    load_result,
    look_at,
    make_engine,
    plan_runs,
    preview,
)
from r2kd_mm.runs import engines as engines_module
from r2kd_mm.runs.grid import Ended, Outcome
from r2kd_mm.runs.lock import hold
from r2kd_mm.runs.plan import load_config
from r2kd_mm.runs.result import Result, save_result
from r2kd_mm.runs.state import DIGEST_FILE, settings_digest

LONGER = {**SHORT, 'train_cfg.max_epochs': 3, 'log_level': 'INFO'}
DEFAULTS = dict(engine='local', jobs=2, jobs_per_gpu=1, cpus=1, slurm={})
INSTALLED = {
    'local': True,
    **{
        name: importlib.util.find_spec(package) is not None for name, package in (('ray', 'ray'), ('slurm', 'submitit'))
    },
}


def engine(name: str, folder: Path, **options):
    """The engine as a command line makes it; SLURM by submitit's processes on this machine."""
    if not INSTALLED[name]:
        pytest.skip(f"the extra is not installed: pip install 'r2kd_mm[{name}]'")
    slurm = dict(cluster='local') if name == 'slurm' else {}
    return make_engine(Namespace(**{**DEFAULTS, 'engine': name, 'slurm': slurm, **options}), folder)


@pytest.fixture
def ray_cluster():
    """A cluster of Ray with the given resources, gone after the test."""
    ray = pytest.importorskip('ray', reason="the extra is not installed: pip install 'r2kd_mm[ray]'")
    yield lambda **resources: ray.init(log_to_driver=False, include_dashboard=False, **resources)
    ray.shutdown()


@pytest.fixture(autouse=True)
def _workers_find_the_tests(monkeypatch):
    monkeypatch.setenv('PYTHONPATH', f'{toolbox.environment()["PYTHONPATH"]}:{os.environ.get("PYTHONPATH", "")}')
    monkeypatch.setenv('OMP_NUM_THREADS', '1')


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory):
    runs = plan_runs([Method('network', NETWORK, LONGER)], [0, 1], tmp_path_factory.mktemp('undisturbed'))
    assert complete(runs, LocalEngine(1)) == {}
    return [load_result(run).accuracy for run in runs]


@pytest.mark.parametrize('name', ['local', 'ray', 'slurm'])
@pytest.mark.slow
def test_a_worker_that_is_killed_after_its_first_checkpoint_is_resumed_once(name, request, tmp_path, capfd):
    if name == 'ray':
        request.getfixturevalue('ray_cluster')(num_cpus=2)
    undisturbed = request.getfixturevalue('undisturbed')
    runs = plan_runs(
        [Method('network', NETWORK, {**LONGER, 'custom_hooks': [dict(type=KillOnceHook)]})], [0, 1], tmp_path
    )
    assert complete(runs, engine(name, tmp_path)) == {}
    assert [load_result(run).accuracy for run in runs] == undisturbed  # bitwise
    output = capfd.readouterr().out
    for run in runs:
        log = run.output_file.read_text()
        assert log.count('resumed epoch: 1, ') == 1, log
        assert log.count('Epoch(train) [1]') == 1
        assert f'{run}: its ' in output
        assert 'ended' in output
        assert output.count(f'{run}: ') >= 2
    assert output.count('; resumed from its last checkpoint') == 2
    assert complete(runs, LocalEngine(1)) == {}  # finished for every other engine, too
    assert '2 of 2 runs are finished' in capfd.readouterr().out


@pytest.mark.slow
def test_a_run_that_dies_twice_at_one_place_has_failed_and_the_others_are_trained(tmp_path, capfd):
    bad = Method('bad', NETWORK, {**SHORT, 'custom_hooks': [dict(type=KillAlwaysHook)]})
    runs = plan_runs([bad, Method('good', NETWORK, SHORT)], [0], tmp_path)
    failures = complete(runs, LocalEngine(1))
    assert failures == {runs[0]: f'its process ended with status -9; see {runs[0].output_file}'}
    assert capfd.readouterr().out.count('; resumed from its last checkpoint') == 1
    assert list(look_at(runs).values()) == [State.INTERRUPTED, State.FINISHED]


class LostEngine(LocalEngine):
    """Machines that go away before they begin a run."""

    def submit(self, runs):
        self._pending.extend(runs)

    def wait(self):
        return [Ended(self._pending.popleft(), Outcome.DIED, 'its machine went away')]


def test_the_result_of_another_config_is_not_that_of_a_run_that_dies_before_it_begins(tmp_path):
    old, new = (
        plan_runs([Method('network', NETWORK, {**SHORT, 'train_cfg.max_epochs': epochs})], [0], tmp_path)[0]
        for epochs in (2, 3)
    )
    old.folder.mkdir(parents=True)
    (old.folder / DIGEST_FILE).write_text(settings_digest(load_config(old)))
    save_result(old, Result([2], [99.0], {}, seconds=1.0))
    assert complete([new], LostEngine(1)) == {new: f'its machine went away; see {new.output_file}'}


@pytest.mark.slow
def test_a_job_that_fails_outside_of_the_run_is_not_tried_again(tmp_path):
    submitit = pytest.importorskip('submitit', reason="the extra is not installed: pip install 'r2kd_mm[slurm]'")
    from r2kd_mm.runs.slurm_engine import _end_of

    (run,) = plan_runs([Method('network', NETWORK, SHORT)], [0], tmp_path)
    job = submitit.AutoExecutor(tmp_path, cluster='local').submit(int, 'no number')
    assert _end_of(job, run).outcome is Outcome.FAILED


def devices(runs) -> list[str]:
    return [(run.folder / 'devices.txt').read_text() for run in runs]


def recorded_runs(tmp_path, count):
    options = {**SHORT, 'train_cfg.max_epochs': 1, 'custom_hooks': [dict(type=DevicesHook)]}
    return plan_runs([Method('network', NETWORK, options)], range(count), tmp_path)


@pytest.mark.slow
def test_local_runs_have_a_gpu_each(tmp_path, monkeypatch):
    monkeypatch.setattr(engines_module, 'visible_gpus', lambda: ('3', '5'))
    runs = recorded_runs(tmp_path, 2)
    one_each = engine('local', tmp_path, jobs=None)
    assert str(one_each) == 'on this machine, 2 at a time on GPU 3, 5'
    assert complete(runs, one_each) == {}
    assert devices(runs) == ['3', '5']


def test_gpus_are_shared_or_left_alone_as_the_options_say(tmp_path, monkeypatch):
    monkeypatch.setattr(engines_module, 'visible_gpus', lambda: ('3', '5'))
    shared = engine('local', tmp_path, jobs=None, jobs_per_gpu=2)
    assert (shared.slots, [shared._gpu(place) for place in range(4)]) == (4, ['3', '5', '3', '5'])
    assert engine('local', tmp_path, jobs=1).slots == 1
    assert engine('local', tmp_path, jobs=9).slots == 2
    assert engine('local', tmp_path, jobs=None, jobs_per_gpu=0).slots == 1


@pytest.mark.slow
def test_local_runs_on_the_cpus_see_no_gpu(tmp_path, monkeypatch):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '3,5')
    monkeypatch.setattr(engines_module, 'visible_gpus', lambda: ('3', '5'))
    runs = recorded_runs(tmp_path, 1)
    assert complete(runs, engine('local', tmp_path, jobs_per_gpu=0)) == {}
    assert devices(runs) == ['']


@pytest.mark.parametrize(
    ('variable', 'names'), [('4,6', ('4', '6')), ('GPU-a,GPU-b', ('GPU-a', 'GPU-b')), ('', ('0', '1'))]
)
def test_gpus_have_the_names_that_the_environment_gives_them(variable, names, monkeypatch):
    monkeypatch.setattr('torch.cuda.device_count', lambda: 2)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', variable)
    assert engines_module.visible_gpus() == names


@pytest.mark.slow
def test_ray_gives_each_run_a_gpu(ray_cluster, tmp_path):
    ray_cluster(num_cpus=2, num_gpus=2)
    runs = recorded_runs(tmp_path, 2)
    two = engine('ray', tmp_path, jobs=None)
    assert str(two) == 'on a Ray cluster of 1 machine, 2 at a time, with 1 CPU and 1 GPU each'
    assert complete(runs, two) == {}
    assert sorted(devices(runs)) == ['0', '1']
    assert engine('ray', tmp_path, jobs=None, jobs_per_gpu=4).share == 0.25
    with pytest.raises(ValueError, match='a run asks for 3 CPUs, and no machine of the Ray cluster has as many; the '):
        engine('ray', tmp_path, cpus=3)


@pytest.mark.slow
def test_a_run_that_an_orphan_trains_is_waited_for(tmp_path, capfd):
    (run,) = plan_runs([Method('network', NETWORK, SHORT)], [0], tmp_path)
    released = threading.Event()

    def orphan():
        with hold(run.lock_file, '{owner}'):
            released.wait(600)

    thread = threading.Thread(target=orphan)
    thread.start()
    local = LocalEngine(1)
    wait, outcomes = local.wait, []

    def wait_and_release():
        ended = wait()
        outcomes.extend(one.outcome for one in ended)
        if Outcome.HELD in outcomes:
            released.set()
        return ended

    local.wait = wait_and_release
    assert complete([run], local) == {}
    thread.join()
    assert set(outcomes[:-1]) == {Outcome.HELD}  # once per look at the lock, until the orphan ends
    assert outcomes[-1] is Outcome.FINISHED
    assert look_at([run])[run] is State.FINISHED


def test_a_second_driver_is_refused(tmp_path):
    runs = plan_runs([Method('network', NETWORK, SHORT)], [0], tmp_path)
    with (
        hold(tmp_path / 'driver.lock', '{owner}'),
        pytest.raises(
            BlockingIOError, match=rf"{tmp_path}' is in use by another process \({os.getpid()} on .*another folder"
        ),
    ):
        complete(runs, LocalEngine(1))


@pytest.mark.parametrize(
    ('name', 'options', 'message'),
    [
        ('local', dict(slurm=dict(gpus_per_node=1)), '--slurm goes with --engine slurm, got --engine local'),
        ('slurm', dict(jobs_per_gpu=2), '--jobs-per-gpu does not go with --engine slurm, whose jobs ask for GPUs by'),
        ('slurm', dict(slurm=dict(cluster='local', gpu=1)), "--slurm: Parameter 'gpu' need to be prefixed by an"),
        ('slurm', dict(slurm={}), '--engine slurm cannot submit jobs here: .*--slurm cluster=local'),
    ],
)
def test_options_that_do_not_go_together_are_refused(name, options, message, tmp_path, monkeypatch):
    monkeypatch.setenv('PATH', str(tmp_path))  # without sbatch
    with pytest.raises((ValueError, ConnectionError), match=message):
        engine(name, tmp_path, **options)


def test_a_ray_cluster_where_nobody_listens_is_named(tmp_path, monkeypatch):
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))  # and does not listen
        address = f'127.0.0.1:{taken.getsockname()[1]}'
        monkeypatch.setenv('RAY_ADDRESS', address)
        message = f"the Ray cluster at '{address}' cannot be reached .Connection refused.; correct RAY_ADDRESS"
        with pytest.raises(ConnectionError, match=message):
            engine('ray', tmp_path)


@pytest.mark.parametrize(('name', 'package'), [('ray', 'ray'), ('slurm', 'submitit')])
def test_an_engine_that_is_not_installed_names_its_extra(name, package, tmp_path, monkeypatch):
    monkeypatch.setattr(engines_module.importlib.util, 'find_spec', lambda module: None)
    message = (
        rf"--engine {name} needs {package}, which is not installed; install the extra: pip install 'r2kd_mm\[{name}\]'"
    )
    with pytest.raises(ImportError, match=message):
        make_engine(Namespace(**{**DEFAULTS, 'engine': name}), tmp_path)


def test_a_preview_estimates_from_the_runs_that_are_finished(tmp_path, monkeypatch):
    method, other = Method('network', NETWORK, SHORT), Method('other', NETWORK, SHORT)
    runs = plan_runs([method, other], [0, 1], tmp_path)
    assert preview(runs, LocalEngine(2)).splitlines()[-2:] == [
        '4 of 4 runs to train on this machine, 2 at a time',
        'no run is finished yet, so the time is not known',
    ]
    states = dict(zip(runs, [State.FINISHED, State.NEW, State.INTERRUPTED, State.CHANGED]))
    monkeypatch.setattr('r2kd_mm.runs.compare.look_at', lambda runs: states)
    monkeypatch.setattr('r2kd_mm.runs.compare.load_result', lambda run: Namespace(seconds=100.0))
    runs[2].folder.mkdir(parents=True)
    (runs[2].folder / 'share.txt').write_text('0.75')
    assert preview(runs, LocalEngine(2)).splitlines() == [
        'other, seed 0: train, about 1 min 40 s',
        'network, seed 1: resume at 75%, about 25 s',
        'other, seed 1: train again, since its folder holds a run of another config or teacher, about 1 min 40 s',
        '3 of 4 runs to train on this machine, 2 at a time',
        'about 1 min 52 s',
    ]
