"""Combine several frozen teachers, and pruned copies of them, into one teacher with weighted logits."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from mmengine.logging import print_log
from torch import nn

from r2kd_mm.arguments import is_number
from r2kd_mm.checkpoint import digest_of_file, split_weights_name
from r2kd_mm.classifiers import num_classes
from r2kd_mm.pruning import Pruner
from r2kd_mm.registry import MODELS, build_component
from r2kd_mm.teachers.build import build_teacher
from r2kd_mm.teachers.frozen import FrozenNetworks, apart_from
from r2kd_mm.teachers.identity import describe, digest_of_weights
from r2kd_mm.teachers.targets import MAIN_MEMBER
from r2kd_mm.teachers.weighting import FixedWeights, Weighting

MODES = ('eval', 'train')
WEIGHT_TOLERANCE = 1e-6  # of the sum: weights are written with a few digits


@dataclass(frozen=True)
class Member:
    """One network of a :class:`TeacherEnsemble`: a teacher, or a copy of another member.

    Args:
        teacher: See :func:`~r2kd_mm.teachers.build.build_teacher`.
        teacher_ckpt: Path or URL of the teacher's weights.
        copy_of: Instead of a teacher, the name of the member to copy after that member is loaded and pruned.
        pruner: Prunes the network after its weights are loaded.
        weight: Weight of the network's logits in the targets, in ``[0, 1]``; ``None`` if all members weigh the same.
        mode: ``'eval'``; or ``'train'`` to normalise by the statistics of each batch and keep dropout.
    """

    teacher: dict | str | nn.Module | None = None
    teacher_ckpt: str | None = None
    copy_of: str | None = None
    pruner: Pruner | None = None
    weight: float | None = None
    mode: str = 'eval'


@MODELS.register_module()
class TeacherEnsemble:
    """Several teachers and copies of them; the student learns from the weighted sum of their logits.

    It is the ``teacher`` of a :class:`~r2kd_mm.distillers.LogitDistiller`. One member is called ``'teacher'`` and is
    not a copy. Augmentations ask it, its features are matched, and its accuracy is shown as the teacher's.

    The pair of :class:`~r2kd_mm.distillers.R2KD` is::

        teacher=dict(
            type=TeacherEnsemble,
            members=dict(
                teacher=dict(teacher=resnet, teacher_ckpt='resnet.pth', weight=0.7),
                pruned_teacher=dict(copy_of='teacher', pruner=dict(type=MagnitudePruner, amount=0.1), weight=0.3)))

    Attributes:
        members: Name to :class:`Member`, with pruners built.
        weighting: The weights.

    Args:
        members: Name to the fields of a :class:`Member`; a name is an identifier without ``loss``.
        weighting: ``None``, the weights of the members for every image; or ``dict(type=...)`` of a
            :class:`~r2kd_mm.teachers.weighting.Weighting`, which starts from them.

    Raises:
        ValueError: A member, a name, a weight or a mode is missing, unknown, or out of range; a copy is of an unknown
            member or, in the end, of itself.
        TypeError: A part is of another type than expected, or has unknown fields.

    Example:
        >>> resnet = nn.Linear(4, 3)  # stands for a network that is ready
        >>> pruned = dict(copy_of='teacher', pruner=dict(type='MagnitudePruner', amount=0.1), weight=0.3)
        >>> ensemble = TeacherEnsemble(dict(teacher=dict(teacher=resnet, weight=0.7), pruned_teacher=pruned))
        >>> ensemble.originals, ensemble.weighting
        (['teacher'], FixedWeights(shares=[0.7, 0.3]))
    """

    def __init__(self, members: Mapping[str, Mapping[str, Any]], weighting: Mapping[str, Any] | None = None) -> None:
        if not isinstance(members, Mapping) or not members:
            raise TypeError(f'members must be a dict of at least one named teacher, got {members!r}')
        self.members = {name: _read_member(name, member) for name, member in members.items()}
        main = self.members.get(MAIN_MEMBER)
        if main is None or main.copy_of is not None:
            raise ValueError(
                f'one member must be called {MAIN_MEMBER!r} and be no copy: the one that augmentations ask; '
                f'got {", ".join(self.members)}'
            )
        self._build_order = self._sort_copies()
        self.weighting = _build_weighting(weighting, self._shares())

    def __deepcopy__(self, memo: dict) -> TeacherEnsemble:
        return self  # a copy of a distiller, such as its moving average, shares the teachers

    @property
    def originals(self) -> list[str]:
        """Names of the members that are not copies."""
        return [name for name, member in self.members.items() if member.copy_of is None]

    @property
    def is_in_files(self) -> bool:
        """Return whether one process can load the weights of all teachers at any time, which a URL does not allow."""
        originals = [self.members[name] for name in self.originals]
        return all(
            not isinstance(of.teacher, nn.Module)
            and of.teacher_ckpt is not None
            and Path(split_weights_name(of.teacher_ckpt)[0]).is_file()
            for of in originals
        )

    def build(
        self, allow_untrained: bool, check: Callable[[str, nn.Module], None], student: nn.Module
    ) -> FrozenNetworks:
        """Build all members: load the weights first, then prune, then copy.

        Args:
            allow_untrained: Accept teachers without a checkpoint.
            check: Called with the name of each teacher and the teacher, before it is pruned or copied.
            student: Shares no tensor with the teachers that are built: it is trained, and they are frozen.

        Raises:
            ValueError: A teacher has no weights or others than its checkpoint; there is nothing to prune; or the
                members know different numbers of classes.
            FileNotFoundError: A checkpoint is missing.
        """
        networks: dict[str, nn.Module] = {}
        for name in self._build_order:
            member = self.members[name]
            if member.copy_of is None:
                network = apart_from(student, self._build_original(name, allow_untrained, check), name)
            else:
                network = networks[member.copy_of]
            if member.pruner is not None:
                network, report = member.pruner(network)
                print_log(f'{name.replace("_", " ").capitalize()}: {member.pruner}\n{report}', logger='current')
            elif member.copy_of is not None:
                network = copy.deepcopy(network)
            networks[name] = network
        classes = {name: num_classes(network) for name, network in networks.items()}
        if len(set(classes.values()) - {None}) > 1:
            raise ValueError(f'all teachers must know the same classes, got num_classes={classes}')
        frozen = FrozenNetworks({name: networks[name] for name in self.members})
        for name, network in frozen.items():
            network.train(self.members[name].mode == 'train')
        return frozen

    def without_networks(self) -> TeacherEnsemble:
        """This ensemble without the networks that were given ready: who has built it has them."""
        described = copy.copy(self)
        described.members = {
            name: replace(member, teacher=None) if isinstance(member.teacher, nn.Module) else member
            for name, member in self.members.items()
        }
        return described

    def made_from(self, networks: Mapping[str, nn.Module]) -> dict[str, str]:
        """Describe everything that decides the logits, by name.

        Args:
            networks: The members; only those whose weights are in no file are asked.
        """
        origins = {name: self._origin(name, networks) for name in self.members}
        return origins if len(origins) == 1 else dict(origins, weighting=describe(self.weighting))

    def digests(self, networks: Mapping[str, nn.Module]) -> dict[str, str]:
        """SHA-256 of what the weights of each member that is no copy came from, by name.

        Args:
            networks: The members; only those whose weights are in no file are asked.
        """
        return {name: self._digest(name, networks) for name in self.originals}

    def _build_original(self, name: str, allow_untrained: bool, check: Callable[[str, nn.Module], None]) -> nn.Module:
        member = self.members[name]
        assert member.teacher is not None
        try:
            network = build_teacher(member.teacher, member.teacher_ckpt, allow_untrained)
            check(name, network)
        except (FileNotFoundError, TypeError, ValueError) as error:
            if len(self.originals) == 1:
                raise
            raise type(error)(f'member {name!r} of the teachers: {error}') from error
        return network

    def _origin(self, name: str, networks: Mapping[str, nn.Module]) -> str:
        member = self.members[name]
        if member.copy_of is not None:
            origin = f'copy of {member.copy_of}'
        else:
            network = networks[name] if member.teacher is None else member.teacher  # given ready, or a config
            origin = f'{describe(network)} {self._digest(name, networks)}'
        return origin if member.pruner is None else f'{origin} pruned by {describe(member.pruner)}'

    def _digest(self, name: str, networks: Mapping[str, nn.Module]) -> str:
        checkpoint = self.members[name].teacher_ckpt
        if checkpoint is not None and Path(split_weights_name(checkpoint)[0]).is_file():
            return digest_of_file(checkpoint)
        return digest_of_weights(networks[name])

    def _sort_copies(self) -> list[str]:
        """The names, each behind the one that it is a copy of."""
        order: dict[str, None] = {}
        for name in self.members:
            chain: list[str] = []
            while name not in order:
                if name in chain:
                    circle = ', a copy of '.join([*chain[chain.index(name) :], name])
                    raise ValueError(f'no member can be a copy of itself, got {circle}; give one of them a teacher')
                chain.append(name)
                origin = self.members[name].copy_of
                if origin is None:
                    break
                if origin not in self.members:
                    raise ValueError(
                        f'member {name!r} is a copy of {origin!r}, and there is no such member; there are '
                        f'{", ".join(self.members)}'
                    )
                name = origin
            order.update(dict.fromkeys(reversed(chain)))
        return list(order)

    def _shares(self) -> list[float]:
        given = {name: member.weight for name, member in self.members.items() if member.weight is not None}
        if not given:
            return [1 / len(self.members)] * len(self.members)
        missing = [name for name in self.members if name not in given]
        if missing:
            raise ValueError(f'give a weight to every member or to none; {", ".join(missing)} has none')
        total = math.fsum(given.values())
        if abs(total - 1) > WEIGHT_TOLERANCE:
            raise ValueError(f'the weights of the members must sum to 1, got {given}, which sum to {total:g}')
        return list(given.values())


def as_ensemble(teacher: Any, teacher_ckpt: str | None) -> TeacherEnsemble:
    """The ``teacher`` of a distiller as an ensemble: of one member, unless it is an ensemble already.

    Raises:
        ValueError: ``teacher_ckpt`` is given next to an ensemble, whose teachers have their own.

    Example:
        >>> list(as_ensemble(nn.Linear(4, 3), None).members)
        ['teacher']
    """
    if not is_ensemble(teacher):
        return TeacherEnsemble({MAIN_MEMBER: dict(teacher=teacher, teacher_ckpt=teacher_ckpt)})
    if teacher_ckpt is not None:
        raise ValueError(
            f'each member of a TeacherEnsemble has a teacher_ckpt of its own, got {teacher_ckpt!r} next to it; set '
            f'teacher.members.{MAIN_MEMBER}.teacher_ckpt'
        )
    ensemble: Any = build_component(teacher, 'teacher', __name__) if isinstance(teacher, dict) else teacher
    return ensemble


def is_ensemble(teacher: Any) -> bool:
    """Return whether the ``teacher`` of a distiller is a :class:`TeacherEnsemble`, ready or as a config.

    Example:
        >>> is_ensemble(dict(type='TeacherEnsemble', members={})), is_ensemble(nn.Linear(4, 3))
        (True, False)
    """
    kind = teacher.get('type') if isinstance(teacher, Mapping) else type(teacher)
    return kind is TeacherEnsemble or (isinstance(kind, str) and kind.split('.')[-1] == TeacherEnsemble.__name__)


def _read_member(name: str, config: Mapping[str, Any]) -> Member:
    if not isinstance(name, str) or not name.isidentifier() or 'loss' in name:
        raise ValueError(f"the name of a member must be an identifier without 'loss' in it, got {name!r}")
    known = [field.name for field in fields(Member)]
    if not isinstance(config, Mapping) or not config.keys() <= set(known):
        raise TypeError(f'member {name!r} must be a dict of {", ".join(known)}, got {_short(config)}')
    member = Member(**config)
    if (member.teacher is None) == (member.copy_of is None):
        raise ValueError(f'member {name!r} needs either a teacher or copy_of, one of the two, got {_short(config)}')
    if member.copy_of is not None and member.teacher_ckpt is not None:
        raise ValueError(
            f'member {name!r} is a copy of {member.copy_of!r} and takes its weights; leave out teacher_ckpt'
        )
    if member.mode not in MODES:
        raise ValueError(f'the mode of member {name!r} must be one of {MODES}, got {member.mode!r}')
    if member.weight is not None and not (is_number(member.weight) and 0 <= member.weight <= 1):
        raise ValueError(f'the weight of member {name!r} is its share and must be in [0, 1], got {member.weight!r}')
    if member.pruner is not None:
        return replace(member, pruner=build_component(member.pruner, 'pruner', 'r2kd_mm.pruning'))
    return member


def _short(config: Any) -> str:
    return f'the fields {", ".join(config)}' if isinstance(config, Mapping) else repr(config)


def _build_weighting(config: Mapping[str, Any] | None, shares: list[float]) -> Weighting:
    if config is None:
        return FixedWeights(shares)
    if not isinstance(config, Mapping):
        raise TypeError(f'weighting must be a config dict(type=...), got {config!r}')
    if 'shares' in config:
        raise TypeError('weighting takes its shares from the members; give each member its weight')
    weighting = build_component({**config, 'shares': shares}, 'weighting', 'r2kd_mm.teachers.weighting')
    if not isinstance(weighting, Weighting):
        raise TypeError(f'weighting must be a Weighting of r2kd_mm.teachers.weighting, got {type(weighting).__name__}')
    return weighting
