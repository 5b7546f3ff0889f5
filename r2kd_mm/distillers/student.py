"""Reach the logits of a student without knowing how it is wrapped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn


def unwrap_student(architecture: nn.Module) -> nn.Module:
    """The classifier inside an architecture that may be an mmrazor algorithm, itself perhaps around another."""
    while not hasattr(architecture, 'head') and hasattr(architecture, 'architecture'):
        architecture = architecture.architecture
    return architecture


def logits_module(classifier: nn.Module) -> nn.Module:
    """The submodule whose output is the classifier's logits: the head, or for timm the network itself.

    Raises:
        TypeError: There is neither.
    """
    for name in ('head', 'model'):
        module = getattr(classifier, name, None)
        if isinstance(module, nn.Module):
            return module
    raise TypeError(
        f'the student {type(classifier).__name__} has no head, so it has no logits to distil; give an '
        'ImageClassifier with a head, or a TimmClassifier'
    )


@contextmanager
def recorded_outputs(module: nn.Module) -> Iterator[list[Tensor]]:
    """Collect what ``module`` returns, in order, while the context is open."""
    outputs: list[Tensor] = []
    handle = module.register_forward_hook(lambda _module, _args, output: outputs.append(output))
    try:
        yield outputs
    finally:
        handle.remove()
