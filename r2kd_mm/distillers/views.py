"""Make the views of a batch: its clean images and, if an augmentation is set, its augmented images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.logging import MessageHub
from torch import Tensor

from r2kd_mm.augmentations import BatchAugmentation, BatchDraws, ViewContext
from r2kd_mm.augmentations.draws import Draws

if TYPE_CHECKING:
    from r2kd_mm.teachers.replay import Replay

CLEAN, AUGMENTED = 'clean', 'augmented'
TeacherLogits = Callable[[Tensor], Tensor]


class Views:
    """Callable that returns the requested views of a batch by name, ``'clean'`` and ``'augmented'``.

    Args:
        augmentation: Makes the augmented view; ``None`` for the clean view only.
        context: Makes the augmentation's context from the random draws and a function that returns teacher logits.

    Example:
        >>> images = torch.zeros(2, 3, 8, 8)
        >>> list(Views()(images, ['clean'], teacher_logits=None))
        ['clean']
    """

    def __init__(
        self,
        augmentation: BatchAugmentation | None = None,
        context: Callable[[Draws, TeacherLogits], ViewContext] = ViewContext,
    ) -> None:
        self.augmentation = augmentation
        self.context = context
        self._iteration, self._repeats = -1, 0

    @property
    def names(self) -> tuple[str, ...]:
        """All views."""
        return (CLEAN,) if self.augmentation is None else (CLEAN, AUGMENTED)

    @property
    def mixed_names(self) -> tuple[str, ...]:
        """The views whose images are made of two images each."""
        return (AUGMENTED,) if self.augmentation is not None and self.augmentation.mixes_images else ()

    def __call__(
        self,
        images: Tensor,
        names: Iterable[str],
        teacher_logits: TeacherLogits,
        samples: Sequence[Any] | None = None,
        replay: Replay | None = None,
    ) -> dict[str, Tensor]:
        """Return the images ``(N, C, H, W)`` of each view.

        Args:
            images: Preprocessed images.
            names: The views to make.
            teacher_logits: Maps images to the logits of the teacher, for augmentations that ask it.
            samples: Say which images these are; only a replay needs them.
            replay: Repeats the draws of each image.
        """
        views = {}
        if CLEAN in names:
            views[CLEAN] = images
        if AUGMENTED in names:
            assert self.augmentation is not None
            draws: Draws = BatchDraws(self._generator()) if replay is None else replay.draws(samples)
            context = self.context(draws, teacher_logits)
            views[AUGMENTED] = self.augmentation(images, context)
        return views

    def _generator(self) -> torch.Generator:
        """Make the generator of this step's draws from the seed, the rank and the iteration.

        A step that is run again after ``--resume`` draws the same, and ranks draw differently. Steps within one
        iteration, and all steps outside a Runner, are counted.
        """
        iteration = MessageHub.get_current_instance().runtime_info.get('iter', 0)
        self._repeats = self._repeats + 1 if iteration == self._iteration else 0
        self._iteration = iteration
        entropy = [torch.initial_seed(), get_rank(), iteration, self._repeats]
        seed = int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> np.uint64(1))
        return torch.Generator().manual_seed(seed)
