"""Fold batch normalisation into the layer before it, if a trial run shows that the logits stay the same."""

from __future__ import annotations

import copy
import logging
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from r2kd_mm.classifiers import classifier_logits

FOLDABLE = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
RESHAPES = (torch.ops.aten.view.default, torch.ops.aten._unsafe_view.default)
# What folding may change in float64, relative to the largest value: rounding is near 1e-15, a mistake near 1.
FOLDING_TOLERANCE = 1e-8


class Pair(NamedTuple):
    """Names of a convolution or linear layer and of the batch normalisation that follows it."""

    linear: str
    norm: str


class Trial(NamedTuple):
    """The layers that were seen when a network ran.

    Args:
        pairs: What can be folded, in the order in which it ran.
        classifier: Name of the linear layer whose output is the logits, if there is one.
    """

    pairs: tuple[Pair, ...] = ()
    classifier: str | None = None


@torch.no_grad()
def try_out(network: nn.Module, images: Tensor) -> Trial:
    """Run a float64 copy of a classifier in eval mode to see which of its batch normalisations can be folded.

    A normalisation can be folded if its input is the output of a convolution or linear layer, or a view of that output
    with the channels at the same place, and nothing else uses it. Both layers must run once, and the folded layer must
    give what the two gave. A normalisation that also activates, such as timm's ``BatchNormAct2d``, leaves its
    activation behind. If the logits change all the same, nothing is folded.

    Args:
        network: The classifier.
        images: A few of its inputs, shape ``(N, C, H, W)``.

    Returns:
        What was seen; nothing where the network cannot run in float64, which is logged with the part that failed.
    """
    watched = copy.deepcopy(network).double()
    images = images.double()
    observer = _Observer(watched)
    try:
        with torch.autocast(images.device.type, enabled=False), observer:
            logits = classifier_logits(watched, images)
    except (RuntimeError, TypeError) as error:
        log(
            f'{type(network).__name__} cannot be tried out in float64, so nothing is folded; '
            f'{observer.running} failed: {summary(error)}'
        )
        return Trial()
    trial = observer.trial(logits)
    fold_batch_norms_(watched, trial.pairs)
    try:
        unchanged = _agree(classifier_logits(watched, images), logits)
    except AttributeError:  # what is left lacks an attribute that the network asks of its batch normalisation
        unchanged = False
    if not unchanged:
        log(f'the logits of {type(network).__name__} would change, so nothing is folded')
        return Trial(classifier=trial.classifier)
    return trial


@torch.no_grad()
def fold_batch_norms_(network: nn.Module, pairs: Iterable[Pair]) -> None:
    """Fold each batch normalisation into the layer before it, in float64, and leave the rest of it in its place."""
    for linear, norm in pairs:
        folded: Any = network.get_submodule(norm)
        _fold_(network.get_submodule(linear), folded)
        rest = _rest(folded)
        for parent in network.modules():
            for name, child in parent._modules.items():
                if child is folded:  # perhaps at several places
                    setattr(parent, name, rest)


def summary(error: Exception) -> str:
    """Return the first paragraph of an error's message, in one line."""
    return ' '.join(str(error).strip().split('\n\n')[0].split())


def log(message: str, level: int = logging.INFO) -> None:
    """Log a message of the teacher engine."""
    print_log(f'Teacher engine: {message}', logger='current', level=level)


def _rest(norm: _BatchNorm) -> nn.Module:
    """Return the submodules of a batch normalisation, such as an activation, in the order in which they run."""
    children = list(norm.children())
    return nn.Sequential(*children) if children else nn.Identity()


def _fold_(linear: Any, norm: _BatchNorm) -> None:
    def double(tensor: Tensor | None) -> Any:
        return None if tensor is None else tensor.double()

    weight, bias = fuse_conv_bn_weights(
        double(linear.weight),
        double(linear.bias),
        double(norm.running_mean),
        double(norm.running_var),
        norm.eps,
        double(norm.weight),
        double(norm.bias),
    )
    dtype = linear.weight.dtype
    linear.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
    linear.bias = nn.Parameter(bias.to(dtype), requires_grad=False)


class _Run(NamedTuple):
    """One run of a convolution or linear layer; ``outputs`` are its output and the views that lead to the norm."""

    linear: Any
    input: Tensor
    outputs: tuple[Tensor, ...]


class _Observer(TorchDispatchMode):
    """Watches, while it is active, what a network does with the outputs of its convolutions and linear layers."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.names = {module: name for name, module in network.named_modules()}
        self.times_run: Counter[nn.Module] = Counter()
        self.runs: dict[int, _Run] = {}  # by id of the last output, which is kept, so that no other tensor gets the id
        self.uses: Counter[int] = Counter()
        self.candidates: list[tuple[_Run, _BatchNorm]] = []
        self.entered = [network]  # the modules that run now, the innermost last
        self.hooks = [hook for module in self.names for hook in self._watch(module)]

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        for hook in self.hooks:
            hook.remove()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        self.uses.update(id(leaf) for leaf in tree_flatten((args, kwargs))[0] if id(leaf) in self.runs)
        result = func(*args, **(kwargs or {}))
        run = self.runs.get(id(args[0])) if func in RESHAPES else None
        if run is not None:
            self.runs[id(result)] = run._replace(outputs=(*run.outputs, result))
        return result

    @property
    def running(self) -> str:
        """The innermost module that runs, by name and type."""
        module = self.entered[-1]
        return f'{self.names.get(module, "")} ({type(module).__name__})'.strip()

    def trial(self, logits: Tensor) -> Trial:
        """Return what was seen, once the network has given its ``logits``."""
        pairs = tuple(
            Pair(self.names[run.linear], self.names[norm])
            for run, norm in self.candidates
            if self.times_run[run.linear] == self.times_run[norm] == 1
            and all(self.uses[id(output)] == 1 for output in run.outputs)
        )
        last = self.runs.get(id(logits))
        return Trial(pairs, self.names[last.linear] if last and type(last.linear) is nn.Linear else None)

    def _watch(self, module: nn.Module) -> Iterable[Any]:
        # no bound methods: a copy of the module would copy this observer with them
        yield module.register_forward_pre_hook(lambda *_: self.entered.append(module))
        if isinstance(module, (*FOLDABLE, _BatchNorm)):
            after = self._after_linear if isinstance(module, FOLDABLE) else self._after_norm
            yield module.register_forward_hook(lambda *run: after(*run))
        yield module.register_forward_hook(lambda *_: _nothing(self.entered.pop()))

    def _after_linear(self, linear: nn.Module, args: tuple, output: Tensor) -> None:
        self.times_run[linear] += 1
        if args:
            self.runs[id(output)] = _Run(linear, args[0], (output,))

    def _after_norm(self, norm: _BatchNorm, args: tuple, output: Tensor) -> None:
        self.times_run[norm] += 1
        run = self.runs.get(id(args[0])) if args else None
        if run is not None and _can_fold(run.linear, norm):
            folded = copy.deepcopy(run.linear)
            _fold_(folded, norm)
            rest = copy.deepcopy(_rest(norm))
            # what looks like these layers may do more: normalise its weight, or activate
            if _agree(rest(folded.forward(run.input).reshape(args[0].shape)), output):
                self.candidates.append((run, norm))
            else:
                log(f'{self.names[norm]} ({type(norm).__name__}) does more than normalise, so it is not folded')


def _nothing(_: Any) -> None:
    """Return None, which tells a forward hook's caller to keep the output."""


def _can_fold(linear: Any, norm: _BatchNorm) -> bool:
    # a weight that is computed from other parameters is none itself
    return (
        norm.running_mean is not None
        and 'weight' in linear._parameters
        and len(linear.weight) == len(norm.running_mean)
    )


def _agree(first: Tensor, second: Tensor) -> bool:
    return bool((first - second).abs().max() <= FOLDING_TOLERANCE * second.abs().max())
