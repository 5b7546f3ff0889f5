"""Define how unlabelled samples are marked, and find the labelled samples of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# In the metainfo of a data sample, and in what a data set says of a sample. No tensor: to look costs nothing on a GPU.
UNLABELLED = 'is_unlabelled'
NO_LABEL = -1  # stands for the label, so that a batch can be stacked


def labelled_rows(samples: Sequence[Any]) -> list[int] | None:
    """Return the indices of the samples that have a label; ``None`` if all samples have one.

    Args:
        samples: Data samples of mmpretrain.
    """
    rows = [row for row, sample in enumerate(samples) if not sample.get(UNLABELLED)]
    return None if len(rows) == len(samples) else rows
