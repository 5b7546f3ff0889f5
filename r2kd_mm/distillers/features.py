"""Compute losses between inner features of student and teacher, by mmrazor's recorders, connectors and losses."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from inspect import signature
from typing import Any

import torch
from mmrazor.models.distillers import ConfigurableDistiller
from mmrazor.models.task_modules.recorder import ModuleInputsRecorder, RecorderManager
from torch import Tensor, nn

from r2kd_mm.distillers.objective import scaled
from r2kd_mm.registry import MODELS
from r2kd_mm.teachers.targets import no_gradient

# Those whose records belong to one network: recorders of functions and methods see student and teacher alike.
RECORDERS = ('ModuleOutputs', 'ModuleInputs')


class Features:
    """Feature losses between student and teacher on the clean images; without a config there are none.

    Attributes:
        module: The recorders, connectors and losses; ``None`` without a config.
        stopped: Whether features are no longer matched.

    Args:
        config: See :func:`build_features`.
    """

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        self.module: Any = None if config is None else build_features(config)
        self.stopped = False

    @property
    def acts(self) -> bool:
        """Return whether features are matched now."""
        return self.module is not None and not self.stopped

    def of_student(self, network: nn.Module) -> AbstractContextManager:
        """Record the features of the student while the context is open."""
        return recorded(self.module.student_recorders, network) if self.acts else nullcontext()

    def of_teacher(self, network: nn.Module) -> AbstractContextManager:
        """Record the features of the teacher while the context is open."""
        return recorded(self.module.teacher_recorders, network) if self.acts else nullcontext()

    def losses(self, labels: object, share: float) -> dict[str, Tensor]:
        """Return the losses of what was recorded last.

        Args:
            labels: Not used.
            share: The part of this process in the mean over all processes.
        """
        if self.acts:
            return {f'features.{name}': loss for name, loss in scaled(feature_losses(self.module), share).items()}
        if self.module is not None and next(self.module.parameters(), None) is not None:
            return {'features.loss': no_gradient(self.module)}
        return {}

    def forget(self) -> None:
        """Free what was recorded last, which no copy of a model may hold."""
        if self.module is not None:
            forget(self.module)


def build_features(config: Mapping[str, Any]) -> ConfigurableDistiller:
    """Build mmrazor's distiller of features, and refuse a config that it would misread or leave untrained.

    Args:
        config: ``dict(type=ConfigurableDistiller, student_recorders=..., teacher_recorders=..., connectors=...,
            distill_losses=..., loss_forward_mappings=...)``.

    Raises:
        TypeError: It is no such dict.
        ValueError: It is another distiller, has deliveries, records something else than modules, or a mapping names
            what is not there; or a loss has no mapping, and so would never be computed.
    """
    if not isinstance(config, Mapping):
        raise TypeError(f'features must be a config dict(type=ConfigurableDistiller, ...), got {config!r}')
    fields = dict(config)
    mappings = fields.pop('loss_forward_mappings', None) or {}
    if fields.get('distill_deliveries'):
        raise ValueError('features take no distill_deliveries: student and teacher see the same images here anyway')
    for side in ('student_recorders', 'teacher_recorders'):
        _check_recorders(side, fields.get(side) or {})
    features = MODELS.build(fields)
    if type(features) is not ConfigurableDistiller:
        raise ValueError(
            f'features must be a ConfigurableDistiller of mmrazor, got a {type(features).__name__}, which only an '
            'algorithm of mmrazor can prepare'
        )
    _check_mappings(features, mappings)
    features.loss_forward_mappings = mappings
    return features


def check_sources(recorders: RecorderManager, network: nn.Module, owner: str) -> None:
    """Refuse recorders whose module ``network`` does not have.

    Args:
        recorders: Recorders of one network.
        network: The network.
        owner: Whose they are, for the message: ``'student'``.

    Raises:
        ValueError: A source is no module of the network.
    """
    modules = [name for name, _ in network.named_modules() if name]
    for name, recorder in recorders.recorders.items():
        if recorder.source not in modules:
            close = difflib.get_close_matches(recorder.source, modules, n=3) or modules[:3]
            raise ValueError(
                f'{owner}_recorders: {name!r} records {recorder.source!r}, and the {owner} '
                f'({type(network).__name__}) has no such module; the closest are {", ".join(map(repr, close))}'
            )


@contextmanager
def recorded(recorders: RecorderManager, network: nn.Module) -> Iterator[None]:
    """Keep what goes through the recorded modules of ``network`` while the context is open, as it is at that moment.

    The hooks are gone afterwards, so that copies of the network have none, and modules may be exchanged.

    Args:
        recorders: Recorders of the network.
        network: Network that has all recorded modules.
    """
    with ExitStack() as records:
        for recorder in recorders.recorders.values():
            module = network.get_submodule(recorder.source)
            if isinstance(recorder, ModuleInputsRecorder):  # before the module may change them in place
                handle = module.register_forward_pre_hook(_record_inputs(recorder))
            else:
                handle = module.register_forward_hook(recorder.forward_hook)
            records.callback(handle.remove)
            recorder._initialized = True  # what initialize() does besides adding a hook for good
        records.enter_context(recorders)
        yield


def _record_inputs(recorder: ModuleInputsRecorder) -> Callable[[nn.Module, tuple], None]:
    return lambda module, inputs: recorder.forward_hook(module, inputs, None)


def feature_losses(features: ConfigurableDistiller) -> dict[str, Tensor]:
    """The losses of what was recorded last, by name.

    Raises:
        ValueError: A recorder has nothing, or a loss cannot be made of features of these shapes.
    """
    losses = {}
    for loss_name, mapping in features.loss_forward_mappings.items():
        arguments = {}
        for argument, record in mapping.items():
            try:
                arguments[argument] = features.get_record(**record)
            except (AssertionError, TypeError, RuntimeError) as error:
                raise ValueError(f'features: {_describe(argument, record)} of {loss_name!r}: {_line(error)}') from error
        losses[loss_name] = _compute(features, loss_name, arguments)
    return losses


def forget(features: ConfigurableDistiller) -> None:
    """Free what was recorded last, which no copy of a model may hold."""
    for recorders in (features.student_recorders, features.teacher_recorders):
        for recorder in recorders.recorders.values():
            recorder.reset_data_buffer()


def _compute(features: ConfigurableDistiller, name: str, arguments: dict[str, Any]) -> Tensor:
    shapes = {argument: tuple(value.shape) for argument, value in arguments.items() if isinstance(value, Tensor)}
    if _would_repeat(list(shapes.values())):
        raise ValueError(_mismatch(features, name, shapes, 'they would be compared by repeating the smaller one'))
    try:
        return features.distill_losses[name](**arguments)
    except (AssertionError, RuntimeError, ValueError) as error:
        if len(set(shapes.values())) < 2:
            raise
        raise ValueError(_mismatch(features, name, shapes, _line(error))) from error


def _would_repeat(shapes: Sequence[tuple[int, ...]]) -> bool:
    """Return whether arithmetic would accept tensors, or the maps in them, of these shapes though they differ."""
    for sizes in (shapes, [shape[2:] for shape in shapes]):
        if len(set(sizes)) > 1:
            try:
                torch.broadcast_shapes(*sizes)
            except RuntimeError:
                continue
            return True
    return False


def _mismatch(features: ConfigurableDistiller, name: str, shapes: Mapping[str, tuple[int, ...]], reason: str) -> str:
    mapping = features.loss_forward_mappings[name]
    given = ' and '.join(f'{shape} ({_describe(argument, mapping[argument])})' for argument, shape in shapes.items())
    return (
        f'features: {name!r} ({type(features.distill_losses[name]).__name__}) cannot compare {given}: {reason}; give '
        "one side a connector, such as dict(type='TorchNNConnector', module_name='Conv2d', "
        'module_args=dict(in_channels=..., out_channels=..., kernel_size=1))'
    )


def _describe(argument: str, record: Mapping[str, Any]) -> str:
    side = 'student' if record['from_student'] else 'teacher'
    connector = f' through connector {record["connector"]!r}' if record.get('connector') else ''
    return f'{argument}, {side} recorder {record["recorder"]!r}{connector}'


def _line(error: Exception) -> str:
    return ' '.join(str(error).split()) or type(error).__name__


# -------------------------------------------------------------------------------------------------------------- checks
def _check_recorders(side: str, recorders: Mapping[str, Mapping[str, Any]]) -> None:
    for name, recorder in recorders.items():
        if recorder.get('type') not in RECORDERS or not isinstance(recorder.get('source'), str):
            raise ValueError(
                f'{side}: {name!r} must be dict(type=..., source=<name of a module>) with a type of '
                f'{", ".join(map(repr, RECORDERS))}, got {dict(recorder)}'
            )


def _check_mappings(features: ConfigurableDistiller, mappings: Mapping[str, Mapping[str, Any]]) -> None:
    losses = features.distill_losses
    if not losses:
        raise ValueError("features need distill_losses, such as dict(loss_feature=dict(type='L2Loss'))")
    for unmapped in losses.keys() - mappings.keys():
        raise ValueError(f'features: {unmapped!r} has no entry in loss_forward_mappings, so it would never be computed')
    for name, mapping in mappings.items():
        _check_name(f'loss_forward_mappings names the loss {name!r}', name, losses, 'distill_losses')
        parameters = signature(losses[name].forward).parameters
        for argument, record in mapping.items():
            where = f'loss_forward_mappings[{name!r}]'
            _check_name(f'{where} has the argument {argument!r}', argument, parameters, type(losses[name]).__name__)
            if not isinstance(record.get('from_student'), bool) or 'recorder' not in record:
                raise ValueError(
                    f'{where}[{argument!r}] must be dict(recorder=<name>, from_student=<True or False>), '
                    f'got {dict(record)}'
                )
            side = 'student_recorders' if record['from_student'] else 'teacher_recorders'
            recorders = getattr(features, side).recorders
            recorder, connector = record['recorder'], record.get('connector')
            _check_name(f'{where}[{argument!r}] names the recorder {recorder!r}', recorder, recorders, side)
            if connector is not None:
                claim = f'{where}[{argument!r}] names the connector {connector!r}'
                _check_name(claim, connector, features.connectors, 'connectors')


def _check_name(claim: str, name: str, known: Mapping[str, Any], where: str) -> None:
    if name not in known:
        close = difflib.get_close_matches(name, list(known), n=1)
        guess = f'; did you mean {close[0]!r}?' if close else ''
        raise ValueError(f'features: {claim}, and {where} has only {", ".join(map(repr, known)) or "nothing"}{guess}')
