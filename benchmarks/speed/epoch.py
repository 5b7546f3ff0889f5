"""Time MMEngine's Runner against a plain PyTorch loop, and training in several processes against one process.

    python benchmarks/speed/epoch.py configs/r2kd/r2kd_res14_res6_digits.py --cfg-options train_dataloader.batch_size=6
    python benchmarks/speed/epoch.py configs/r2kd/r2kd_res14_res6_digits.py --processes 2

benchmarks/README.md says what each number means.
"""

import r2kd_mm  # isort: skip  # noqa: F401  first, because it cures what comes below

import argparse
import copy
import multiprocessing
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from common import (
    Networks,
    bare_update,
    describe,
    interleaved,
    make_parser,
    positive,
    quartiles,
    ratio,
    read_config,
    run,
    seconds,
    synchronize,
    table,
    with_quartiles,
)
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.runner import Runner

from r2kd_mm.engine import PortableDistributedDataParallel
from r2kd_mm.environment import environment

ITERATION_METHODS = ('before_train_iter', 'after_train_iter')
OVERHEAD = 'overhead of the Runner'
REST = 'loading and loop'


# -------------------------------------------------------------------------------------------------------------- runner
def bare_epoch(model: Any, optim_wrapper: OptimWrapper, batches: Iterable[dict], begin: Callable[[], None]) -> None:
    """Train for one epoch in a plain PyTorch loop; call ``begin`` before each iteration."""
    for batch in batches:
        begin()
        losses = model(**model.data_preprocessor(batch, True), mode='loss')
        bare_update(sum(value for name, value in losses.items() if 'loss' in name), optim_wrapper)


class EpochClock:
    """Times the iterations of a Runner's epochs, those of a bare epoch on the same batches after each, then the hooks.

    Attributes:
        runner_seconds: Of every iteration of the Runner, by measured epoch.
        bare_seconds: Of every iteration of the bare epochs.
        parts: Seconds of each hook, and of ``train_step``, in the iterations of the last epochs.
        parts_seconds: Of all iterations of the last epochs together.

    Args:
        runner: Before its training.
        rounds: Measured epochs, and as many to time the hooks in; one before them warms up.
    """

    def __init__(self, runner: Runner, rounds: int) -> None:
        self.rounds = rounds
        self.runner_seconds: list[list[float]] = []
        self.bare_seconds: list[list[float]] = []
        self.parts: dict[str, float] = defaultdict(float)
        self.parts_seconds = 0.0
        self._model = copy.deepcopy(runner.model)
        self._optim_wrapper = build_optim_wrapper(self._model, copy.deepcopy(runner.cfg.optim_wrapper))
        self._begun: list[float] = []
        runner.register_hook(_EpochHook(self), priority='VERY_HIGH')

    def begin(self) -> None:
        """An iteration begins; its data are there."""
        self._begun.append(time.perf_counter())

    def end(self) -> list[float]:
        """The last iteration of an epoch has ended: seconds of each, with what it takes to load the next batch."""
        synchronize()
        self.begin()
        times = [end - start for start, end in zip(self._begun, self._begun[1:])]
        self._begun.clear()
        return times

    def end_epoch(self, runner: Runner) -> None:
        """The iterations of an epoch of the Runner have ended."""
        times = self.end()
        if runner.epoch > self.rounds:
            self.parts_seconds += sum(times)
            return
        self._model.train()
        bare_epoch(self._model, self._optim_wrapper, runner.train_dataloader, self.begin)
        bare_times = self.end()
        if runner.epoch > 0:
            self.runner_seconds.append(times)
            self.bare_seconds.append(bare_times)

    def watch(self, runner: Runner) -> None:
        """Time the hooks from now on."""
        for hook in runner.hooks:
            if not isinstance(hook, _EpochHook):
                for method in ITERATION_METHODS:
                    setattr(hook, method, self._timed(type(hook).__name__, getattr(hook, method)))
        runner.model.train_step = self._timed('train_step', runner.model.train_step)

    def _timed(self, name: str, function: Callable) -> Callable:
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            result = function(*args, **kwargs)
            self.parts[name] += time.perf_counter() - start
            return result

        return timed


class _EpochHook(Hook):
    """Tells an :class:`EpochClock` how far the Runner is."""

    def __init__(self, clock: EpochClock) -> None:
        self.clock = clock

    def before_train_epoch(self, runner: Runner) -> None:
        if runner.epoch == 1 + self.clock.rounds:
            self.clock.watch(runner)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        self.clock.begin()

    def after_train_epoch(self, runner: Runner) -> None:
        self.clock.end_epoch(runner)


def measure_runner(cfg: Config, rounds: int) -> dict[str, Any]:
    """Train by the Runner as ``tools/train.py --no-validate`` does, and by a bare loop in turn."""
    cfg = copy.deepcopy(cfg)
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.train_cfg.max_epochs = 1 + 2 * rounds
    cfg.log_level = 'WARNING'
    with tempfile.TemporaryDirectory() as cfg.work_dir:
        runner = Runner.from_cfg(cfg)
        clock = EpochClock(runner, rounds)
        runner.train()
    iterations = len(clock.runner_seconds[0])
    medians, means = (
        [(measure(runner), measure(bare)) for runner, bare in zip(clock.runner_seconds, clock.bare_seconds)]
        for measure in (statistics.median, statistics.mean)
    )
    parts = {name: total / (rounds * iterations) for name, total in clock.parts.items()}
    whole = clock.parts_seconds / (rounds * iterations)
    return dict(
        iterations=iterations,
        runner_seconds=clock.runner_seconds,
        bare_seconds=clock.bare_seconds,
        loops={
            'Runner': quartiles([runner for runner, _ in medians]),
            'bare loop': quartiles([bare for _, bare in medians]),
            OVERHEAD: quartiles([runner - bare for runner, bare in medians]),
            f'{OVERHEAD}, mean': quartiles([runner - bare for runner, bare in means]),
        },
        watched=dict(seconds=whole, parts={**parts, REST: whole - sum(parts.values())}),
    )


# ----------------------------------------------------------------------------------------------------------- processes
class Worker:
    """A process of one rank with one thread, which trains as many steps as it is told.

    Args:
        rank: Of this process in its group.
        world_size: Processes of the group; 1 for none.
        args: The command line.
        rendezvous: File by which a group finds itself.
    """

    def __init__(self, rank: int, world_size: int, args: argparse.Namespace, rendezvous: Path) -> None:
        # what a fork inherits is not fit for CUDA; a new process takes seconds to import the stack
        context: Any = multiprocessing.get_context('spawn' if torch.cuda.is_available() else 'fork')
        self.connection, there = context.Pipe()
        self.process = context.Process(
            target=_work, args=(rank, world_size, args, rendezvous, there), daemon=True, name=f'rank {rank}'
        )
        self.process.start()
        there.close()

    def send(self, gather: bool, steps: int) -> None:
        """Train ``steps`` steps, with or without gathering the logits."""
        self.connection.send((gather, steps))

    def receive(self) -> float:
        """Seconds that the last steps took.

        Raises:
            RuntimeError: The process has died; its traceback is on stderr.
        """
        try:
            return self.connection.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            raise RuntimeError(f'{self.process.name} ended with status {self.process.exitcode}') from None

    def close(self) -> None:
        """End the process."""
        self.process.terminate()
        self.process.join()


def _work(rank: int, world_size: int, args: argparse.Namespace, rendezvous: Path, connection: Connection) -> None:
    """Run the main loop of a :class:`Worker`."""
    os.environ['LOCAL_RANK'] = str(rank)
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(rank)
    if world_size > 1:
        torch.distributed.init_process_group(
            'nccl' if on_gpu else 'gloo', init_method=f'file://{rendezvous}', rank=rank, world_size=world_size
        )
    cfg = read_config(argparse.Namespace(**{**vars(args), 'threads': 1}))
    networks = Networks(cfg)
    batch = next(iter(Runner.build_dataloader(cfg.train_dataloader, seed=rank)))
    trained = {}
    for gather in (True, False):
        model: Any = networks.distiller(dict(gather=gather))
        optim_wrapper = networks.optim_wrapper(model)
        if world_size > 1:
            model = PortableDistributedDataParallel(model, device_ids=[rank] if on_gpu else None)
        trained[gather] = model, optim_wrapper
    while True:
        try:
            gather, steps = connection.recv()
        except EOFError:
            return
        model, optim_wrapper = trained[gather]
        batches = [copy.deepcopy(batch) for _ in range(steps)]
        if world_size > 1:
            torch.distributed.barrier()
        connection.send(seconds(lambda: [model.train_step(item, optim_wrapper) for item in batches]))  # noqa: B023


def measure_processes(args: argparse.Namespace) -> dict[str, Any]:
    """Images a second of one process and of a group, each process with one thread and batches of its own."""
    with tempfile.TemporaryDirectory() as folder:
        alone = [Worker(0, 1, args, Path(folder))]
        group = [Worker(rank, args.processes, args, Path(folder, 'rendezvous')) for rank in range(args.processes)]
        try:

            def step_seconds(workers: list[Worker], gather: bool) -> float:
                for worker in workers:
                    worker.send(gather, args.steps)
                return max([worker.receive() for worker in workers]) / args.steps

            cases = {
                'one process': lambda: step_seconds(alone, True),
                f'{args.processes} processes, gather=True': lambda: step_seconds(group, True),
                f'{args.processes} processes, gather=False': lambda: step_seconds(group, False),
            }
            for case in cases.values():
                case()
            times = interleaved(cases, args.rounds)
        finally:
            for worker in alone + group:
                worker.close()
    one, *_ = times
    return {
        name: dict(
            seconds=values,
            **quartiles(values),
            to_one=ratio(values, times[one]),
            throughput=(1 if name == one else args.processes)
            * statistics.median(times[one])
            / statistics.median(values),
        )
        for name, values in times.items()
    }


# -------------------------------------------------------------------------------------------------------------- report
def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Measure what the arguments ask for; processes first, as long as this one has started no threads."""
    now = environment()
    result = dict(
        environment=now,
        command=dict(config=args.config, cfg_options=args.cfg_options, rounds=args.rounds, steps=args.steps),
    )
    if args.processes > 1:
        result['processes'] = measure_processes(args)
    if not args.no_epochs:
        result['epoch'] = measure_runner(read_config(args), args.rounds)
    return result


def to_markdown(result: Mapping[str, Any]) -> str:
    """Format the result as Markdown tables."""
    blocks = [f'`{result["command"]["config"]}`, {result["command"]["rounds"]} rounds']
    if 'epoch' in result:
        epoch = result['epoch']
        loops = [[name, with_quartiles(times, scale=1e3, digits=2)] for name, times in epoch['loops'].items()]
        parts = sorted(epoch['watched']['parts'].items(), key=lambda item: -item[1])
        blocks += [
            f'An epoch has {epoch["iterations"]} iterations.',
            table(['loop', 'ms an iteration'], loops),
            table(
                ['part of an iteration of the Runner', 'ms'], [[name, f'{1e3 * value:.3f}'] for name, value in parts]
            ),
        ]
    if 'processes' in result:
        rows = [
            [name, with_quartiles(case, scale=1e3), f'{case["throughput"]:.2f}']
            for name, case in result['processes'].items()
        ]
        blocks.append(table(['processes of one thread', 'ms a step', 'images/s of one process'], rows))
    return '\n\n'.join([*blocks, describe(result['environment'])])


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__, rounds=10)
    parser.add_argument('--processes', type=positive, default=1, help='compare so many processes with one')
    parser.add_argument('--steps', type=positive, default=5, help='steps of a process in a round (default %(default)s)')
    parser.add_argument('--no-epochs', action='store_true', help='measure the processes alone')
    return parser.parse_args()


if __name__ == '__main__':
    run(parse_args(), 'epoch', measure, to_markdown)
