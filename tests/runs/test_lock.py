"""A run folder is locked by one process at a time; the lock of a dead process is free."""

import json
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from r2kd_mm.runs import lock

REFUSAL = 'held by {owner}'
ELSEWHERE = json.dumps(dict(machine='another', host='node7', pid=12, token='x'))


@pytest.fixture(autouse=True)
def _short_times(monkeypatch):
    monkeypatch.setattr(lock, 'HEARTBEAT', 0.02)
    monkeypatch.setattr(lock, 'PATIENCE', 0.3)


def test_the_owner_is_named_while_it_holds_the_file_and_not_afterwards(tmp_path):
    path = tmp_path / 'deep/run.lock'
    with lock.hold(path, REFUSAL):
        assert lock.owner_of(path)['pid'] == os.getpid()
        assert not lock.is_free(path)
        with pytest.raises(lock.Held, match=rf'held by another process \({os.getpid()} on '), lock.hold(path, REFUSAL):
            pass
    assert lock.owner_of(path) is None
    assert lock.is_free(path)
    with lock.hold(path, REFUSAL):
        pass


def hold_for_ever(path: Path, held) -> None:
    with lock.hold(path, REFUSAL):
        held.set()
        time.sleep(600)


def test_the_file_of_a_killed_owner_is_free_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, 'PATIENCE', 600.0)
    path, context = tmp_path / 'run.lock', multiprocessing.get_context('fork')
    held = context.Event()
    owner = context.Process(target=hold_for_ever, args=(path, held))
    owner.start()
    assert held.wait(60)
    assert not lock.is_free(path)
    os.kill(owner.pid, signal.SIGKILL)
    owner.join()
    assert lock.owner_of(path)['pid'] == owner.pid
    assert lock.is_free(path)
    with lock.hold(path, REFUSAL):
        assert lock.owner_of(path)['pid'] == os.getpid()


def test_an_owner_on_another_machine_is_gone_when_it_gives_no_sign_of_life(tmp_path):
    path = tmp_path / 'run.lock'
    path.write_text(ELSEWHERE)
    assert not lock.is_free(path)  # who knows
    with lock.hold(path, REFUSAL):
        assert lock.owner_of(path)['pid'] == os.getpid()


def test_an_owner_on_another_machine_that_gives_signs_of_life_keeps_the_file(tmp_path):
    path, stop = tmp_path / 'run.lock', threading.Event()
    path.write_text(ELSEWHERE)

    def beat():
        while not stop.wait(0.01):
            os.utime(path)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(lock.Held, match=r'held by another process \(12 on node7\)'), lock.hold(path, REFUSAL):
            pass
    finally:
        stop.set()
        thread.join()
    assert path.read_text() == ELSEWHERE


def test_an_owner_gives_signs_of_life(tmp_path):
    path = tmp_path / 'run.lock'
    with lock.hold(path, REFUSAL):
        before, deadline = lock.last_sign(path), time.monotonic() + 60
        while lock.last_sign(path) == before:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_an_owner_that_was_taken_for_dead_ends(tmp_path, monkeypatch):
    path, ended = tmp_path / 'run.lock', threading.Event()
    statuses = []
    monkeypatch.setattr(lock.os, '_exit', lambda status: (statuses.append(status), ended.set()))
    with lock.hold(path, REFUSAL):
        path.write_text(ELSEWHERE)
        assert ended.wait(60)
    assert statuses[0] == 1
