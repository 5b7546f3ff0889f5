"""Learn from logits that a teacher has given before."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence

import torch
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from r2kd_mm.augmentations import SampleDraws
from r2kd_mm.distillers.logit_store import LogitStore
from r2kd_mm.engine.seeding import derived_seed


class Replay:
    """Draws that repeat every ``cycle`` epochs, and the logits that repeat with them.

    Every image draws its augmented view for itself, as a function of (seed, round, image), where the round is the epoch
    modulo the cycle; its partner is its neighbour in the batch (:class:`~r2kd_mm.engine.PairedSampler`).

    Attributes:
        store: The logits.

    Args:
        folder: See :class:`~r2kd_mm.distillers.logit_store.LogitStore`, like the other arguments.
        dtype: Likewise.
        top_k: Likewise.
    """

    def __init__(self, folder: str | os.PathLike, dtype: str = 'float16', top_k: int | None = None) -> None:
        self.store = LogitStore(folder, dtype, top_k)
        self._seed = 0

    def open(
        self,
        made_from: Mapping[str, str],
        seed: int,
        num_classes: int,
        num_images: int,
        cycle: int,
        views: Sequence[str],
    ) -> list[str]:
        """Get ready for a run of ``seed``; see :meth:`LogitStore.open` for the rest and for what is returned."""
        self._seed = seed
        return self.store.open(dict(made_from, seed=str(seed)), num_classes, num_images, cycle, views)

    def draws(self, data_samples: Sequence[DataSample]) -> SampleDraws:
        """The draws of the augmented view of a batch."""
        number, images = _drawn_as(data_samples)
        seeds = [derived_seed('view', self._seed, number, image) for image in images]
        return SampleDraws(seeds, torch.arange(len(images)) ^ 1)

    def read(self, views: Mapping[str, Tensor], data_samples: Sequence[DataSample]) -> dict[str, Tensor] | None:
        """The logits of each view of a batch, on the device of its images; ``None`` unless all are in the store.

        Args:
            views: Images by view.
            data_samples: They say which images of the data set these are, and of which round.
        """
        number, images = _drawn_as(data_samples)
        stored = {}
        for view, batch in views.items():
            logits = self.store.read(view, number, images)
            if logits is None:
                return None
            stored[view] = logits.to(batch.device)
        return stored

    def write(self, logits: Mapping[str, Tensor], data_samples: Sequence[DataSample]) -> None:
        """Keep the logits of each view of a batch, shape ``(N, num_classes)``."""
        number, images = _drawn_as(data_samples)
        for view, of_view in logits.items():
            self.store.write(view, number, images, of_view)


def _drawn_as(data_samples: Sequence[DataSample]) -> tuple[int, list[int]]:
    """The round that a batch is drawn in, and its images as places in the data set."""
    places = [sample.get('sample_idx') for sample in data_samples]
    if not all(hasattr(place, 'epoch') for place in places):
        raise ValueError(
            'a replay must know the image and the round of each sample: train by ResumableTrainLoop(cycle=...), and '
            "keep 'sample_idx' among the meta_keys of PackInputs"
        )
    return places[0].epoch, [int(place) for place in places]


def digest_of_weights(network: nn.Module) -> str:
    """SHA-256 of the names and values of a network's state."""
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
