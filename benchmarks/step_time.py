"""Time a training step of the published recipe, of our distiller and of the student alone, in one process.

    python benchmarks/step_time.py configs/r2kd/r2kd_res32x4_res8x4_tiny-imagenet.py --image-size 64

The device is the one that a Runner takes: a GPU where there is one, unless CUDA_VISIBLE_DEVICES is empty.
benchmarks/README.md says what each number means.
"""

import r2kd_mm  # isort: skip  # noqa: F401  first, because it mends what comes below

import argparse
import copy
import gc
import math
import statistics
import sys
import tempfile
import time
import types
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from common import (
    MIB,
    Networks,
    RandomBatch,
    bare_update,
    describe,
    environment,
    interleaved,
    make_parser,
    peak_extra_bytes,
    positive,
    ratio,
    read_config,
    run,
    seconds,
    spread,
    synchronize,
    table,
    with_quartiles,
)
from mmengine.config import DictAction
from mmengine.device import get_device
from mmengine.optim import OptimWrapper
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from r2kd_mm.augmentations import BatchAugmentation, ViewContext
from r2kd_mm.augmentations.draws import BatchDraws
from r2kd_mm.classifiers import classifier_logits
from r2kd_mm.distillers.student import compile_backbone_, keep_channels_last_, logits_module
from r2kd_mm.registry import MODELS, build_component
from r2kd_mm.teachers.replay import Replay

PUBLISHED = 'published recipe'
MMRAZOR = 'mmrazor DIST'
PARTS = ('teachers', 'augmentation', 'student forward', 'losses', 'backward', 'optimizer', 'preprocessing', 'rest')
# What two orders of the same float32 arithmetic may change, in the losses and in the first update; a mistake is near 1.
TOLERANCE = 1e-4
UPDATE_TOLERANCE = 1e-2


@dataclass(frozen=True)
class Variant:
    """A way to set up our distiller.

    Attributes:
        fields: Fields of the model, with dots for those of their fields.
        amp: Whether the student runs under bf16 autocast.
        exact: Whether the losses must be those of the published recipe.
        replay: Whether the teachers' logits are read from disk, where the first step has put them.
    """

    fields: Mapping[str, Any] = field(default_factory=dict)
    amp: bool = False
    exact: bool = False
    replay: bool = False

    @property
    def floor(self) -> tuple[bool, bool, bool]:
        """The settings that the student alone shares with this variant: autocast, channels_last, compiled."""
        return self.amp, bool(self.fields.get('channels_last')), bool(self.fields.get('compile_student'))


VARIANTS = {
    'plain': Variant(dict(teacher_engine='plain'), exact=True),
    'exact': Variant(dict(teacher_engine='exact', channels_last=True), exact=True),
    'fast': Variant(dict(teacher_engine='fast', channels_last=True), amp=True),
    'replay': Variant(dict(channels_last=True), replay=True),
    'replay fast': Variant(dict(channels_last=True), amp=True, replay=True),
}


# --------------------------------------------------------------------------------------------------------------- cases
class Case(ABC):
    """A way to train the student; all start from the same weights.

    Attributes:
        student: The classifier that is trained.
        optim_wrapper: Has its optimizer.
        watched: By part of the step, objects and the names of those of their methods that are this part.
    """

    student: nn.Module
    optim_wrapper: OptimWrapper
    watched: dict[str, list[tuple[Any, str]]]

    @abstractmethod
    def step(self, data: dict) -> Mapping[str, Tensor]:
        """Train on a batch; return the losses by name."""


class SameDraws(BatchAugmentation):
    """An augmentation whose n-th view is drawn alike in every case.

    Args:
        augmentation: What makes the view.
    """

    def __init__(self, augmentation: BatchAugmentation) -> None:
        self.augmentation = augmentation
        self.keeps_labels = augmentation.keeps_labels
        self.mixes_images = augmentation.mixes_images
        self.depends_on_batch = augmentation.depends_on_batch
        self.count = 0

    def __call__(self, images: Tensor, context: ViewContext) -> Tensor:
        """Return the view."""
        return self.view(images, context)

    def view(self, images: Tensor, context: ViewContext) -> Tensor:
        """Do the work of ``__call__``, as a method that can be watched."""
        if isinstance(context.draws, BatchDraws):
            context = replace(context, draws=BatchDraws(torch.Generator().manual_seed(self.count)))
        self.count += 1
        return self.augmentation(images, context)


class Published(Case):
    """The recipe as it is published: eager float32, each network once a view, and a bare loop.

    Args:
        distiller: Whose teachers, losses, augmentation and data preprocessor to use.
        networks: Where the student and its optimizer come from.
    """

    def __init__(self, distiller: Any, networks: Networks) -> None:
        self.student = copy.deepcopy(networks.student).to(get_device()).train()
        self.optim_wrapper = networks.optim_wrapper(self.student)
        self.task_loss = task_loss(self.student)
        self.task_loss_weight = distiller.task_loss_weight
        self.teacher, *pruned = distiller.teachers.values()
        self.pruned_teacher = pruned[0] if pruned else None
        self.teacher_weight = getattr(distiller, 'teacher_weight', 1.0)
        self.losses = dict(distiller.distillation_losses.items())
        self.augmentation = distiller.augmentation
        self.preprocessor = distiller.data_preprocessor
        self.watched = {
            'preprocessing': [(self.preprocessor, 'forward')],
            'teachers': [(teacher, 'forward') for teacher in distiller.teachers.values()],
            'augmentation': [(self.augmentation, 'view')] if self.augmentation else [],
            'student forward': [(self.student, 'forward')],
            'losses': [(loss, 'forward') for loss in (self.task_loss, *self.losses.values())],
        }

    def step(self, data: dict) -> dict[str, Tensor]:
        """Train on a batch; return the losses by the names of :class:`~r2kd_mm.distillers.LogitDistiller`."""
        images = self.preprocessor(dict(inputs=data['inputs']))['inputs']
        labels = torch.cat([sample.gt_label for sample in data['data_samples']]).to(images.device)

        student_logits = self.student(images, mode='tensor')
        losses = {'student.loss': self.task_loss_weight * self.task_loss(student_logits, labels)}
        losses |= self.distil('clean', images, student_logits, labels)
        if self.augmentation is not None:
            draws = BatchDraws(torch.Generator().manual_seed(0))
            context = ViewContext.behind(self.preprocessor, draws, lambda batch: self.teacher(batch, mode='tensor'))
            with torch.no_grad():
                view = self.augmentation(images, context)
            view_labels = labels if self.augmentation.keeps_labels else None
            losses |= self.distil('augmented', view, self.student(view, mode='tensor'), view_labels)

        bare_update(sum(losses.values()), self.optim_wrapper)
        return losses

    def distil(self, name: str, images: Tensor, student_logits: Tensor, labels: Tensor | None) -> dict[str, Tensor]:
        """The distillation losses of a view; those that need labels, only where there are any."""
        with torch.no_grad():
            target = self.teacher(images, mode='tensor')
            if self.pruned_teacher is not None:
                pruned_logits = self.pruned_teacher(images, mode='tensor')
                target = self.teacher_weight * target + (1 - self.teacher_weight) * pruned_logits
        losses = {}
        for key, loss in self.losses.items():
            if not getattr(loss, 'needs_target', False):
                losses[f'{name}.{key}'] = loss(student_logits, target)
            elif labels is not None:
                losses[f'{name}.{key}'] = loss(student_logits, target, labels)
        return losses


class Ours(Case):
    """The distiller of the config through MMEngine's ``train_step``.

    Args:
        distiller: The distiller.
        networks: Where the optimizer comes from.
        amp: Whether the student runs under bf16 autocast.
    """

    def __init__(self, distiller: Any, networks: Networks, amp: bool) -> None:
        self.distiller = distiller
        self.student = distiller.architecture
        self.optim_wrapper = networks.optim_wrapper(distiller, amp)
        self.watched = {
            'preprocessing': [(distiller.data_preprocessor, 'forward')],
            'teachers': [(distiller, '_teach'), (distiller, 'ask')],  # an augmentation may ask, too
            'augmentation': [(distiller.augmentation, 'view')] if distiller.augmentation else [],
            'student forward': [(self.student, 'forward')],
            'losses': [
                (loss, 'forward') for loss in (task_loss(self.student), *distiller.distillation_losses.values())
            ],
        }

    def step(self, data: dict) -> Mapping[str, Tensor]:
        """Train on a batch; return what is logged."""
        return self.distiller.train_step(data, self.optim_wrapper)


class StudentAlone(Case):
    """The floor: the student on as many views as the distillation has, without a teacher.

    Args:
        networks: Where the student and its optimizer come from.
        preprocessor: Makes the images.
        num_views: The first with the student's own loss, others with one that costs nothing.
        amp: Whether it runs under bf16 autocast.
        channels_last: Whether images and weights have that memory format.
        compiled: Whether its backbone is compiled.
    """

    def __init__(
        self,
        networks: Networks,
        preprocessor: nn.Module,
        num_views: int,
        amp: bool = False,
        channels_last: bool = False,
        compiled: bool = False,
    ) -> None:
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.student = copy.deepcopy(networks.student).to(get_device()).train()
        if channels_last:
            keep_channels_last_(self.student)
        self.optim_wrapper = networks.optim_wrapper(self.student)
        self.task_loss = task_loss(self.student)
        self.preprocessor = preprocessor
        self.num_views = num_views
        self.amp = amp
        if compiled:
            compile_backbone_(self.student)
        self.watched = {
            'preprocessing': [(preprocessor, 'forward')],
            'student forward': [(self.student, 'forward')],
            'losses': [(self.task_loss, 'forward')],
        }

    def step(self, data: dict) -> dict[str, Tensor]:
        """Train on a batch."""
        images = self.preprocessor(dict(inputs=data['inputs']))['inputs'].contiguous(memory_format=self.memory_format)
        labels = torch.cat([sample.gt_label for sample in data['data_samples']]).to(images.device)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.amp):
            logits = [classifier_logits(self.student, images) for _ in range(self.num_views)]
        loss = self.task_loss(logits[0].float(), labels) + sum(view.float().square().mean() for view in logits[1:])
        bare_update(loss, self.optim_wrapper)
        return dict(loss=loss)


class MMRazor(Case):
    """mmrazor's ``SingleTeacherDistill`` with DIST: the teacher and the student once, on the clean images.

    Args:
        networks: Where the networks come from.
        preprocessor: Makes the images.
    """

    def __init__(self, networks: Networks, preprocessor: nn.Module) -> None:
        head = next(name for name, part in networks.student.named_children() if part is logits_module(networks.student))
        self.algorithm: Any = MODELS.build(
            dict(
                type='mmrazor.SingleTeacherDistill',
                architecture=copy.deepcopy(networks.student),
                teacher=copy.deepcopy(networks.teacher),
                data_preprocessor=preprocessor,
                distiller=dict(
                    type='mmrazor.ConfigurableDistiller',
                    student_recorders=dict(logits=dict(type='mmrazor.ModuleOutputs', source=head)),
                    teacher_recorders=dict(logits=dict(type='mmrazor.ModuleOutputs', source=head)),
                    distill_losses=dict(loss_dist=dict(type='mmrazor.DISTLoss', tau=4.0)),
                    loss_forward_mappings=dict(
                        loss_dist=dict(
                            logits_S=dict(from_student=True, recorder='logits'),
                            logits_T=dict(from_student=False, recorder='logits'),
                        )
                    ),
                ),
            )
        )
        self.algorithm.to(get_device()).train()
        self.student = self.algorithm.architecture
        self.optim_wrapper = networks.optim_wrapper(self.algorithm)
        self.watched = {
            'preprocessing': [(preprocessor, 'forward')],
            'teachers': [(self.algorithm.teacher, 'forward')],
            'student forward': [(self.student, 'forward')],
            'losses': [
                (task_loss(self.student), 'forward'),
                (self.algorithm.distiller.distill_losses['loss_dist'], 'forward'),
            ],
        }

    def step(self, data: dict) -> Mapping[str, Tensor]:
        """Train on a batch; return what is logged."""
        return self.algorithm.train_step(data, self.optim_wrapper)


def task_loss(student: Any) -> nn.Module:
    """The module that a classifier of mmpretrain computes its own loss by."""
    return getattr(student, 'head', student).loss_module


def build_cases(
    networks: Networks, variants: Mapping[str, Variant], num_images: int
) -> tuple[dict[str, Case], dict[str, str]]:
    """Every case by name, and for each variant the name of its floor; batches have ``num_images`` images."""
    augmentation = networks.cfg.model.get('augmentation')
    if augmentation is not None:
        augmentation = build_component(augmentation, 'augmentation', 'r2kd_mm.augmentations')

    def distiller(variant: Variant) -> Any:
        of_variant = augmentation
        if variant.replay and hasattr(augmentation, 'per_image'):
            of_variant = replace(augmentation, per_image=True)  # each image draws for itself
        parts = dict(augmentation=None if of_variant is None else SameDraws(of_variant))
        if variant.replay:
            parts['replay'] = Replay(tempfile.mkdtemp(prefix='step_time_'), dtype='float32')
        model = networks.distiller(variant.fields, **parts)
        if variant.replay:
            model.open_replay({}, seed=0, num_images=num_images, cycle=1)
        return model

    source = distiller(Variant())
    cases: dict[str, Case] = {PUBLISHED: Published(source, networks)}
    floors = {}
    for name, variant in variants.items():
        cases[name] = Ours(distiller(variant), networks, variant.amp)
        floors[name] = f'student alone, {floor_name(*variant.floor)}'
        if floors[name] not in cases:
            num_views = 1 if augmentation is None else 2
            cases[floors[name]] = StudentAlone(networks, source.data_preprocessor, num_views, *variant.floor)
    cases[MMRAZOR] = MMRazor(networks, source.data_preprocessor)
    return cases, floors


def floor_name(amp: bool, channels_last: bool, compiled: bool) -> str:
    """Such as ``bf16 channels_last``."""
    words = ['bf16' if amp else 'float32', 'channels_last' if channels_last else '', 'compiled' if compiled else '']
    return ' '.join(word for word in words if word)


# --------------------------------------------------------------------------------------------------------------- parts
class PartClock:
    """Tells the parts of a step apart; the innermost open one runs.

    Attributes:
        seconds: Time of each part so far, the device's work included.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._open = ['rest']
        self._since = time.perf_counter()

    @property
    def current(self) -> str:
        """The part that runs."""
        return self._open[-1]

    def _book(self) -> None:
        synchronize()
        now = time.perf_counter()
        self.seconds[self.current] += now - self._since
        self._since = now

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the operations inside as part ``name``."""
        self._book()
        self._open.append(name)
        try:
            yield
        finally:
            self._book()
            self._open.pop()

    def rename(self, name: str) -> None:
        """From now on the innermost part is part ``name``."""
        self._book()
        self._open[-1] = name

    def restart(self) -> None:
        """Start anew at 0."""
        self._book()
        self.seconds.clear()

    def stop(self) -> dict[str, float]:
        """Seconds of all :data:`PARTS` since the start."""
        self._book()
        return {name: self.seconds[name] for name in PARTS}


@contextmanager
def watched(case: Case, clock: PartClock) -> Iterator[None]:
    """Have ``clock`` follow the steps of ``case``."""

    def as_part(function: Callable, name: str) -> Callable:
        def timed(*args: Any, **kwargs: Any) -> Any:
            with clock.part(name):
                return function(*args, **kwargs)

        return timed

    def mark_logits(_module: nn.Module, _args: tuple, logits: Tensor) -> None:
        if logits.requires_grad:  # its gradient is there: the losses have been differentiated, the network comes next
            logits.register_hook(lambda _gradient: clock.rename('backward'))

    with ExitStack() as stack:
        methods = {part: list(pairs) for part, pairs in case.watched.items()}
        methods['optimizer'] = [(case.optim_wrapper.optimizer, name) for name in ('step', 'zero_grad')]
        for part, pairs in methods.items():
            for owner, method in pairs:
                stack.enter_context(patch.object(owner, method, as_part(getattr(owner, method), part)))
        stack.enter_context(patch.object(Tensor, 'backward', as_part(Tensor.backward, 'losses')))
        handle = logits_module(case.student).register_forward_hook(mark_logits)
        stack.callback(handle.remove)
        yield


class Meter(TorchDispatchMode):
    """Counts what each part of a step does, one operator at a time.

    Attributes:
        operators: By part, the FLOP, the bytes read and written, and the arithmetic of each operator.

    Args:
        clock: Knows the part.
    """

    def __init__(self, clock: PartClock) -> None:
        super().__init__()
        self.clock = clock
        self.operators: dict[str, list[tuple[int, int, torch.dtype]]] = defaultdict(list)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if func._overloadpacket not in flop_registry:
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        result = func(*args, **kwargs)
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        outputs = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        sources = {tensor.untyped_storage().data_ptr() for tensor in inputs}
        is_view = not func._schema.is_mutable and all(out.untyped_storage().data_ptr() in sources for out in outputs)
        flop_of = flop_registry.get(func._overloadpacket)
        flop = flop_of(*args, **kwargs, out_val=result) if flop_of else 0
        moved = 0 if is_view else sum(map(size_in_bytes, inputs + outputs))
        if flop or moved:
            self.operators[self.clock.current].append((flop, moved, inputs[0].dtype if inputs else torch.float32))
        return result


def size_in_bytes(tensor: Tensor) -> int:
    """Bytes of what a tensor shows, each place in memory once."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())


def measure_ceilings() -> dict[str, float]:
    """FLOP a second in float32 and bf16, of a matrix product or convolution; bytes a second of a copy; best of five."""
    side, images, length = (8192, 1024, 2**30) if torch.cuda.is_available() else (1024, 16, 2**27)
    channels, size, kernel = 256, 16, 3  # of a convolution that keeps the size of its images

    def best(action: Callable[[], object]) -> float:
        action()
        return min(seconds(action) for _ in range(5))

    ceilings = {}
    for dtype in (torch.float32, torch.bfloat16):
        options: dict[str, Any] = dict(device=get_device(), dtype=dtype)
        left, right = (torch.randn(side, side, **options) for _ in range(2))
        product = 2 * side**3 / best(partial(torch.matmul, left, right))
        inputs = torch.randn(images, channels, size, size, **options).to(memory_format=torch.channels_last)
        weight = torch.randn(channels, channels, kernel, kernel, **options).to(memory_format=torch.channels_last)
        flop = 2 * inputs.numel() * channels * kernel**2
        convolution = flop / best(partial(torch.conv2d, inputs, weight, padding=kernel // 2))
        ceilings[str(dtype).removeprefix('torch.')] = max(product, convolution)
    source = torch.zeros(length, dtype=torch.uint8, device=get_device())
    ceilings['bytes'] = 2 * length / best(partial(torch.empty_like(source).copy_, source))
    return ceilings


def roofline_seconds(operators: list[tuple[int, int, torch.dtype]], ceilings: Mapping[str, float]) -> float:
    """The least time that the operators need, one after the other, at the measured ceilings."""
    low_precision = (torch.bfloat16, torch.float16)
    return sum(
        max(
            flop / ceilings['bfloat16' if dtype in low_precision else 'float32'],
            moved / ceilings['bytes'],
        )
        for flop, moved, dtype in operators
    )


def held_bytes(owner: Any) -> int:
    """Bytes of all tensors that ``owner`` keeps between two steps: weights, prepared copies, momenta."""
    storages: dict[int, int] = {}
    seen: set[int] = set()
    pending = [owner]
    elsewhere = (type, types.ModuleType, types.FunctionType, types.CodeType)  # leads to what is global
    while pending:
        thing = pending.pop()
        if id(thing) in seen or isinstance(thing, elsewhere):
            continue
        seen.add(id(thing))
        if isinstance(thing, Tensor):
            storages[thing.untyped_storage().data_ptr()] = thing.untyped_storage().nbytes()
        pending += gc.get_referents(thing)
    return sum(storages.values())


# --------------------------------------------------------------------------------------------------------- measurement
def check_agreement(
    cases: Mapping[str, Case], variants: Mapping[str, Variant], batch: Callable[[], dict]
) -> dict[str, dict[str, float]]:
    """Train every case for its first step and compare ours with the published recipe.

    Returns:
        By variant, the largest relative difference of a loss, and that of the change of the weights.

    Raises:
        ValueError: An exact variant is off by more than :data:`TOLERANCE` or :data:`UPDATE_TOLERANCE`.
    """
    start = weights(cases[PUBLISHED])
    losses = {
        name: {key: float(value.detach()) for key, value in case.step(batch()).items()} for name, case in cases.items()
    }
    change = weights(cases[PUBLISHED]) - start
    differences = {}
    for name, variant in variants.items():
        expected = losses[PUBLISHED]
        given = {key: losses[name].get(key, math.nan) for key in expected}
        loss = max(abs(given[key] - expected[key]) / abs(expected[key]) for key in expected)
        update = float((weights(cases[name]) - start - change).norm() / change.norm())
        if variant.exact and not (loss <= TOLERANCE and update <= UPDATE_TOLERANCE):
            raise ValueError(
                f'{name} does not compute what the published recipe does: its losses differ by {loss:.2g} (relative, '
                f'{TOLERANCE:g} allowed) and its first update by {update:.2g} ({UPDATE_TOLERANCE:g} allowed); the '
                f'losses are {given} against {expected}'
            )
        differences[name] = dict(loss=loss, update=update)
    return differences


def weights(case: Case) -> Tensor:
    """All trained weights as one vector."""
    return torch.cat([parameter.detach().flatten() for parameter in case.student.parameters()]).clone()


def measure_parts(case: Case, batch: Callable[[], dict], rounds: int) -> dict[str, Any]:
    """Seconds of each part of a step, in each of ``rounds`` steps, and what the operators of one step do."""
    clock = PartClock()
    steps = []
    with watched(case, clock):
        for _ in range(rounds):
            data = batch()
            clock.restart()
            case.step(data)
            steps.append(clock.stop())
        with Meter(clock) as meter:
            case.step(batch())
    median = {part: statistics.median(step[part] for step in steps) for part in PARTS}
    shares = {part: median[part] / sum(median.values()) for part in PARTS}
    return dict(rounds=steps, seconds=median, shares=shares, operators=meter.operators)


def summarize_operators(parts: Mapping[str, Any], ceilings: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """FLOP, bytes and fraction of the roofline of each part that has operators."""
    summary = {}
    for part, operators in parts['operators'].items():
        bound = roofline_seconds(operators, ceilings)
        summary[part] = dict(
            flop=sum(flop for flop, _, _ in operators),
            bytes=sum(moved for _, moved, _ in operators),
            roofline_seconds=bound,
            fraction=bound / parts['seconds'][part] if parts['seconds'][part] else math.nan,
        )
    return summary


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Build the cases, check them, and measure all there is to know."""
    cfg = read_config(args)
    networks = Networks(cfg)
    batch_size = args.batch_size or cfg.train_dataloader.batch_size
    batch = RandomBatch(batch_size, args.image_size, networks)
    preprocessor = MODELS.build(networks.cfg.model.data_preprocessor)
    networks.settle_teacher(preprocessor(dict(inputs=batch.images[:16]))['inputs'])
    cases, floors = build_cases(networks, args.ours, batch_size)
    differences = check_agreement(cases, args.ours, batch)

    def timed(case: Case) -> Callable[[], float]:
        def step_seconds() -> float:
            data = [batch() for _ in range(args.steps)]
            return seconds(lambda: [case.step(item) for item in data]) / args.steps

        return step_seconds

    report(f'{len(cases)} cases agree; memory and warm-up')
    memory = {name: memory_of(case, batch) for name, case in cases.items()}
    report(f'{args.rounds} rounds')
    now = environment()
    times = interleaved({name: timed(case) for name, case in cases.items()}, args.rounds)
    report('parts')
    ceilings = measure_ceilings()
    parts = {name: measure_parts(case, batch, min(args.rounds, 5)) for name, case in cases.items()}
    ceilings = {name: max(ceiling, ceilings[name]) for name, ceiling in measure_ceilings().items()}

    return dict(
        environment=now,
        command=dict(
            config=args.config,
            cfg_options=args.cfg_options,
            batch_size=batch_size,
            image_size=args.image_size,
            rounds=args.rounds,
            steps=args.steps,
            ours={name: asdict(variant) for name, variant in args.ours.items()},
        ),
        floors=floors,
        differences=differences,
        ceilings=ceilings,
        cases={
            name: dict(
                seconds=times[name],
                **spread(times[name]),
                to_published=ratio(times[name], times[PUBLISHED]),
                to_student=ratio(times[name], times[floors[name]]) if name in floors else None,
                memory=memory[name],
                parts={key: parts[name][key] for key in ('rounds', 'seconds', 'shares')},
                operators=summarize_operators(parts[name], ceilings),
            )
            for name in cases
        },
    )


def memory_of(case: Case, batch: Callable[[], dict]) -> dict[str, int]:
    """Bytes that a case keeps between steps, that a step needs beside them at its peak, and the sum."""
    data = batch()
    extra = peak_extra_bytes(lambda: case.step(data))
    held = held_bytes(case)
    return dict(held=held, step=extra, peak=held + extra)


def report(message: str) -> None:
    """Say on stderr how far the benchmark is."""
    print(message, file=sys.stderr, flush=True)


# ------------------------------------------------------------------------------------------------------------ markdown
def to_markdown(result: Mapping[str, Any]) -> str:
    """The report as Markdown tables."""
    cases, floors, command = result['cases'], result['floors'], result['command']
    published = cases[PUBLISHED]
    steps = [
        [
            name,
            with_quartiles(case, scale=1e3),
            with_quartiles(case['to_published'], 'ratio', digits=3),
            with_quartiles(case['to_student'], 'ratio', digits=3) if name in floors else '',
            f'{result["differences"][name]["loss"]:.1e}' if name in floors else '',
            f'{case["memory"]["peak"] / MIB:.0f} ({case["memory"]["held"] / MIB:.0f})',
            f'{case["memory"]["peak"] / published["memory"]["peak"]:.2f}',
        ]
        for name, case in cases.items()
    ]
    shares = [[part, *(f'{100 * case["parts"]["shares"][part]:.1f}' for case in cases.values())] for part in PARTS]
    operators = [
        [
            name,
            part,
            f'{numbers["flop"] / command["batch_size"] / 1e9:.2f}',
            f'{numbers["bytes"] / command["batch_size"] / MIB:.1f}',
            f'{100 * numbers["fraction"]:.0f}',
        ]
        for name, case in cases.items()
        for part, numbers in case['operators'].items()
        if numbers['flop']
    ]
    ceilings = result['ceilings']
    return '\n\n'.join(
        [
            f'`{command["config"]}`, {command["batch_size"]} images of {command["image_size"]} x '
            f'{command["image_size"]} pixels, {command["rounds"]} rounds',
            table(
                ['case', 'ms', 'of published', 'of student', 'loss off by', 'peak MiB (held)', 'memory of published'],
                steps,
            ),
            'Share of the step, %:',
            table(['part', *cases], shares),
            f'An image: FLOP and bytes moved; achieved part of the roofline of {ceilings["float32"] / 1e9:.0f} GFLOP/s '
            f'float32, {ceilings["bfloat16"] / 1e9:.0f} GFLOP/s bf16, {ceilings["bytes"] / 1e9:.1f} GB/s:',
            table(['case', 'part', 'GFLOP', 'MiB', 'roofline, %'], operators),
            describe(result['environment']),
        ]
    )


# -------------------------------------------------------------------------------------------------------- command line
def read_variant(text: str) -> tuple[str, Variant]:
    """``NAME`` of :data:`VARIANTS`, or ``NAME:key=value,...`` for one of its own."""
    name, _, settings = text.partition(':')
    if not settings:
        if name not in VARIANTS:
            raise argparse.ArgumentTypeError(
                f'there is no variant {name!r}; there are {", ".join(VARIANTS)}, or give its fields: '
                f'{name}:teacher_engine=fast,amp=True'
            )
        return name, VARIANTS[name]
    fields = {}
    for setting in settings.split(','):
        key, equals, value = setting.partition('=')
        if not equals:
            raise argparse.ArgumentTypeError(f'{text!r}: a field is key=value, got {setting!r}')
        fields[key] = DictAction._parse_int_float_bool(value)
    return name, Variant(fields, amp=fields.pop('amp', False), exact=fields.pop('exact', False))


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__, rounds=10)
    parser.add_argument('--image-size', type=positive, required=True, help='height and width of the images, in pixels')
    parser.add_argument('--batch-size', type=positive, help='images of a step (default: that of the config)')
    parser.add_argument('--steps', type=positive, default=1, help='steps from one synchronisation to the next')
    parser.add_argument(
        '--ours',
        nargs='+',
        type=read_variant,
        default=list(VARIANTS.items()),
        metavar='NAME[:KEY=VALUE,...]',
        help=f'ways to set up our distiller: {", ".join(VARIANTS)} (default: all), or fields of the model',
    )
    args = parser.parse_args()
    args.ours = dict(args.ours)
    return args


if __name__ == '__main__':
    run(parse_args(), 'step_time', measure, to_markdown)
