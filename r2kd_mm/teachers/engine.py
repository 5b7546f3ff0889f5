"""Compute the logits of frozen networks in less time, on copies that are optimised for inference."""

from __future__ import annotations

import copy
import inspect
import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch._dynamo import maybe_mark_dynamic
from torch._dynamo.exc import TorchDynamoException
from torch.nn.modules.batchnorm import _BatchNorm

from r2kd_mm.classifiers import classifier_logits
from r2kd_mm.devices import computes_in_bf16
from r2kd_mm.teachers.folding import FOLDABLE, fold_batch_norms_, log, summary, try_out
from r2kd_mm.teachers.known_weights import KnownWeights, tensors_of

LOW_PRECISIONS = {'bf16': torch.bfloat16, 'fp16': torch.float16}
DTYPES = ('float32', *LOW_PRECISIONS, 'auto', None)
PRESETS: dict[str, dict[str, Any]] = {
    'exact': dict(dtype='float32'),
    'fast': dict(dtype='auto'),
    'plain': dict(dtype=None, fuse=False, channels_last=False),
}
# Images that go through a network in float64 to see what can be folded.
TRIAL_SIZE = 2


class TeacherEngine:
    """Inference engine: computes the logits of frozen networks on optimised copies; the networks never change.

    A copy is made at the first call for a network, made again when the network's weights change or move, and freed with
    the network. While any module of a network is in train mode or has forward hooks, the network runs without a copy:
    its hooks would not see the outputs of a copy.

    Args:
        dtype: The arithmetic. ``'float32'`` keeps the network's precision (also float64) and ignores a surrounding
            autocast. ``'bf16'`` and ``'fp16'`` run under autocast, with the weights of convolutions and linear layers
            kept in that type; normalisation and softmax stay in float32. The linear layer that gives the logits does
            too, because coarser logits would make classes tie. ``'auto'`` is ``'bf16'`` where the device computes in
            it, else ``'float32'``. ``None`` keeps the network's arithmetic and any surrounding autocast.
        fuse: Fold batch normalisation into the convolution or linear layer before it.
        channels_last: Keep images and weights in the memory format ``torch.channels_last``.
        compile: Use ``torch.compile``, on a GPU with CUDA graphs. Without a working compiler the copy runs uncompiled,
            with a warning.
        join_views: Run both views of a batch as one batch if this changes the logits only by rounding.

    Raises:
        ValueError: There is no such ``dtype``.
        TypeError: A switch is neither ``True`` nor ``False``.

    Example:
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).eval()
        >>> images = torch.zeros(2, 3, 2, 2)
        >>> torch.equal(TeacherEngine('float32').logits(network, images), network(images))
        True
    """

    def __init__(
        self,
        dtype: str | None = 'float32',
        fuse: bool = True,
        channels_last: bool = True,
        compile: bool = False,
        join_views: bool = True,
    ) -> None:
        if dtype not in DTYPES:
            raise ValueError(f'dtype of a teacher engine must be one of {DTYPES}, got {dtype!r}')
        switches = dict(fuse=fuse, channels_last=channels_last, compile=compile, join_views=join_views)
        for name, value in switches.items():
            if not isinstance(value, bool):
                raise TypeError(f'{name} of a teacher engine must be True or False, got {value!r}')
        self.dtype = dtype
        self.fuse = fuse
        self.channels_last = channels_last
        self.compile = compile
        self.join_views = join_views
        self._prepared: WeakKeyDictionary[nn.Module, _PreparedNetwork] = WeakKeyDictionary()

    @classmethod
    def from_config(cls, config: str | Mapping[str, Any] | TeacherEngine) -> TeacherEngine:
        """Build an engine from a name or a dict of the constructor's arguments, or take one that is ready.

        Args:
            config: ``'exact'``, the same logits but for rounding; ``'fast'``, bf16 where the device computes in it;
                ``'plain'``, the networks as they are; or a dict of arguments, ``dict(dtype=..., channels_last=...)``.

        Raises:
            ValueError: There is no such name, field or ``dtype``.
            TypeError: The config, or a switch in it, is of another type.
        """
        if isinstance(config, TeacherEngine):
            return config
        if isinstance(config, str) and config in PRESETS:
            return cls(**PRESETS[config])
        fields = tuple(inspect.signature(cls).parameters)
        if not isinstance(config, Mapping):
            error = ValueError if isinstance(config, str) else TypeError
            raise error(f'teacher_engine must be one of {tuple(PRESETS)} or a dict of {fields}, got {config!r}')
        unknown = ', '.join(repr(name) for name in config if name not in fields)
        if unknown:
            raise ValueError(f'teacher_engine has no field {unknown}; it has {fields}')
        return cls(**config)

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments of the constructor, by name; without ``join_views=True``, which older replay stores lack."""
        found = {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}
        return {name: value for name, value in found.items() if (name, value) != ('join_views', True)}

    def __repr__(self) -> str:
        settings = (f'{name}={value!r}' for name, value in self.settings.items())
        return f'{type(self).__name__}({", ".join(settings)})'

    def __deepcopy__(self, memo: dict) -> TeacherEngine:
        # a copy of a distiller, such as its moving average, shares the teachers, and so what was prepared of them
        return self

    @property
    def is_plain(self) -> bool:
        """Return whether the networks run as they are."""
        return self.dtype is None and not (self.fuse or self.channels_last or self.compile)

    def can_join(self, network: nn.Module) -> bool:
        """Return whether views may go through ``network`` as one batch, because each image's logits are its own.

        They are not in train mode, nor behind a batch normalisation without running statistics. The plain engine joins
        nothing, and neither does one with ``join_views=False``.
        """
        return (
            self.join_views
            and not self.is_plain
            and not any(
                module.training or (isinstance(module, _BatchNorm) and module.running_mean is None)
                for module in network.modules()
            )
        )

    @torch.no_grad()
    def logits(self, network: nn.Module, inputs: Tensor) -> Tensor:
        """Logits of a classifier, shape ``(N, num_classes)``, without gradient, in float32 or wider.

        Args:
            network: The classifier.
            inputs: Preprocessed images, shape ``(N, C, H, W)``, on its device.

        Raises:
            ValueError: The device does not compute in ``dtype``.
            TypeError: The network gives no logits.
            RuntimeError: Its weights were written through ``.data`` after a copy was made.
        """
        if self.is_plain or next(iter(tensors_of(network)), None) is None:
            logits = classifier_logits(network, inputs)
        elif any(module.training or module._forward_hooks or module._forward_pre_hooks for module in network.modules()):
            with _arithmetic(self.dtype and 'float32', inputs.device):
                logits = classifier_logits(network, inputs)
        else:
            logits = self._prepare(network, inputs)(inputs)
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def _prepare(self, network: nn.Module, inputs: Tensor) -> _PreparedNetwork:
        """Return the copy of ``network``; make it if there is none of its present weights."""
        prepared = self._prepared.get(network)
        if prepared is None or not prepared.weights.are_those_of(network):
            prepared = self._prepared[network] = _PreparedNetwork(self, network, inputs)
        return prepared


class _PreparedNetwork:
    """A copy of a network in eval mode, changed as an engine says.

    Args:
        engine: What to change.
        network: What to copy.
        inputs: A batch of what it will get.
    """

    def __init__(self, engine: TeacherEngine, network: nn.Module, inputs: Tensor) -> None:
        self.weights = KnownWeights(network)
        self.dtype = resolve_dtype(engine.dtype, inputs.device)
        low_precision = LOW_PRECISIONS.get(self.dtype) if self.dtype else None
        self.memory_format = torch.channels_last if engine.channels_last else torch.preserve_format
        self.network = copy.deepcopy(network).requires_grad_(False)
        if engine.fuse or low_precision:
            trial = try_out(network, inputs[:TRIAL_SIZE])
            if engine.fuse:
                fold_batch_norms_(self.network, trial.pairs)
            if low_precision:
                _lower_precision_(self.network, low_precision, trial.classifier)
        self.network.to(memory_format=self.memory_format)  # type: ignore[call-overload]  # not in the stubs
        floating_point = (tensor.dtype for tensor in tensors_of(network) if tensor.is_floating_point())
        self.input_dtype = torch.float32 if low_precision else next(floating_point, inputs.dtype)
        self.compiled = _compile(self.network, inputs.device) if engine.compile else None

    def __call__(self, inputs: Tensor) -> Tensor:
        """Logits ``(N, num_classes)`` for preprocessed images ``(N, C, H, W)``."""
        inputs = inputs.detach().to(self.input_dtype, memory_format=self.memory_format)
        with _arithmetic(self.dtype, inputs.device):
            # torch.compile would make code of its own for a batch of one
            if self.compiled is not None and len(inputs) > 1:
                try:
                    return self.weights.unless_changed(self._compiled_logits(self.compiled, inputs))
                except TorchDynamoException as error:
                    self._give_up_compiling(error)
            return self.weights.unless_changed(classifier_logits(self.network, inputs))

    @staticmethod
    def _compiled_logits(compiled: Any, inputs: Tensor) -> Tensor:
        # one code for all batch sizes, so that the last, smaller batch of an epoch starts no compiler
        maybe_mark_dynamic(inputs, 0)
        # CUDA graphs write every output to the same memory: this call may do so again, and what it gives is copied
        if hasattr(torch.compiler, 'cudagraph_mark_step_begin'):  # since torch 2.2
            torch.compiler.cudagraph_mark_step_begin()
        return classifier_logits(compiled, inputs).clone()

    def _give_up_compiling(self, error: TorchDynamoException) -> None:
        self.compiled = None
        log(
            f'{type(self.network).__name__} runs uncompiled, because torch.compile failed: {summary(error)}; '
            'install what it needs (a C++ compiler, and Triton for a GPU), or set compile=False',
            logging.WARNING,
        )


# ----------------------------------------------------------------------------------------------------------- precision
def resolve_dtype(dtype: str | None, device: torch.device) -> str | None:
    """Replace ``'auto'`` by what suits ``device``.

    Raises:
        ValueError: The device does not compute in ``dtype``.
    """
    if dtype == 'auto':
        return 'bf16' if computes_in_bf16(device) else 'float32'
    if dtype == 'fp16' and device.type == 'cpu':
        raise ValueError("teacher_engine: dtype='fp16' is for GPUs, got a CPU; set 'bf16', 'float32' or 'auto'")
    # a CPU computes in bf16 in any case, if slowly
    if dtype == 'bf16' and device.type == 'cuda' and not computes_in_bf16(device):
        raise ValueError(
            f"teacher_engine: dtype='bf16' needs a GPU of compute capability 8.0 or later, got "
            f"{torch.cuda.get_device_name(device)}; set 'fp16', 'float32' or 'auto'"
        )
    return dtype


def _arithmetic(dtype: str | None, device: torch.device) -> AbstractContextManager:
    if dtype is None:
        return nullcontext()
    if dtype == 'float32':
        return torch.autocast(device.type, enabled=False)
    return torch.autocast(device.type, dtype=LOW_PRECISIONS[dtype])


class _Float32Linear(nn.Linear):
    """A linear layer that ignores autocast."""

    def forward(self, input: Tensor) -> Tensor:
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.float())


def _lower_precision_(network: nn.Module, dtype: torch.dtype, classifier: str | None) -> None:
    """Convert the weights that autocast would convert at every call, but for those of the ``classifier``."""
    network.float()
    for name, module in network.named_modules():
        if name == classifier:
            module.__class__ = _Float32Linear
        elif isinstance(module, FOLDABLE):
            module.to(dtype)


def _compile(network: nn.Module, device: torch.device) -> Any:
    return torch.compile(network, mode='reduce-overhead' if device.type == 'cuda' else 'default')
