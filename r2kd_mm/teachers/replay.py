"""Replay: repeat each image's random augmentation every few epochs, so that stored teacher logits can be reused."""

from __future__ import annotations

import os
import zlib
from collections.abc import Collection, Mapping, Sequence

import torch
from mmpretrain.structures import DataSample
from torch import Tensor

from r2kd_mm.augmentations import SampleDraws
from r2kd_mm.devices import moved
from r2kd_mm.engine.seeding import SampleIndex, derived_seed
from r2kd_mm.teachers.store import LogitStore

REPEATED_IMAGES = (
    'a replay keeps the logits of one view an image and round, and the sampler of train_dataloader gives some images '
    'several times in an epoch, each time with other draws; take DefaultSampler or PairedSampler (RepeatDataset and '
    'ClassBalancedDataset repeat images as data of their own, which a replay keeps apart), or no replay'
)


class Replay:
    """Random augmentation draws that repeat every ``cycle`` epochs, and the stored teacher logits for these draws.

    The draws for an image's augmented view depend only on (seed, round, image), where the round is the epoch modulo the
    cycle. The mixing partner of an image is its neighbour in the batch (:class:`~r2kd_mm.engine.PairedSampler`).

    Attributes:
        store: The logits on disk.

    Args:
        folder: Folder of the stores, see :class:`~r2kd_mm.teachers.store.LogitStore`.
        dtype: Type of the stored logits.
        top_k: Number of logits kept for each image.
    """

    def __init__(self, folder: str | os.PathLike, dtype: str = 'float16', top_k: int | None = None) -> None:
        self.store = LogitStore(folder, dtype, top_k)
        self._seed = 0
        self._made_from: Mapping[str, str] = {}
        self._mixed_views: Collection[str] = ()

    def open(
        self,
        made_from: Mapping[str, str],
        seed: int,
        num_classes: int,
        num_images: int,
        cycle: int,
        views: Sequence[str],
        mixed_views: Collection[str] = (),
    ) -> list[str]:
        """Get ready for a run of ``seed``, in which the images of ``mixed_views`` are made of two images each.

        See :meth:`LogitStore.open` for the other arguments and for what is returned.
        """
        self._seed = seed
        self._made_from = made_from
        self._mixed_views = mixed_views
        return self.store.open(dict(made_from, seed=str(seed)), num_classes, num_images, cycle, views)

    def check_origin(self, made_from: Mapping[str, str]) -> None:
        """Refuse teachers that changed after the replay was opened, which their logits would not belong to.

        Args:
            made_from: What decides the teachers' logits now, by name.

        Raises:
            ValueError: It is not what it was.
        """
        changed = [name for name, now in made_from.items() if self._made_from.get(name, now) != now]
        if changed:
            raise ValueError(
                f'the teachers changed while the run went on ({", ".join(changed)}): a file of weights is not the one '
                'that the stored logits were made from; put the old file back, or start again with the new one'
            )

    def draws(self, data_samples: Sequence[DataSample] | None) -> SampleDraws:
        """The draws of the augmented view of a batch."""
        number, places = _drawn_as(data_samples)
        seeds = [derived_seed('view', self._seed, number, int(place)) for place in places]
        return SampleDraws(seeds, torch.arange(len(places)) ^ 1)

    def read(self, views: Mapping[str, Tensor], data_samples: Sequence[DataSample] | None) -> dict[str, Tensor] | None:
        """The logits of each view of a batch, on the device of its images; ``None`` unless all are in the store.

        Logits that were made for another input are not in the store.

        Args:
            views: Images by view.
            data_samples: They say which images of the data set these are, of which round, and of which input.
        """
        number, places = _drawn_as(data_samples)
        stored = {}
        for view, batch in views.items():
            logits = self.store.read(view, number, [int(place) for place in places], self._inputs(view, places))
            if logits is None:
                return None
            stored[view] = moved(logits, batch.device)
        return stored

    def write(self, logits: Mapping[str, Tensor], data_samples: Sequence[DataSample] | None) -> None:
        """Keep the logits of each view of a batch, shape ``(N, num_classes)``."""
        number, places = _drawn_as(data_samples)
        for view, of_view in logits.items():
            self.store.write(view, number, [int(place) for place in places], self._inputs(view, places), of_view)

    def _inputs(self, view: str, places: Sequence[SampleIndex]) -> list[int]:
        """Checksum of the input of each image in a view; of two images where the view mixes them."""
        inputs = [place.checksum for place in places]
        if view not in self._mixed_views:
            return inputs
        return [zlib.crc32(inputs[number ^ 1].to_bytes(4, 'little'), own) for number, own in enumerate(inputs)]


def _drawn_as(data_samples: Sequence[DataSample] | None) -> tuple[int, list[SampleIndex]]:
    """The round that a batch is drawn in, and its images as places in the data set."""
    places = [sample.get('sample_idx') for sample in data_samples or ()]
    if not places or not all(isinstance(place, SampleIndex) for place in places):
        raise ValueError(
            'a replay must know the image and the round of each sample: train by ResumableTrainLoop(cycle=...), whose '
            'data set notes them in each sample'
        )
    if any(place.copy for place in places):
        raise ValueError(REPEATED_IMAGES)
    return places[0].epoch, places
