"""Two machines (here network namespaces) train the same student as one machine, even if one fails and returns."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import toolbox
import torch

pytestmark = pytest.mark.slow
CONFIG = toolbox.ROOT / 'configs/r2kd/r2kd_res14_res6_digits.py'
EPOCHS = 6
LAST = f'epoch_{EPOCHS}.pth'
OPTIONS = (
    'model.teacher_ckpt=None',
    'model.allow_untrained_teacher=True',
    f'train_cfg.max_epochs={EPOCHS}',
    'train_dataloader.batch_size=30',
    'default_hooks.checkpoint.interval=1',
)


@dataclass(frozen=True)
class Node:
    """A network namespace: addresses and ports of its own, joined to its peer by a virtual cable."""

    rank: int
    name: str
    address: str

    def launch(self, work_dir: Path, processes: int, **variables: str) -> Launch:
        """Start ``tools/dist_train.sh`` here."""
        log = work_dir.with_name(f'{work_dir.name}_{self.name}_{time.monotonic_ns()}.log')
        command = toolbox.command('dist_train.sh', CONFIG, str(processes), '--work-dir', work_dir)
        with log.open('w') as output:
            process = subprocess.Popen(
                ['ip', 'netns', 'exec', self.name, *command, '--cfg-options', *OPTIONS],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**toolbox.environment(), 'GLOO_SOCKET_IFNAME': 'eth', **variables},
            )
        return Launch(process, log)

    def kill(self) -> int:
        """Kill every process of this machine at once, as a power cut does; how many there were."""
        return kill_all(self.name)


@dataclass(frozen=True)
class Launch:
    """A running launcher and what it writes."""

    process: subprocess.Popen
    log: Path

    def finish(self) -> str:
        """Wait for its success; everything it wrote."""
        returncode = self.process.wait(toolbox.TIMEOUT)
        written = self.log.read_text()
        assert returncode == 0, written[-5000:]
        return written


def ip(*arguments: str) -> str:
    return subprocess.run(['ip', *arguments], capture_output=True, text=True, check=True).stdout


def kill_all(namespace: str) -> int:
    killed = set()
    while pids := ip('netns', 'pids', namespace).split():
        for pid in map(int, pids):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        killed.update(pids)
        time.sleep(0.05)  # one that was being started is seen in the next round
    return len(killed)


@contextmanager
def namespace(name: str) -> Iterator[str]:
    ip('netns', 'add', name)
    try:
        yield name
    finally:
        kill_all(name)
        ip('netns', 'delete', name)


@pytest.fixture(scope='module')
def nodes() -> Iterator[tuple[Node, Node]]:
    """Two machines, 10.77.0.1 and 10.77.0.2."""
    names = [f'r2kd-{os.getpid()}-{rank}' for rank in range(2)]
    with ExitStack() as cleanup:
        try:
            for name in names:
                cleanup.enter_context(namespace(name))
            ip('link', 'add', 'eth', 'netns', names[0], 'type', 'veth', 'peer', 'name', 'eth', 'netns', names[1])
        except FileNotFoundError:
            pytest.skip('needs the program ip, of iproute2')
        except subprocess.CalledProcessError as error:
            pytest.skip(f'needs the right to make network namespaces, which root has: {error.stderr.strip()}')
        pair = tuple(Node(rank, name, f'10.77.0.{rank + 1}') for rank, name in enumerate(names))
        for node in pair:
            ip('-netns', node.name, 'address', 'add', f'{node.address}/24', 'dev', 'eth')
            for device in ('lo', 'eth'):
                ip('-netns', node.name, 'link', 'set', device, 'up')
        yield pair


def launch_both(nodes: tuple[Node, Node], work_dir: Path, **variables: str) -> tuple[Launch, Launch]:
    return tuple(launch_one(nodes, rank, work_dir, **variables) for rank in range(2))


def launch_one(nodes: tuple[Node, Node], rank: int, work_dir: Path, **variables: str) -> Launch:
    node = nodes[rank]
    return node.launch(
        work_dir,
        processes=1,
        NNODES=str(len(nodes)),
        NODE_RANK=str(rank),
        MASTER_ADDR=nodes[0].address,
        LOCAL_ADDR=node.address,
        **variables,
    )


def wait_for(condition: Callable[[], bool], launches: tuple[Launch, ...]) -> None:
    deadline = time.monotonic() + toolbox.TIMEOUT
    while not condition():
        for launch in launches:
            assert launch.process.poll() is None, launch.log.read_text()[-5000:]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def trained(checkpoint: Path) -> dict[str, torch.Tensor]:
    """Weights and momenta by name."""
    content = torch.load(checkpoint, weights_only=False)  # written by this test
    momenta = {f'momentum {index}': state['momentum_buffer'] for index, state in content['optimizer']['state'].items()}
    assert momenta
    return {**content['state_dict'], **momenta}


def assert_bitwise_equal(checkpoint: Path, expected: Path) -> None:
    ours, theirs = trained(checkpoint), trained(expected)
    assert ours.keys() == theirs.keys()
    assert [name for name, value in ours.items() if not torch.equal(value, theirs[name])] == []


@pytest.fixture(scope='module')
def one_node_run(nodes, tmp_path_factory) -> Path:
    """Last checkpoint of two processes on one machine."""
    work_dir = tmp_path_factory.mktemp('one_node') / 'run'
    nodes[0].launch(work_dir, processes=2).finish()
    return work_dir / LAST


def test_two_machines_train_bitwise_the_student_of_two_processes_on_one(nodes, one_node_run, tmp_path):
    for launch in launch_both(nodes, tmp_path / 'run'):
        launch.finish()
    assert_bitwise_equal(tmp_path / 'run' / LAST, one_node_run)


def test_a_machine_that_is_lost_and_comes_back_changes_no_bit(nodes, one_node_run, tmp_path):
    work_dir = tmp_path / 'run'
    survivor, victim = launches = launch_both(nodes, work_dir, MAX_RESTARTS='1')
    wait_for((work_dir / 'epoch_2.pth').exists, launches)
    assert nodes[1].kill() >= 2  # launcher and worker
    assert victim.process.wait() == -signal.SIGKILL
    assert not (work_dir / LAST).exists()

    launch_one(nodes, 1, work_dir, MAX_RESTARTS='1').finish()
    epoch = re.search(r'resumed epoch: (\d+)', survivor.finish())  # by the launcher that was not started again
    assert 2 <= int(epoch.group(1)) < EPOCHS
    assert_bitwise_equal(work_dir / LAST, one_node_run)
