"""Run a training step of a config without data, to trace its operators.

The step runs once on two blank images, then on PyTorch's fake tensors, which have shapes but no values.
"""

from __future__ import annotations

import contextlib
import copy
import gc
from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from mmengine.config import Config
from mmengine.hooks import EMAHook
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapperDict, build_optim_wrapper
from mmengine.runner.activation_checkpointing import turn_on_activation_checkpointing
from mmpretrain.structures import DataSample
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode

from r2kd_mm.classifiers import num_classes
from r2kd_mm.distillers.objective import Objective
from r2kd_mm.distillers.student import unwrap_student
from r2kd_mm.distillers.views import AUGMENTED, CLEAN, Views
from r2kd_mm.hooks.step_state import Kept
from r2kd_mm.planning.trace import STUDENT, StepTrace
from r2kd_mm.registry import HOOKS, MODELS
from r2kd_mm.teachers.targets import Targets

TEACHERS, LOSSES, VIEWS, OPTIMIZER = 'teachers', 'losses', 'images and views', 'optimizer'
WEIGHTS, GRADIENTS, STATE = 'weights and buffers', 'gradients', 'optimizer state'
AVERAGES, TAKEN_BACK = 'averaged weights', 'copies to take a step back'
COPIES = 'teachers and their prepared copies'
SMALL_BATCH = 2
DEPENDS_ON_NUMBERS = (DataDependentOutputException, DynamicOutputShapeException)
# What would load weights from a file or a URL, and the value that loads none.
SOURCES: dict[str, Any] = dict(teacher_ckpt=None, checkpoint_path='', pretrained=False)


class PlannedStep:
    """Training step of a config, with networks and optimizer; :meth:`trace` records its operators.

    The step first runs once on two blank images, which prepares the teachers and creates the optimizer state. Then it
    runs in PyTorch's ``FakeTensorMode``, whose tensors have a shape but no data. Both run the training code itself, so
    every temporary tensor counts.

    No weights are loaded, because time and memory do not depend on them.

    Args:
        cfg: Config of the run.
        image_size: Height and width, in pixels.
        on_gpu: Count the extra memory on a GPU: the optimizer updates all weights at once, and ``FiniteCheckHook``
            keeps copies to undo a step.

    Raises:
        ValueError: The config has no model or no optimizer.

    Attributes:
        notes: Sentences on what the estimate leaves out.
        num_classes: Number of classes of the student.
        preparation: Peak memory of the step with two images, in bytes. Preparing the teachers may need more memory
            than a large batch.
    """

    def __init__(self, cfg: Config, image_size: int, on_gpu: bool = True) -> None:
        for name in ('model', 'optim_wrapper'):
            if not cfg.get(name):
                raise ValueError(f'{cfg.filename} has no {name}, so it trains nothing; give the config of a training')
        self.notes: list[str] = []
        self.image_size = image_size
        wrapper_cfg = self._plain_wrapper(copy.deepcopy(cfg.optim_wrapper))
        self.accumulation = wrapper_cfg.get('accumulative_counts', 1)
        self._trace = StepTrace()
        with self._trace, _on_the_cpu():
            self.model = MODELS.build(self._planned_model(cfg)).train()
            checkpointing = cfg.get('activation_checkpointing')
            if checkpointing:
                turn_on_activation_checkpointing(self.model, checkpointing)
            self.wrapper = build_optim_wrapper(self.model, wrapper_cfg)
            self._averages = self._average(cfg)
        self._wrappers = list(self.wrapper.values()) if isinstance(self.wrapper, OptimWrapperDict) else [self.wrapper]
        self._optimizers = [wrapper.optimizer for wrapper in self._wrappers]
        groups = [group for optimizer in self._optimizers for group in optimizer.param_groups]
        student: Any = unwrap_student(getattr(self.model, 'architecture', self.model))
        self._channels = next((layer.in_channels for layer in student.modules() if isinstance(layer, nn.Conv2d)), 3)
        self.num_classes = num_classes(student) or 1
        if on_gpu:
            for group in groups:
                if 'foreach' in group and group['foreach'] is None and not group.get('fused'):
                    group['foreach'] = True
        images = torch.zeros(SMALL_BATCH, self._channels, image_size, image_size, dtype=torch.uint8)
        with self._trace:
            self._run(images, accumulation=1)
            self._kept = Kept()
            if on_gpu and self._is_taken_back(cfg):
                parameters = [parameter for group in groups for parameter in group['params']]
                with self._trace.part(TAKEN_BACK):
                    self._kept.keep([*parameters, *self._state()])
        gc.collect()
        self.preparation = self._trace.peak
        self._name_what_stays()

    def trace(self, batch_size: int, accumulation: int | None = None) -> StepTrace:
        """Trace a step: the forward and backward pass of one or two batches, and one update.

        Args:
            batch_size: Images of each batch.
            accumulation: Number of batches; ``None`` takes 1, or 2 where the config accumulates gradients. The second
                one meets the gradients of the first, and any later one the same.

        Raises:
            ValueError: The step asks for a number that only real images give.
        """
        trace = self._trace
        trace.restart()
        shape = (batch_size, self._channels, self.image_size, self.image_size)
        with FakeTensorMode(allow_non_fake_inputs=True):
            images = torch.empty(shape, dtype=torch.uint8)
        try:
            with trace:
                with trace.part(VIEWS):
                    trace.hold(images)
                self._run(images, accumulation or min(self.accumulation, 2))
        except DEPENDS_ON_NUMBERS as error:
            raise ValueError(
                f'the step of a {type(self.model).__name__} cannot be planned: it decides by numbers that only real '
                f'images give ({error})'
            ) from error
        finally:
            for parameter in self.model.parameters():
                parameter.grad = None
            gc.collect()
        return trace

    # ----------------------------------------------------------------------------------------------------- preparation
    def _planned_model(self, cfg: Config) -> dict:
        """Return the config of the model without weights, replay and compiler."""
        model = _without_sources(copy.deepcopy(cfg.model.to_dict()))
        if cfg.get('data_preprocessor') is not None:  # as the Runner does
            model.setdefault('data_preprocessor', cfg.data_preprocessor)
        if model.get('teacher') is not None and 'distiller' not in model:
            model['allow_untrained_teacher'] = True
        model.pop('replay', None)
        engine = model.get('teacher_engine')
        if model.pop('compile_student', False) or (isinstance(engine, Mapping) and engine.get('compile')):
            self.notes.append('torch.compile is not planned: it joins operators, and needs less memory and time')
            if isinstance(engine, Mapping):
                model['teacher_engine'] = dict(engine, compile=False)
        return model

    def _plain_wrapper(self, wrapper: dict) -> dict:
        """Return the config of the wrapper without a gradient scaler, which a CPU has not."""
        if 'AmpOptimWrapper' in str(wrapper.get('type', '')):
            for name in ('loss_scale', 'dtype', 'use_fsdp'):
                wrapper.pop(name, None)
            wrapper['type'] = 'r2kd_mm.AutocastOptimWrapper'
            self.notes.append('fp16 is planned as bf16, which takes the same memory')
        return wrapper

    def _average(self, cfg: Config) -> list[nn.Module]:
        """Build the averaged models of the config's hooks."""
        models = []
        with self._trace.part(AVERAGES):
            for fields in cfg.get('custom_hooks') or []:
                hook = HOOKS.build(fields) if 'EMAHook' in str(fields.get('type')) else None
                if isinstance(hook, EMAHook):
                    hook.before_run(SimpleNamespace(model=self.model))
                    models.append(hook.ema_model)
        return models

    def _is_taken_back(self, cfg: Config) -> bool:
        """Return whether ``FiniteCheckHook`` keeps weights and state on the device, which they have to be on."""
        is_checked = any('FiniteCheckHook' in str(fields.get('type')) for fields in cfg.get('custom_hooks') or [])
        return is_checked and all(
            type(optimizer).__module__.startswith('torch.optim')
            and (
                not any('step' in state for state in optimizer.state.values())
                or all(group.get('fused') or group.get('capturable') for group in optimizer.param_groups)
            )
            for optimizer in self._optimizers
        )

    def _state(self) -> list[Tensor]:
        """Return the tensors that the optimizers keep."""
        states = [state for optimizer in self._optimizers for state in optimizer.state.values()]
        return [value for state in states for value in state.values() if isinstance(value, Tensor)]

    def _name_what_stays(self) -> None:
        """Ascribe what is alive between steps: to the weights, the optimizer, or the teachers."""
        trace = self._trace
        for module in self._averages:
            for tensor in (*module.parameters(), *module.buffers()):
                trace.ascribe(tensor, AVERAGES)
        for tensor in (*self.model.parameters(), *self.model.buffers()):
            trace.ascribe(tensor, WEIGHTS)
        for tensor in self._state():
            trace.ascribe(tensor, STATE)
        for teacher in getattr(self.model, 'teachers', {}).values():
            for tensor in (*teacher.parameters(), *teacher.buffers()):
                trace.ascribe(tensor, TEACHERS)
        trace.rename(TEACHERS, COPIES)

    # -------------------------------------------------------------------------------------------------------- one step
    def _run(self, images: Tensor, accumulation: int) -> None:
        """Run the batches of one update."""
        for wrapper in self._wrappers:
            wrapper._accumulative_counts = accumulation
            wrapper.initialize_count_status(self.model, 0, accumulation)
        with self._parts(), _on_the_cpu(), patch.object(MessageHub, 'update_scalar'):
            for _batch in range(accumulation):
                labels = torch.arange(len(images)) % self.num_classes
                samples = [DataSample().set_gt_label(label) for label in labels]
                self.model.train_step(dict(inputs=images, data_samples=samples), self.wrapper)

    @contextlib.contextmanager
    def _parts(self) -> Iterator[None]:
        """Tell the trace which part of the step runs."""
        trace = self._trace

        def named(owner: type, method: str, name: str, function: Any = None) -> Any:
            return patch.object(owner, method, trace.as_part(name, function or getattr(owner, method)))

        def keep_gradient(parameter: Tensor) -> None:
            if parameter.grad is not None:
                trace.ascribe(parameter.grad, GRADIENTS)

        with contextlib.ExitStack() as stack:
            stack.enter_context(named(type(self.model), 'forward', STUDENT))
            stack.enter_context(named(Views, '__call__', VIEWS, self._made_views(Views.__call__)))
            stack.enter_context(named(Targets, '__call__', TEACHERS))
            stack.enter_context(named(Objective, '__call__', LOSSES))
            stack.enter_context(named(type(self.model.data_preprocessor), 'forward', VIEWS))
            for wrapper in {type(wrapper) for wrapper in self._wrappers}:
                for method in ('step', '_clip_grad'):
                    stack.enter_context(named(wrapper, method, OPTIMIZER))
            for name, loss in getattr(self.model, 'distillation_losses', {}).items():
                stack.enter_context(patch.object(loss, 'forward', trace.as_part(name, loss.forward)))
            teacher = None if hasattr(self.model, 'step') else getattr(self.model, 'teacher', None)
            if isinstance(teacher, nn.Module):  # of an algorithm of mmrazor
                stack.enter_context(patch.object(teacher, 'forward', trace.as_part(TEACHERS, teacher.forward)))
            for parameter in self.model.parameters():
                if parameter.requires_grad:
                    handle = parameter.register_post_accumulate_grad_hook(keep_gradient)
                    stack.callback(handle.remove)
            yield

    def _made_views(self, make: Callable) -> Callable:
        """Return ``make`` for views that depend on the pixels: there the augmented view is an empty one."""

        @wraps(make)
        def views(this: Views, images: Tensor, names: Any, *args: Any) -> dict[str, Tensor]:
            try:
                return make(this, images, names, *args)
            except DEPENDS_ON_NUMBERS:
                note = f'{type(this.augmentation).__name__} reads the pixels: its own memory and time are left out'
                if note not in self.notes:
                    self.notes.append(note)
                return {name: torch.empty_like(images) if name == AUGMENTED else images for name in (CLEAN, AUGMENTED)}

        return views


def _on_the_cpu() -> contextlib.AbstractContextManager:
    """Have the wrapper for mixed precision act on the CPU, also where there is a GPU: the planned step runs there."""
    return patch('r2kd_mm.engine.optim.get_device', return_value='cpu')


def _without_sources(value: Any) -> Any:
    """Return a config in which nothing loads weights."""
    if isinstance(value, dict):
        kept = {name: SOURCES[name] if name in SOURCES else _without_sources(field) for name, field in value.items()}
        start = kept.get('init_cfg')
        if isinstance(start, Mapping) and str(start.get('type')) == 'Pretrained':
            kept['init_cfg'] = None
        return kept
    if isinstance(value, (list, tuple)):
        return type(value)(_without_sources(field) for field in value)
    return value
