"""A training subprocess keeps the run folder locked, and ends when the process that started it is killed."""

import os
import signal
import subprocess
import sys

import pytest
from toolbox import environment

from r2kd_mm.runs import launch
from r2kd_mm.runs.lock import Held, hold

OWNER = """
import os, sys, time
from pathlib import Path
from r2kd_mm.runs.launch import start
from r2kd_mm.runs.lock import hold

with hold(Path(sys.argv[1]), 'held'):
    child = start([sys.executable, '-c', sys.argv[2]], os.environ)
    time.sleep(300)
"""
# ends three seconds after SIGTERM, as one that saves a checkpoint
CHILD = """
import signal, time
signal.signal(signal.SIGTERM, lambda *_: (time.sleep(3), exit()))
print('ready', flush=True)
time.sleep(300)
"""


@pytest.mark.slow
def test_the_folder_of_a_killed_owner_is_locked_until_its_processes_have_ended(tmp_path):
    path = tmp_path / 'run.lock'
    owner = subprocess.Popen(
        [sys.executable, '-c', OWNER, path, CHILD], stdout=subprocess.PIPE, text=True, env=environment()
    )
    assert owner.stdout.readline() == 'ready\n'
    owner.kill()
    owner.wait()
    with pytest.raises(Held), hold(path, 'held'):
        pass
    assert owner.stdout.read() == ''  # returns when the child has ended, too
    with hold(path, 'held'):
        pass


def test_sigterm_is_handed_on_and_known_afterwards():
    before = signal.getsignal(signal.SIGTERM)
    process = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(60)'])
    with launch._handed_on(signal.SIGTERM, process) as received:
        os.kill(os.getpid(), signal.SIGTERM)
        assert process.wait(30) == -signal.SIGTERM
    assert received == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGTERM) is before
