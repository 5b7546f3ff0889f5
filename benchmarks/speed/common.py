"""Provide what the speed benchmarks share: command line, untrained models, interleaved timing, memory and reports."""

from __future__ import annotations

import argparse
import copy
import ctypes
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import init_default_scope
from mmpretrain.structures import DataSample
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.profiler import ProfilerActivity, profile

from r2kd_mm.engine import SampleIndex, clear_errors
from r2kd_mm.engine.arguments import add_config_options
from r2kd_mm.engine.run_config import read_changed_config
from r2kd_mm.registry import MODELS
from r2kd_mm.teachers.build import build_teacher

RESULTS = Path(__file__).parents[1] / 'results'
MIB = 2**20


# -------------------------------------------------------------------------------------------------------- command line
def make_parser(description: str, rounds: int) -> argparse.ArgumentParser:
    """Make a command-line parser with the arguments of every benchmark that takes a config."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file of a run')
    add_config_options(parser, 'change its fields')
    parser.add_argument('--rounds', type=positive, default=rounds, help='measured rounds (default %(default)s)')
    parser.add_argument('--threads', type=positive, default=1, help='CPU threads of a process (default %(default)s)')
    parser.add_argument(
        '--out',
        type=Path,
        metavar='JSON',
        help='file to write, and one with .md in place of .json (default: results/<benchmark>_<config>_<device>.json)',
    )
    return parser


def positive(text: str) -> int:
    """Read a whole number above 0, for argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f'must be at least 1, got {number}')
    return number


def read_config(args: argparse.Namespace) -> Config:
    """Read the config with its options and an untrained teacher: speed does not depend on the weights."""
    MMLogger.get_current_instance().setLevel('WARNING')
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    cfg = read_changed_config(args.config, args.cfg_options)
    init_default_scope(cfg.get('default_scope', 'r2kd_mm'))
    if 'teacher' in cfg.get('model', {}):
        cfg.model.update(teacher_ckpt=None, allow_untrained_teacher=True)
    return cfg


def run(
    args: argparse.Namespace,
    benchmark: str,
    measure: Callable[[argparse.Namespace], Mapping[str, Any]],
    to_markdown: Callable[[Mapping[str, Any]], str],
) -> None:
    """Measure and report, with errors that a user can read."""
    with clear_errors():
        result = measure(args)
        write_result(args, benchmark, result, to_markdown(result))


def write_result(args: argparse.Namespace, benchmark: str, result: Mapping[str, Any], markdown: str) -> None:
    """Write ``result`` as JSON and ``markdown`` next to it, and print the latter."""
    name = f'{benchmark}_{Path(args.config).stem}_{get_device()}.json'
    path = args.out or RESULTS / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + '\n')
    path.with_suffix('.md').write_text(markdown + '\n')
    print(f'{markdown}\n\nwritten to {path} and {path.with_suffix(".md").name}')


# -------------------------------------------------------------------------------------------------------------- models
class Networks:
    """The untrained networks of a distillation, from which every case of a benchmark starts.

    Args:
        cfg: Config of the run.

    Raises:
        ValueError: The config is not a distillation.
    """

    def __init__(self, cfg: Config) -> None:
        if 'teacher' not in cfg.get('model', {}):
            raise ValueError(
                f'{cfg.filename} is not a distillation: its model has no teacher; give a config that has one'
            )
        self.cfg = copy.deepcopy(cfg)
        if cfg.get('data_preprocessor') is not None:  # as the Runner does
            self.cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
        self.student = MODELS.build(self.cfg.model.architecture)
        self.student.init_weights()
        self.teacher = build_teacher(self.cfg.model.teacher, checkpoint=None, allow_untrained=True)

    def settle_teacher(self, images: torch.Tensor) -> None:
        """Set the batch statistics of the teacher to those of ``images``; otherwise its logits grow with its depth."""
        norms = [module for module in self.teacher.modules() if isinstance(module, _BatchNorm)]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.momentum = 1.0
        with torch.no_grad():
            self.teacher.train()(images, mode='tensor')
        for norm, momentum in zip(norms, momenta):
            norm.momentum = momentum
        self.teacher.eval()

    def distiller(self, fields: Mapping[str, Any], **parts: Any) -> nn.Module:
        """Build the distiller of the config in train mode, around a copy of the student.

        Args:
            fields: Fields of the model to change, with dots for those of their fields.
            parts: Ready parts that replace those of the config.
        """
        cfg = copy.deepcopy(self.cfg)
        cfg.merge_from_dict({f'model.{name}': value for name, value in fields.items()})
        cfg.model.update(architecture=copy.deepcopy(self.student), teacher=self.teacher, **parts)
        return MODELS.build(cfg.model).to(get_device()).train()

    def optim_wrapper(self, model: nn.Module, amp: bool = False) -> OptimWrapper:
        """Build the optimizer of the config for ``model``; with ``amp``, under bf16 autocast."""
        cfg = copy.deepcopy(self.cfg.optim_wrapper)
        if amp:
            cfg['type'] = 'r2kd_mm.AutocastOptimWrapper'
        return build_optim_wrapper(model, cfg)


def bare_update(loss: torch.Tensor, optim_wrapper: OptimWrapper) -> None:
    """Train on ``loss`` as a loop without MMEngine would: with the optimizer and the clipping of ``optim_wrapper``."""
    optimizer = optim_wrapper.optimizer
    loss.backward()
    if optim_wrapper.clip_grad_kwargs:
        parameters = [parameter for group in optimizer.param_groups for parameter in group['params']]
        optim_wrapper.clip_func(parameters, **optim_wrapper.clip_grad_kwargs)
    optimizer.step()
    optimizer.zero_grad()


class RandomBatch:
    """A batch of random 8-bit images and labels, as a data loader gives it.

    Args:
        size: Number of images, N.
        image_size: Height and width, in pixels.
        networks: Networks with the number of classes and channels.
    """

    def __init__(self, size: int, image_size: int, networks: Networks) -> None:
        generator = torch.Generator().manual_seed(0)
        channels = len(networks.cfg.model.get('data_preprocessor', {}).get('mean') or (0, 0, 0))
        shape = (size, channels, image_size, image_size)
        self.images = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
        with torch.no_grad():
            num_classes = networks.student.eval()(self.images[:1].float(), mode='tensor').shape[1]
        self.labels = torch.randint(num_classes, (size,), generator=generator)

    def __call__(self) -> dict[str, Any]:
        """Return the batch as new objects, since a step writes into the samples."""
        samples = [
            DataSample(metainfo=dict(sample_idx=SampleIndex(place, 0))).set_gt_label(label)
            for place, label in enumerate(self.labels)
        ]
        return dict(inputs=self.images.clone(), data_samples=samples)


# -------------------------------------------------------------------------------------------------------------- timing
def synchronize() -> None:
    """Wait until the device has finished its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(action: Callable[[], object]) -> float:
    """Measure the wall-clock time of ``action``, including the work of the device."""
    synchronize()
    start = time.perf_counter()
    action()
    synchronize()
    return time.perf_counter() - start


def interleaved(cases: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Measure all cases in each round, in an order that rotates, so that a drift of the machine affects all of them.

    Args:
        cases: Name to a function that returns seconds; it has been called before, to warm up.
        rounds: Number of calls of each case.
    """
    times: dict[str, list[float]] = {name: [] for name in cases}
    names = list(cases)
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            times[name].append(cases[name]())
    return times


def quartiles(values: Sequence[float]) -> dict[str, float]:
    """Return the median and the quartiles."""
    q1, median, q3 = statistics.quantiles(values, n=4, method='inclusive') if len(values) > 1 else [values[0]] * 3
    return dict(median=median, q1=q1, q3=q3)


def ratio(times: Sequence[float], base: Sequence[float]) -> dict[str, float]:
    """Return the ratio of the medians, and the quartiles of the ratios of each round."""
    per_round = quartiles([time / other for time, other in zip(times, base)])
    return dict(ratio=statistics.median(times) / statistics.median(base), q1=per_round['q1'], q3=per_round['q3'])


# -------------------------------------------------------------------------------------------------------------- memory
def peak_extra_bytes(action: Callable[[], object]) -> int:
    """Measure the highest memory during ``action``, minus the memory before it.

    On a GPU it is the memory that PyTorch has allocated, on the CPU the resident memory.

    Raises:
        OSError: Linux does not let this process reset the high-water mark of its resident memory.
    """
    if torch.cuda.is_available():
        synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        action()
        synchronize()
        return torch.cuda.max_memory_allocated() - before
    ctypes.CDLL(None).malloc_trim(0)  # what is free but not returned would hide the need for it
    Path('/proc/self/clear_refs').write_text('5')
    before = resident_bytes('VmRSS')
    action()
    return max(0, resident_bytes('VmHWM') - before)


def most_allocated(action: Callable[[], object]) -> int:
    """Measure, by the profiler, the most bytes that PyTorch's CPU allocator holds at one time during ``action``."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        action()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == '[memory]']
    total = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        total += event.nbytes()
        peak = max(peak, total)
    return peak


def resident_bytes(field: str) -> int:
    """Read ``VmRSS``, the resident memory of this process, or ``VmHWM``, its high-water mark."""
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024


# ------------------------------------------------------------------------------------------------------------- reports
def describe(found: Mapping[str, Any]) -> str:
    """Format what :func:`r2kd_mm.environment.environment` found as one line."""
    flat = {**found, **found['versions']}
    return ', '.join(f'{key} {value}' for key, value in flat.items() if value is not None and key != 'versions')


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a table in Markdown."""
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in (head, ['---'] * len(head), *rows))


def with_quartiles(numbers: Mapping[str, float], value: str = 'median', scale: float = 1.0, digits: int = 1) -> str:
    """Format a number with its quartiles, such as ``12.3 (12.1 to 12.6)``."""
    middle, q1, q3 = (f'{scale * numbers[key]:.{digits}f}' for key in (value, 'q1', 'q3'))
    return f'{middle} ({q1} to {q3})'
