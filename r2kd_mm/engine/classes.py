"""Check that networks and data sets have the same class names in the same order."""

from __future__ import annotations

from collections.abc import Sequence

from torch.utils.data import Dataset


def check_same_classes(
    known: Sequence[str] | None, given: Sequence[str] | None, owners: str, remedy: str = 'use the same for both'
) -> None:
    """Raise if two lists of class names differ in names or order, because a label would then mean two classes.

    Two lists without a common name, such as WordNet IDs and English words, only need the same length.

    Args:
        known: First list of class names; ``None`` or an empty list skips the check.
        given: Second list of class names; ``None`` or an empty list skips the check.
        owners: Owners of the two lists, for the error message, such as ``'the model and the data'``.
        remedy: Advice at the end of the error message.

    Raises:
        ValueError: The classes differ.
    """
    if not known or not given or list(known) == list(given):
        return
    if len(known) == len(given) and not set(known) & set(given):
        return
    pairs = enumerate(zip(known, given))
    place = next((place for place, (one, other) in pairs if one != other), min(len(known), len(given)))
    one, other = (repr(names[place]) if place < len(names) else 'missing' for names in (known, given))
    raise ValueError(
        f'{owners} do not have the same classes in the same order: {len(known)} and {len(given)} classes, and number '
        f'{place} is {one} in the first and {other} in the second; {remedy}'
    )


def classes_of(dataset: Dataset) -> Sequence[str] | None:
    """Return the class names of a data set in the order of the labels; ``None`` if it does not state them.

    Raises:
        ValueError: It joins data sets whose classes differ, so that a label has several meanings.
    """
    joined = [classes_of(member) for member in getattr(dataset, 'datasets', None) or ()]
    for other in joined[1:]:
        check_same_classes(joined[0], other, owners='two data sets that are joined')
    classes = getattr(dataset, 'metainfo', {}).get('classes')
    if classes is not None or not hasattr(dataset, 'dataset'):
        return classes or (joined[0] if joined else None)
    return classes_of(dataset.dataset)
