"""List the settings of a distiller that exclude each other, in one table for error messages, documents and tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple

from r2kd_mm.distillers.objective import needs_target


class Combination(NamedTuple):
    """Two settings that exclude each other.

    Args:
        first: A field and its setting, in Markdown.
        second: The field and setting that ``first`` excludes, in Markdown.
        found: Function of the fields; yields a dict for each conflict, which fills the placeholders of ``message``.
        message: Error message with placeholders: the reason, and the way out.

    Example:
        >>> FORBIDDEN[0].first, FORBIDDEN[0].second
        ('`consistency`', 'no `augmentation`')
    """

    first: str
    second: str
    found: Callable[[Any], Iterator[dict[str, Any]]]
    message: str


def check_combinations(table: tuple[Combination, ...], **fields: Any) -> None:
    """Refuse the combinations in ``table``.

    Args:
        table: The combinations.
        fields: The fields of a distiller as its parts were built; a field that is not given is ``None``.

    Raises:
        ValueError: One of them is there.

    Example:
        >>> check_combinations(FORBIDDEN, features=object(), joint_views=True)
        Traceback (most recent call last):
        ...
        ValueError: features are those of the clean images alone, which joint_views mixes; leave one out
    """
    built = _Fields(**fields)
    for combination in table:
        for names in combination.found(built):
            raise ValueError(combination.message.format(**names))


def as_markdown(table: tuple[Combination, ...]) -> str:
    """Return the table for the documents.

    Example:
        >>> print(as_markdown(FORBIDDEN[:1]))
        | setting | does not go with |
        | --- | --- |
        | `consistency` | no `augmentation` |
    """
    rows = [f'| {combination.first} | {combination.second} |' for combination in table]
    return '\n'.join(['| setting | does not go with |', '| --- | --- |', *rows])


class _Fields(SimpleNamespace):
    def __getattr__(self, name: str) -> None:
        return None


def _when(condition: Callable[[Any], Any]) -> Callable[[Any], Iterator[dict[str, Any]]]:
    """Make ``found`` of a condition; the message may name the classes of ``augmentation`` and ``consistency``."""

    def found(fields: Any) -> Iterator[dict[str, Any]]:
        if condition(fields):
            yield {name: type(getattr(fields, name)).__name__ for name in ('augmentation', 'consistency')}

    return found


def _members_in_train_mode(fields: Any) -> Iterator[dict[str, Any]]:
    members = fields.ensemble.members if fields.replay and fields.ensemble else {}
    yield from (dict(name=name) for name, member in members.items() if member.mode == 'train')


def _losses_over_all_classes(fields: Any) -> Iterator[dict[str, Any]]:
    top_k = fields.replay and fields.replay.store.top_k
    for name, loss in (fields.losses or {}).items() if top_k else ():
        for part in getattr(loss, 'parts', ()):
            if part.all_classes:
                yield dict(top_k=top_k, name=name, kind=type(loss).__name__, part=part.name)


FORBIDDEN = (
    Combination(
        '`consistency`',
        'no `augmentation`',
        _when(lambda of: of.consistency and of.augmentation is None),
        'consistency compares the augmented view with the clean one; give an augmentation as well',
    ),
    Combination(
        '`consistency`',
        'an `augmentation` that mixes labels',
        _when(lambda of: of.consistency and of.augmentation is not None and not of.augmentation.keeps_labels),
        'consistency compares an image with its view, which {augmentation} makes of several images; take an '
        'augmentation that keeps labels, such as AutoAugment or Cutout',
    ),
    Combination(
        '`consistency`',
        'a loss that needs labels as the `consistency`',
        _when(lambda of: of.consistency and needs_target(of.consistency)),
        'consistency compares the student with itself, and {consistency} needs labels; take a loss that does not, such '
        'as KLDivergenceLoss',
    ),
    Combination(
        '`features`',
        '`replay`',
        _when(lambda of: of.features and of.replay),
        'a replay holds the logits of the teachers and no features; leave features or replay out',
    ),
    Combination(
        '`features`',
        '`joint_views`',
        _when(lambda of: of.features and of.joint_views),
        'features are those of the clean images alone, which joint_views mixes; leave one out',
    ),
    Combination(
        '`features`',
        '`compile_student`',
        _when(lambda of: of.features and of.compile_student),
        'a compiled student shows no features; leave features or compile_student out',
    ),
    Combination(
        '`replay`',
        'an `augmentation` whose views depend on the batch (`CutMixPick`)',
        _when(lambda of: of.replay and of.augmentation is not None and of.augmentation.depends_on_batch),
        'a replay needs views that do not depend on the batch, unlike those of {augmentation}; take another '
        'augmentation, or no replay',
    ),
    Combination(
        '`replay`',
        '`batch_augments` of the `data_preprocessor`',
        _when(lambda of: of.replay and getattr(of.data_preprocessor, 'batch_augments', None) is not None),
        'a replay needs clean images that do not depend on the batch, and batch_augments of the data_preprocessor '
        'mixes them again in each step; leave batch_augments or replay out',
    ),
    Combination(
        '`replay` with `top_k`',
        'a loss that compares all classes, such as one of ranks',
        _losses_over_all_classes,
        'replay keeps the {top_k} largest logits (top_k), and {name} ({kind}) compares the {part}, all of them: the '
        'other classes would be ties that the student learns; leave top_k out, which takes 2 bytes a class, view, '
        'image and round, or leave the loss out',
    ),
    Combination(
        '`replay`',
        '`LearnedWeights`',
        _when(lambda of: of.replay and of.ensemble and of.ensemble.weighting.is_learned),
        'a replay needs logits that do not change in training, unlike those of learned weights; take '
        'ConfidenceWeights or fixed weights, or no replay',
    ),
    Combination(
        '`replay`',
        "a teacher in `mode='train'`",
        _members_in_train_mode,
        "a replay needs logits that do not depend on the batch, unlike those of {name} in mode 'train'; set that to "
        "'eval', or take no replay",
    ),
)
FORBIDDEN_IN_R2KD = (
    Combination(
        '`R2KD`',
        'a `TeacherEnsemble` as the `teacher`',
        _when(lambda of: of.teacher_is_ensemble),
        'R2KD makes the ensemble of its teacher and the pruned copy itself; give it one teacher, or give the '
        'TeacherEnsemble to LogitDistiller with the same losses and augmentation',
    ),
    Combination(
        '`R2KD` with a `weighting`',
        'no `pruner`',
        _when(lambda of: of.weighting is not None and of.pruner is None),
        'weighting weighs the teacher and its pruned copy; give a pruner as well, or leave it out',
    ),
)
