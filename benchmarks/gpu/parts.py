"""Run one group of the checks of ``make gpu``, and print a Markdown table; exit with an error if a check fails.

python benchmarks/gpu/parts.py losses cuda
"""

import r2kd_mm  # isort: skip  # noqa: F401  first, because it cures what comes below

import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import toys
from devices import pretend, runs
from mmengine.hooks import Hook
from torch import Tensor

import r2kd_mm.losses as all_losses
from r2kd_mm.augmentations import ViewContext
from r2kd_mm.augmentations.draws import BatchDraws
from r2kd_mm.environment import environment
from r2kd_mm.registry import MODELS
from r2kd_mm.teachers.engine import TeacherEngine

ROOT = Path(__file__).resolve().parents[2]
# Largest relative difference from the CPU that is no mistake, in float32.
LOSS_TOLERANCE = 1e-4
GRADIENT_TOLERANCE = 1e-3
ENGINE_TOLERANCES = dict(plain=1e-2, exact=1e-2, fast=5e-2)  # TF32 keeps 10 bits
FLAGSHIP = 'configs/r2kd/r2kd_res50_mbv1_imagenet.py'
SPEED_BATCH, SPEED_IMAGE = 64, 224


class Found(list):
    """The rows of a result table, and the names of the rows whose check failed."""

    def __init__(self, *head: str) -> None:
        super().__init__()
        self.head = head
        self.wrong: list[str] = []

    def add(self, *cells: object, is_right: bool = True) -> None:
        self.append([str(cell) for cell in cells] + ['yes' if is_right else '**no**'])
        if not is_right:
            self.wrong.append(str(cells[0]))

    def __str__(self) -> str:
        head = [*self.head, 'as it should be']
        return '\n'.join('| ' + ' | '.join(row) + ' |' for row in (head, ['---'] * len(head), *self))


def relative(value: Tensor, expected: Tensor) -> float:
    """Return the distance of two tensors, relative to the second."""
    value, expected = value.detach().cpu().double(), expected.detach().cpu().double()
    return float((value - expected).norm() / expected.norm().clamp(min=1e-12))


@contextlib.contextmanager
def without_tf32() -> Iterator[None]:
    """Compute convolutions and products in float32."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def machine(device: str) -> Found:
    """Name the GPU and the versions."""
    found = Found('what', 'which')
    facts = environment()
    for name, value in {**facts['versions'], 'gpu': facts.get('gpu'), 'device': device}.items():
        found.add(name, value)
    if device == 'cuda':
        for place in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(place)
            found.add(f'GPU {place}', f'{properties.name}, {properties.total_memory / 2**30:.0f} GiB')
        found.add('CUDA, cuDNN', f'{torch.version.cuda}, {torch.backends.cudnn.version()}')
    return found


def losses(device: str) -> Found:
    """Compare every loss and its gradient with the CPU, in float32."""
    found = Found('loss', 'value off by', 'gradient off by')
    cases = {
        name: value
        for name, value in vars(all_losses).items()
        if isinstance(value, type) and issubclass(value, all_losses.LogitLoss) and value is not all_losses.LogitLoss
    }
    inner = dict(LogitStandardization=[all_losses.KLDivergenceLoss()])
    generator = torch.Generator().manual_seed(0)
    student, teacher = 3 * torch.randn(2, 64, 100, generator=generator)
    target = torch.randint(100, (64,), generator=generator)
    for name in sorted(cases):
        loss = cases[name](*inner.get(name, ()))
        results = []
        for place in ('cpu', device):
            logits = student.clone().to(place).requires_grad_()
            value = loss(logits, teacher.to(place), *[target.to(place)] * loss.needs_target)
            value.backward()
            results.append((value, logits.grad))
        (expected, expected_gradient), (value, gradient) = results
        off = relative(value, expected), relative(gradient, expected_gradient)
        is_right = off[0] <= LOSS_TOLERANCE and off[1] <= GRADIENT_TOLERANCE
        found.add(name, *(f'{number:.1e}' for number in off), is_right=is_right)
    return found


def augmentations(device: str) -> Found:
    """Compare every augmented view of the same draws with that of the CPU."""
    found = Found('augmentation', 'view off by')
    images = toys.batch(16)[0]
    for fields in (
        dict(type='CutMix'),
        dict(type='CutMix', per_image=True),
        dict(type='Mixup'),
        dict(type='Mixup', per_image=True),
        dict(type='Cutout', length=3),
    ):
        augmentation = MODELS.build(dict(fields, _scope_='r2kd_mm'))
        views = []
        for place in ('cpu', device):
            context = ViewContext(BatchDraws(torch.Generator().manual_seed(0)), lambda images: images.flatten(1))
            views.append(augmentation(images.to(place), context))
        off = relative(views[1], views[0])
        found.add(fields, f'{off:.1e}', is_right=off <= 1e-6)
    return found


def engines(device: str) -> Found:
    """Compare the logits of every engine with those of the network on the CPU."""
    found = Found('engine', 'arithmetic', 'logits off by')
    network = MODELS.build(dict(toys.classifier(num_classes=20, width=16), _scope_='r2kd_mm')).eval()
    images = torch.randn(32, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = TeacherEngine.from_config('plain').logits(network, images)
    network.to(device)
    for preset, tolerance in ENGINE_TOLERANCES.items():
        for name, context in (('as PyTorch sets it', contextlib.nullcontext), ('without TF32', without_tf32)):
            with context():
                logits = TeacherEngine.from_config(preset).logits(network, images.to(device))
            off = relative(logits, expected)
            limit = 1e-4 if name == 'without TF32' and preset != 'fast' else tolerance
            found.add(preset, name, f'{off:.1e}', is_right=off <= limit)
    return found


class _Synchronisations(Hook):
    """Keep the waits of each step that CUDA itself reports."""

    priority = 'LOWEST'

    def before_train_epoch(self, runner: Any) -> None:
        self.steps: list[list[str]] = []
        self._stack = contextlib.ExitStack()
        self._caught: Any = self._stack.enter_context(warnings.catch_warnings(record=True))
        warnings.simplefilter('always')
        torch.cuda.set_sync_debug_mode('warn')

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        waits = [item for item in self._caught if 'synchronizing CUDA operation' in str(item.message)]
        self.steps.append(['/'.join(Path(item.filename).parts[-2:]) + f':{item.lineno}' for item in waits])
        self._caught.clear()

    def after_train_epoch(self, runner: Any) -> None:
        torch.cuda.set_sync_debug_mode('default')
        self._stack.close()


def waits(device: str) -> Found:
    """Count the waits of steps 2 to 4, of which steps 2 and 4 write a log."""
    found = Found('run', 'waits of step 2', 'step 3', 'step 4')
    sgd = dict(type='SGD', lr=0.05, momentum=0.9)
    clip = dict(max_norm=1.0)
    for name, fields in dict(
        plain={},
        bf16=dict(optim_wrapper=dict(type='AutocastOptimWrapper', optimizer=sgd, clip_grad=clip)),
        average=dict(hooks=[dict(type='EMAHook')]),
    ).items():
        with tempfile.TemporaryDirectory() as folder:
            if device == 'pretend':
                steps = [[str(wait) for wait in step] for step in runs.waits_of_steps(folder, **fields)]
            else:
                hook = _Synchronisations()
                runner = runs.runner(folder, val_dataloader=None, val_cfg=None, val_evaluator=None, **fields)
                runner.register_hook(hook)
                runner.train()
                steps = hook.steps
        is_right = len(steps[2]) == 0 and len(steps[1]) <= 1 and len(steps[3]) <= 1
        found.add(name, *('; '.join(step) or 0 for step in steps[1:]), is_right=is_right)
    return found


def finite(device: str) -> Found:
    """Stop at a batch with NaN, with the state of before its step."""
    from r2kd_mm.engine.cli import RunStopped

    found = Found('claim', 'seen')
    data = toys.Images(80)
    data.inputs[25] = torch.nan
    with tempfile.TemporaryDirectory() as folder:
        message = ''
        try:
            runs.runner(folder, train_dataloader=runs.loader(data, shuffle=False)).train()
        except RunStopped as error:
            message = str(error)
        found.add('the message names step 3', message[:80], is_right='of iteration 3 is not finite' in message)
        path = Path(folder, 'before_non_finite_iter_3.pth')
        weights = torch.load(path, map_location='cpu', weights_only=False)['state_dict'] if path.is_file() else {}
        is_finite = bool(weights) and all(bool(value.isfinite().all()) for value in weights.values())
        found.add('the weights before it are finite', len(weights), is_right=is_finite)
    return found


def train(device: str, model: dict | None = None, **fields: Any) -> tuple[list[float], dict[str, Tensor]]:
    """Train for four steps; return the losses and the weights."""
    values: list[float] = []

    class Keep(Hook):
        def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
            values.append(float(outputs['loss']))

    with tempfile.TemporaryDirectory() as folder:
        runner = runs.runner(folder, model, val_dataloader=None, val_cfg=None, val_evaluator=None, **fields)
        runner.register_hook(Keep())
        runner.train()
        return values, {name: value.cpu() for name, value in runner.model.state_dict().items()}


def precision(device: str) -> Found:
    """Train in each precision, with and without a fused optimizer."""
    found = Found('run', 'losses')
    for name, wrapper in dict(
        float32=dict(type='OptimWrapper'),
        bf16=dict(type='AutocastOptimWrapper'),
        fp16=dict(type='AmpOptimWrapper', dtype='float16'),
    ).items():
        for fused in (False, True):
            optimizer = dict(type='SGD', lr=0.01, momentum=0.9, **(dict(fused=True) if fused else {}))
            values, weights = train(device, optim_wrapper=dict(wrapper, optimizer=optimizer))
            is_right = all(bool(value.isfinite().all()) for value in weights.values())
            title = f'{name}{", fused" if fused else ""}'
            found.add(title, ', '.join(f'{value:.3f}' for value in values), is_right=is_right)
    return found


def determinism(device: str) -> Found:
    """Train twice from one seed with deterministic kernels."""
    found = Found('run', 'weights that differ')
    results = [train(device, randomness=dict(seed=0, deterministic=True))[1] for _ in range(2)]
    different = [name for name, value in results[0].items() if not torch.equal(value, results[1][name])]
    found.add('R2KD with CutMix', len(different), is_right=not different)
    return found


def compiled(device: str) -> Found:
    """Compare compiled teachers with plain ones, also at a smaller last batch."""
    found = Found('batch', 'logits off by', 'seconds of the first call')
    network = MODELS.build(dict(toys.classifier(num_classes=20, width=16), _scope_='r2kd_mm')).eval().to(device)
    engine = TeacherEngine(compile=True)
    for size in (32, 32, 7, 1):
        images = torch.randn(size, 3, 32, 32, device=device)
        start = time.perf_counter()
        logits = engine.logits(network, images)
        torch.cuda.synchronize()
        took = time.perf_counter() - start
        off = relative(logits, TeacherEngine.from_config('exact').logits(network, images))
        found.add(size, f'{off:.1e}', f'{took:.2f}', is_right=off <= 1e-2)
    return found


def speed(device: str) -> Found:
    """Time the step of the flagship with random images, and compare time and memory with the plan."""
    from argparse import Namespace

    from common import Networks, RandomBatch, read_config

    found = Found('settings', 'ms a step', 'images a second', 'peak GiB', 'planned GiB', 'times the roofline')
    cfg = read_config(Namespace(config=str(ROOT / FLAGSHIP), cfg_options=None, threads=4))
    networks = Networks(cfg)
    batch = RandomBatch(SPEED_BATCH, SPEED_IMAGE, networks)
    for name, fields, amp in (
        ('plain', dict(teacher_engine='plain'), False),
        ('exact, channels_last', dict(teacher_engine='exact', channels_last=True), False),
        ('fast, channels_last, bf16', dict(teacher_engine='fast', channels_last=True), True),
    ):
        model = networks.distiller(fields)
        wrapper = networks.optim_wrapper(model, amp)
        torch.cuda.reset_peak_memory_stats()
        times = []
        for _step in range(16):
            data = batch()
            torch.cuda.synchronize()
            start = time.perf_counter()
            model.train_step(data, wrapper)
            torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
        median = statistics.median(times[6:])
        peak = torch.cuda.max_memory_allocated() / 2**30
        planned, roofline = _planned(cfg, fields, amp)
        found.add(
            name,
            f'{1e3 * median:.1f}',
            f'{SPEED_BATCH / median:.0f}',
            f'{peak:.2f}',
            f'{planned / 2**30:.2f} ({100 * (planned / 2**30 / peak - 1):+.0f} %)',
            f'{median / roofline:.1f}' if roofline else 'a card without figures',
        )
        del model, wrapper
    return found


def _planned(cfg: Any, fields: dict, amp: bool) -> tuple[float, float | None]:
    """Return the planned peak of a step in bytes, and its seconds at the roofline of this card."""
    import copy

    from r2kd_mm.planning import find_card
    from r2kd_mm.planning.step import PlannedStep

    cfg = copy.deepcopy(cfg)
    cfg.model.update(fields)
    cfg.custom_hooks = []  # the timed step has none
    if amp:
        cfg.optim_wrapper.type = 'r2kd_mm.AutocastOptimWrapper'
    step = PlannedStep(cfg, SPEED_IMAGE)
    trace = step.trace(SPEED_BATCH)
    try:
        roofline = find_card('cuda').roofline(trace.operators)
    except ValueError:
        roofline = None
    return max(trace.peak, step.preparation), roofline


def fsdp(device: str) -> Found:
    """Train with FSDP on all cards, at most two."""
    found = Found('run', 'seen')
    _launch(found, 'NCCL, FullyShardedDataParallel', min(2, torch.cuda.device_count()), 'fsdp')
    return found


def cards(device: str) -> Found:
    """Train on two cards with SyncBN; the weights of both must be the same."""
    found = Found('run', 'seen')
    _launch(found, 'NCCL, DistributedDataParallel, SyncBN', 2, 'ddp')
    return found


def _launch(found: Found, title: str, processes: int, wrapper: str) -> None:
    script = Path(__file__).with_name('two_cards.py')
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', str(processes)]
    done = subprocess.run([*command, str(script), wrapper], capture_output=True, text=True)
    last = ([line for line in done.stdout.splitlines() if line.startswith('same weights')] or ['nothing'])[-1]
    found.add(title, last, is_right=not done.returncode)
    if done.returncode:
        print(done.stderr[-2000:])


PARTS: dict[str, Callable[[str], Found]] = {
    function.__name__: function
    for function in (
        machine,
        losses,
        augmentations,
        engines,
        waits,
        finite,
        precision,
        determinism,
        compiled,
        speed,
        fsdp,
        cards,
    )
}


def main() -> None:
    """Run one part."""
    name, device = sys.argv[1:3]
    torch.manual_seed(0)
    with contextlib.ExitStack() as stack:
        if device == 'pretend':
            if not pretend.IS_POSSIBLE:
                raise SystemExit(pretend.REASON)
            pretend.register()
            stack.enter_context(pretend.in_use())
        found = PARTS[name](device)
    print(f'<report>\n{found}\n</report>')
    if found.wrong:
        raise SystemExit(f'not as it should be: {", ".join(found.wrong)}')


if __name__ == '__main__':
    main()
