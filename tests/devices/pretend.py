"""Register a simulated accelerator with PyTorch: it behaves like a GPU and computes on the CPU.

Its tensors keep their numbers in a CPU tensor. The device refuses what an accelerator refuses: tensors of two
devices, CPU generators, and ``numpy()``. It records each time the host waits for the device, with the line of code.
After a non-blocking copy to the host, reading the copy is an error until the host has waited for the device.

A process that called :func:`register` has this device until it ends, so tests run in a process of their own, see
``conftest.py``. PyTorch 2.10 or later is needed.
"""

from __future__ import annotations

import contextlib
import functools
import linecache
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.utils import digit_version
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

NAME = 'pretend'
IS_POSSIBLE = digit_version(torch.__version__) >= digit_version('2.10')
REASON = 'PyTorch lets Python stand for a device from version 2.10 on'
LAG = 200  # operations until a query finds a copy complete
aten = torch.ops.aten

# operations that bring numbers, or a shape made of numbers, to the host
VALUES = {'_local_scalar_dense', 'equal', 'is_nonzero'}
SHAPES = {
    '_unique',
    '_unique2',
    'bincount',
    'masked_select',
    'nonzero',
    'unique_consecutive',
    'unique_dim',
    'unique_dim_consecutive',
}
COPIES = {'_to_copy', 'copy_', '_foreach_copy_'}
INDEXED = {'index', 'index_put', 'index_put_', '_index_put_impl_', '_unsafe_index', '_unsafe_index_put'}
# take a number of the host
HOST_NUMBERS = {'fill', 'fill_', 'full_like', 'scalar_tensor', 'masked_fill', 'masked_fill_'}
# what autocast runs in the low precision, and what it runs in float32, as on CUDA
LOW_PRECISION = """
    conv1d conv2d conv3d convolution _convolution conv_transpose1d conv_transpose2d.input linear matmul mm mv addmm
    addmv baddbmm bmm prelu scaled_dot_product_attention
"""
FLOAT32 = """
    softplus layer_norm native_layer_norm group_norm cosine_similarity cosine_embedding_loss nll_loss nll_loss2d kl_div
    l1_loss smooth_l1_loss mse_loss binary_cross_entropy_with_logits cdist cumsum cumprod exp expm1 log log10 log1p
    log2 rsqrt reciprocal norm.Scalar pow.Tensor_Scalar pow.Tensor_Tensor prod softmax.int log_softmax.int sum
    sum.dim_IntList _softmax _log_softmax logsumexp
"""


class MixedDevices(RuntimeError):
    """Tensors of two devices met in one operation."""


class ReadTooEarly(RuntimeError):
    """A copy to the host was read before the device was waited for."""


@dataclass(frozen=True)
class Wait:
    """A place where the host waits for the device.

    Attributes:
        what: The operation.
        file: Innermost file outside of PyTorch, from the package on.
        function: Function of this file.
        line: Text of the line.
    """

    what: str
    file: str
    function: str
    line: str

    def __str__(self) -> str:
        return f'{self.file}: {self.function}: {self.line} ({self.what})'


class _Device:
    """State of the device: what waits were seen, which copies are on their way, and its random numbers."""

    def __init__(self) -> None:
        self.waits: list[Wait] = []
        self.operations = 0
        self.generator = torch.Generator()
        self.late: dict[int, tuple[Tensor, Tensor]] = {}  # by address: the host's tensor, and what will be in it

    def wait(self, what: str) -> None:
        self.waits.append(Wait(what, *_place()))
        self.catch_up()

    def catch_up(self) -> None:
        late, self.late = self.late, {}
        for target, numbers in late.values():
            target.copy_(numbers)

    def deliver_late(self, target: Tensor, numbers: Tensor) -> None:
        self.late[target.untyped_storage().data_ptr()] = target, numbers.clone()
        # what is read too early, past all checks, should at least look wrong
        target.fill_(torch.nan if target.is_floating_point() else 113)

    def check_arrived(self, tensors: list[Tensor], what: str) -> None:
        if self.late and any(tensor.untyped_storage().data_ptr() in self.late for tensor in tensors):
            raise ReadTooEarly(f'{what} reads a copy from the device before the device was waited for: {_here()}')


device_state = _Device()


def _place() -> tuple[str, str, str]:
    """Return file, function and text of the innermost line outside of PyTorch, Python and this file."""
    frame = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        parts = path.parts
        package = parts[parts.index('site-packages') + 1] if 'site-packages' in parts else ''
        is_ours = package not in ('torch', 'torchvision') and path.name not in ('pretend.py', 'contextlib.py')
        if is_ours and path.is_absolute() and not str(path).startswith(sys.base_prefix + '/lib/python'):
            root = parts.index('site-packages') + 1 if package else len(Path(__file__).parents[2].parts)
            line = linecache.getline(str(path), frame.f_lineno).strip()
            return '/'.join(parts[root:]), frame.f_code.co_name, line
        frame = frame.f_back
    return '?', '?', '?'


def _here() -> str:
    return ' '.join(_place())


class PretendTensor(Tensor):
    """A tensor that says it is on the device."""

    numbers: Tensor

    @staticmethod
    def __new__(cls, numbers: Tensor) -> PretendTensor:
        return torch.Tensor._make_wrapper_subclass(
            cls,
            numbers.size(),
            strides=numbers.stride(),
            storage_offset=numbers.storage_offset(),
            dtype=numbers.dtype,
            layout=numbers.layout,
            device=torch.device(NAME, 0),
            requires_grad=False,
        )

    def __init__(self, numbers: Tensor) -> None:
        self.numbers = numbers

    def __repr__(self, **_options: Any) -> str:
        return f'PretendTensor({self.numbers!r})'

    def tolist(self) -> Any:
        device_state.wait('tolist')
        return self.numbers.tolist()

    def numpy(self, *_args: Any, **_options: Any) -> None:
        raise TypeError(f"can't convert {NAME}:0 device type tensor to numpy; use Tensor.cpu() first")

    def __array__(self, *_args: Any, **_options: Any) -> None:
        self.numpy()

    def __deepcopy__(self, memo: dict) -> PretendTensor:
        if id(self) not in memo:
            with torch.no_grad():
                copy = PretendTensor(self.numbers.clone())
            copy.requires_grad_(self.requires_grad)
            is_parameter = isinstance(self, torch.nn.Parameter)
            memo[id(self)] = torch.nn.Parameter(copy, self.requires_grad) if is_parameter else copy
        return memo[id(self)]

    def __reduce_ex__(self, protocol: int) -> Any:
        """Save the numbers as a tensor of the host; see :func:`register` for how they are loaded."""
        device_state.wait('save')
        return self.detach().numbers.clone().__reduce_ex__(protocol)

    @property
    def data(self) -> Tensor:
        return Tensor.data.__get__(self)

    @data.setter
    def data(self, value: Tensor) -> None:
        if not isinstance(value, PretendTensor):
            raise RuntimeError('incompatible tensor type: the data of a tensor cannot move to another device')
        Tensor.data.__set__(self, value)
        self.numbers = value.numbers

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        return _run(func, args, kwargs or {})


def _is_on_host(value: Any) -> bool:
    return isinstance(value, Tensor) and not isinstance(value, PretendTensor)


def _run(func: Any, args: tuple, kwargs: dict) -> Any:
    """Run an operation as the device would."""
    name = func._schema.name.split('::')[1]
    leaves = tree_leaves((args, kwargs))
    ours = [leaf for leaf in leaves if isinstance(leaf, PretendTensor)]
    hosts = [leaf for leaf in leaves if _is_on_host(leaf)]
    asked = kwargs.get('device')
    goes_to_device = bool(ours) if asked is None else torch.device(asked).type == NAME
    if name == 'copy_':
        goes_to_device = isinstance(args[0], PretendTensor)
    device_state.check_arrived(hosts[1:] if name == 'copy_' and not goes_to_device else hosts, name)
    device_state.operations += bool(ours)
    if asked is not None:
        kwargs = dict(kwargs, device=torch.device('cpu'))
    pins = kwargs.get('pin_memory', False)
    if pins:
        kwargs = dict(kwargs, pin_memory=False)

    _refuse(func, name, args, kwargs, ours, hosts, goes_to_device)
    if name in COPIES:
        late = _copy_waits(name, args, kwargs, goes_to_device, ours, hosts)
    else:
        late = False
        if ours:
            _other_waits(func, name, args, kwargs)

    with _own_random_numbers(func, leaves) if goes_to_device else contextlib.nullcontext():
        out = func(*tree_map(_numbers, args), **tree_map(_numbers, kwargs))
    if late:
        target = args[0] if name == 'copy_' else out
        if name != 'copy_':
            _pin(target)
        device_state.deliver_late(target, target)
    if pins:
        _pin(out)
    if name in VALUES:
        return out
    known = {id(leaf.numbers): leaf for leaf in ours} | {id(leaf): leaf for leaf in hosts}

    def wrap(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        if id(value) in known:
            return known[id(value)]
        return PretendTensor(value) if goes_to_device else value

    return tree_map(wrap, out)


def _numbers(value: Any) -> Any:
    return value.numbers if isinstance(value, PretendTensor) else value


def _refuse(func: Any, name: str, args: tuple, kwargs: dict, ours: list, hosts: list, goes_to_device: bool) -> None:
    """Refuse what an accelerator refuses."""
    if goes_to_device and isinstance(kwargs.get('generator'), torch.Generator):
        raise MixedDevices(f"Expected a '{NAME}' device type for generator but found 'cpu': {name} in {_here()}")
    if not ours or not hosts or name in COPIES:
        return
    if name in INDEXED:
        if _is_on_host(args[0]):
            raise MixedDevices(f'indices of a tensor of the CPU should be on the CPU: {name} in {_here()}')
        hosts = [value for value in args[2:] if _is_on_host(value)]
    may_take_numbers = torch.Tag.pointwise in func.tags or name in HOST_NUMBERS or name in INDEXED or '_foreach' in name
    if func._schema.is_mutable and args and _is_on_host(args[0]):
        may_take_numbers = False
    odd = [host for host in hosts if host.dim() > 0 or not may_take_numbers]
    if odd:
        raise MixedDevices(
            f'Expected all tensors to be on the same device, got {NAME} and a tensor {tuple(odd[0].shape)} of the CPU: '
            f'{name} in {_here()}'
        )


def _copy_waits(name: str, args: tuple, kwargs: dict, to_device: bool, ours: list, hosts: list) -> bool:
    """Record the wait of a copy between host and device; return whether the copy arrives late on the host."""
    if to_device and not hosts or not ours and not to_device:
        return False
    is_async = kwargs.get('non_blocking') or (name == 'copy_' and len(args) > 2 and args[2])
    if to_device:
        sources = hosts if name == '_to_copy' else [host for host in hosts if host.numel()]
        if not is_async:
            device_state.wait('copy to the device')
        elif not all(map(_is_pinned, sources)):
            device_state.wait('copy to the device from memory that is not pinned')
        return False
    if is_async and (name == '_to_copy' or _is_pinned(args[0])):
        return True
    device_state.wait('copy to the host')
    return False


def _other_waits(func: Any, name: str, args: tuple, kwargs: dict) -> None:
    """Record the wait of an operation on tensors of the device."""
    if name in INDEXED:
        indices = [index for index in args[1] if isinstance(index, Tensor)]
        if any(_is_on_host(index) for index in indices):
            device_state.wait('index from the host')
        elif any(index.dtype in (torch.bool, torch.uint8) for index in indices):
            is_fill = len(args) > 2 and args[2].numel() == 1 and not (len(args) > 3 and args[3])
            if not is_fill:
                device_state.wait('index by a mask')
    elif name in VALUES | SHAPES or (name == 'repeat_interleave' and kwargs.get('output_size') is None):
        device_state.wait(name)


@contextlib.contextmanager
def _own_random_numbers(func: Any, leaves: list) -> Iterator[None]:
    """Draw the random numbers of the device from its own generator."""
    if torch.Tag.nondeterministic_seeded not in func.tags:
        yield
        return
    of_host = torch.default_generator.get_state()
    torch.default_generator.set_state(device_state.generator.get_state())
    try:
        yield
    finally:
        device_state.generator.set_state(torch.default_generator.get_state())
        torch.default_generator.set_state(of_host)


def _pin(tensor: Tensor) -> Tensor:
    tensor.untyped_storage().is_pinned_for_pretend = True
    return tensor


def _is_pinned(tensor: Tensor) -> bool:
    return getattr(tensor.untyped_storage(), 'is_pinned_for_pretend', False)


class _Functions(TorchFunctionMode):
    """Pinned memory, and reads of host tensors that no operation sees."""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.pin_memory:
            if isinstance(args[0], PretendTensor):
                raise RuntimeError(f"cannot pin '{NAME}' only dense CPU tensors can be pinned")
            return args[0] if _is_pinned(args[0]) else _pin(args[0].clone())
        if func is Tensor.is_pinned:
            return not isinstance(args[0], PretendTensor) and _is_pinned(args[0])
        if func in (Tensor.tolist, Tensor.numpy, Tensor.__array__) and _is_on_host(args[0]):
            device_state.check_arrived([args[0]], func.__name__)
        return func(*args, **kwargs)


class _Operations(TorchDispatchMode):
    """Operations without a tensor of the device, such as ``torch.zeros(2, device='pretend')``."""

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        return _run(func, args, kwargs or {})


class Event:
    """A point in the work of the device."""

    def record(self, _stream: Any = None) -> None:
        self._operations = device_state.operations

    def query(self) -> bool:
        if device_state.operations - self._operations < LAG:
            return False
        device_state.catch_up()
        return True

    def synchronize(self) -> None:
        device_state.wait('synchronize')


class _Module:
    """What PyTorch looks for in ``torch.pretend``."""

    Event = Event

    def is_initialized(self) -> bool:
        return True

    def is_available(self) -> bool:
        return True

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return 1

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        device_state.generator.manual_seed(seed)

    def get_rng_state(self, _device: Any = 0) -> Tensor:
        return device_state.generator.get_state()

    def set_rng_state(self, state: Tensor, _device: Any = 0) -> None:
        device_state.generator.set_state(state)

    def synchronize(self, _device: Any = None) -> None:
        device_state.wait('synchronize')

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


def _register_casts() -> list[torch.library.Library]:
    """Let autocast choose the precision of the operations of the device."""
    others = torch.library.Library('_', 'IMPL')
    others.fallback(torch.library.fallthrough_kernel, 'AutocastPrivateUse1')
    library = torch.library.Library('aten', 'IMPL')
    keys = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)

    def cast_to(choose: Callable[[], torch.dtype], overload: Any) -> Callable:
        def run(*args: Any, **kwargs: Any) -> Any:
            dtype = choose()

            def cast(value: Any) -> Any:
                fits = isinstance(value, Tensor) and value.device.type == NAME and value.is_floating_point()
                return value.to(dtype) if fits and value.dtype != torch.float64 else value

            with torch._C._ExcludeDispatchKeyGuard(keys):
                return overload(*tree_map(cast, args), **tree_map(cast, kwargs))

        return run

    for names, choose in (
        (LOW_PRECISION, lambda: torch.get_autocast_dtype(NAME)),
        (FLOAT32, lambda: torch.float32),
    ):
        for name in names.split():
            packet, _, overload = name.partition('.')
            operator = getattr(getattr(aten, packet), overload or 'default')
            library.impl(operator, cast_to(choose, operator), 'AutocastPrivateUse1')
    return [library, others]


def _without_modes(function: Callable) -> Callable:
    """Return ``function``, during which only tensors of the device know the device."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        with _disable_current_modes():
            return function(*args, **kwargs)

    return run


def is_registered() -> bool:
    """Return whether this process has the device."""
    return torch._C._get_privateuse1_backend_name() == NAME


def register() -> None:
    """Give this process the device, once and for all."""
    from mmengine.device import utils
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    _setup_privateuseone_for_python_backend(NAME, backend_module=_Module())
    torch._C._set_only_lift_cpu_tensors(True)
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    globals()['_casts'] = _register_casts()
    # torch.jit cannot trace what runs in a dispatch mode; the networks that are traced here are on the host
    torch._C._create_graph_by_tracing = _without_modes(torch._C._create_graph_by_tracing)
    # map_location=NAME loads to the host, from where load_state_dict copies
    torch.serialization.register_package(
        5, lambda _storage: None, lambda storage, location: storage if location.startswith(NAME) else None
    )
    utils.DEVICE = NAME  # where the Runner puts its model


@contextlib.contextmanager
def in_use() -> Iterator[None]:
    """Let all operations of this thread know the device."""
    with _Functions(), _Operations():
        yield


@contextlib.contextmanager
def recorded_waits() -> Iterator[list[Wait]]:
    """Record the waits for the device within this context."""
    device_state.waits = waits = []
    yield waits
    device_state.waits = []
