"""Apply Mixup, CutMix, Cutout or CutMixPick (CutMix that keeps the hardest images) to a batch of normalised images."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real

import torch
from mmengine.dist import get_rank, get_world_size
from torch import Tensor

from r2kd_mm.arguments import check_switches
from r2kd_mm.augmentations.base import BatchAugmentation, ViewContext
from r2kd_mm.augmentations.draws import Draws
from r2kd_mm.devices import moved
from r2kd_mm.distributed import gather_rows
from r2kd_mm.functional import entropy, mixing
from r2kd_mm.registry import MODELS

PICK_VARIANTS = ('mixed', 'released')
PICK_POOLS = ('local', 'global')
RELEASED_PICK_LIMIT = 64  # the released code keeps at most this many images


def _check_alpha(alpha: float) -> None:
    if not (isinstance(alpha, Real) and 0 < alpha < float('inf')):
        raise ValueError(f'alpha is the parameter of a Beta(alpha, alpha) distribution and must be > 0, got {alpha!r}')


def _draw_centres(count: int, height: int, width: int, draws: Draws) -> Tensor:
    """Draw ``count`` pixel positions, shape ``(count, 2)``, uniform over the image."""
    return torch.stack([draws.integers(height, count), draws.integers(width, count)], dim=1)


@MODELS.register_module()
@dataclass(frozen=True)
class Mixup(BatchAugmentation):
    """Mixup (Zhang et al., ICLR 2018): blend each image with a random partner, ``lam ~ Beta(alpha, alpha)``.

    Args:
        alpha: Parameter of the Beta distribution, > 0; 0.2 in R2KD's released code.
        per_image: Draw ``lam`` for each image, not once for the batch.

    Example:
        >>> from r2kd_mm.augmentations import BatchDraws
        >>> context = ViewContext(BatchDraws(torch.Generator().manual_seed(0)), teacher_logits=None)
        >>> images = torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1)
        >>> Mixup(alpha=1.0)(images, context).sum()  # lam of one image and 1 - lam of the other
        tensor(1.)
    """

    alpha: float = 0.2
    per_image: bool = False
    keeps_labels = False
    mixes_images = True

    def __post_init__(self) -> None:
        _check_alpha(self.alpha)
        check_switches(per_image=self.per_image)

    def __call__(self, images: Tensor, context: ViewContext) -> Tensor:
        """Return the mixed images, shape as given."""
        count = len(images)
        partner = context.draws.partners(count)
        lam = context.draws.beta(self.alpha, count if self.per_image else 1)
        return mixing.mixup(images, moved(partner, images.device), moved(lam.to(images.dtype), images.device))


@MODELS.register_module()
@dataclass(frozen=True)
class CutMix(BatchAugmentation):
    """CutMix (Yun et al., ICCV 2019): paste a random box of a random partner into each image.

    The box covers the share ``1 - lam`` of the image, with ``lam ~ Beta(alpha, alpha)``. Parts outside the image are
    cut off.

    Args:
        alpha: Parameter of the Beta distribution, > 0.
        per_image: Draw the box for each image, not once for the batch.

    Example:
        >>> from r2kd_mm.augmentations import BatchDraws
        >>> context = ViewContext(BatchDraws(torch.Generator().manual_seed(0)), teacher_logits=None)
        >>> images = torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1).expand(2, 1, 8, 8)
        >>> CutMix()(images, context).unique()  # each pixel is of one image or of the other
        tensor([0., 1.])
    """

    alpha: float = 1.0
    per_image: bool = False
    keeps_labels = False
    mixes_images = True

    def __post_init__(self) -> None:
        _check_alpha(self.alpha)
        check_switches(per_image=self.per_image)

    def __call__(self, images: Tensor, context: ViewContext) -> Tensor:
        """Return the mixed images, shape as given."""
        count, _, height, width = images.shape
        partner = context.draws.partners(count)
        num_boxes = count if self.per_image else 1
        side = (1 - context.draws.beta(self.alpha, num_boxes)).sqrt()
        sizes = torch.stack([side * height, side * width], dim=1).long()
        centres = _draw_centres(num_boxes, height, width, context.draws)
        boxes = mixing.centred_boxes(centres, sizes, height, width)
        return mixing.cutmix(images, moved(partner, images.device), moved(boxes, images.device))


@MODELS.register_module()
@dataclass(frozen=True)
class Cutout(BatchAugmentation):
    """Cutout (DeVries and Taylor, arXiv 1708.04552): set a random square of each image to 0, the mean colour.

    Args:
        length: Side of the hole in pixels, > 0; cut off at the border. R2KD's released code uses 8 for images of
            32 pixels and 16 for 64.
        per_image: Draw the place for each image; ``False`` draws one for the whole batch, as the released code does.

    Example:
        >>> from r2kd_mm.augmentations import BatchDraws
        >>> context = ViewContext(BatchDraws(torch.Generator().manual_seed(0)), teacher_logits=None)
        >>> Cutout(length=1)(torch.ones(2, 1, 3, 3), context).sum(dim=(1, 2, 3))  # a hole of one pixel in each image
        tensor([8., 8.])
    """

    length: int = 8
    per_image: bool = True
    keeps_labels = True

    def __post_init__(self) -> None:
        if isinstance(self.length, bool) or not isinstance(self.length, int) or self.length < 1:
            raise ValueError(f'length is the side of the hole in whole pixels, at least 1, got {self.length!r}')
        check_switches(per_image=self.per_image)

    def __call__(self, images: Tensor, context: ViewContext) -> Tensor:
        """Return the images with their holes, shape as given."""
        count, _, height, width = images.shape
        num_boxes = count if self.per_image else 1
        centres = _draw_centres(num_boxes, height, width, context.draws)
        boxes = mixing.centred_boxes(centres, torch.full_like(centres, self.length), height, width)
        return mixing.cutout(images, moved(boxes, images.device))


@MODELS.register_module()
@dataclass(frozen=True)
class CutMixPick(BatchAugmentation):
    """CutMixPick (Wang et al., NeurIPS 2022): keep the ``N`` hardest of ``2 N`` CutMix images.

    An image is hard if the teacher's class distribution on the *mixed* image has a high entropy.

    Args:
        alpha: Parameter of the Beta distribution, > 0, see :class:`CutMix`.
        per_image: Draw the box for each image, not once for the batch.
        pick: ``'mixed'`` is the published method. ``'released'`` follows R2KD's released code: one draw, ranked by the
            entropy of the *unmixed* images, at most 64 kept.
        pool: Images to choose from in a run of several processes. ``'local'`` takes the batch of each process.
            ``'global'`` takes the batches of all processes, which sends the picked images to every process; each
            process keeps its batch size.

    Example:
        >>> from r2kd_mm.augmentations import BatchDraws
        >>> def ask(images):
        ...     return images.mean(dim=(1, 2, 3))[:, None] * torch.tensor([1.0, -1.0])
        >>> context = ViewContext(BatchDraws(torch.Generator().manual_seed(0)), teacher_logits=ask)
        >>> CutMixPick()(torch.rand(4, 3, 8, 8), context).shape  # four of eight
        torch.Size([4, 3, 8, 8])
    """

    alpha: float = 1.0
    per_image: bool = False
    pick: str = 'mixed'
    pool: str = 'local'
    keeps_labels = False
    mixes_images = True
    depends_on_batch = True

    def __post_init__(self) -> None:
        _check_alpha(self.alpha)
        check_switches(per_image=self.per_image)
        if self.pick not in PICK_VARIANTS:
            raise ValueError(f'pick must be one of {PICK_VARIANTS}, got {self.pick!r}')
        if self.pool not in PICK_POOLS:
            raise ValueError(f'pool must be one of {PICK_POOLS}, got {self.pool!r}')
        if self.pool == 'global' and self.pick == 'released':
            raise ValueError("pick='released' has the pool of the released code, got pool='global'; set pool='local'")

    def __call__(self, images: Tensor, context: ViewContext) -> Tensor:
        """Return the ``N`` picked images, or ``min(N, 64)`` with ``pick='released'``."""
        mix = CutMix(self.alpha, self.per_image)
        if self.pick == 'released':
            pool, judged, keep = mix(images, context), images, min(len(images), RELEASED_PICK_LIMIT)
        else:
            pool = judged = torch.cat([mix(images, context), mix(images, context)])
            keep = len(images)
        hardness = entropy(context.teacher_logits(judged).float())
        if self.pool == 'global' and get_world_size() > 1:
            return _pick_globally(pool, hardness)
        return pool[hardness.topk(keep).indices]


def _pick_globally(pool: Tensor, hardness: Tensor) -> Tensor:
    """Pick the harder half of the pools of all ranks, and return this rank's part, half the size of its pool.

    Args:
        pool: Images of this rank, shape ``(2 N, C, H, W)``.
        hardness: Entropy of each image, shape ``(2 N,)``.
    """
    entropies = [block for (block,) in gather_rows([hardness[:, None]])]
    sizes = [len(block) for block in entropies]
    picked = torch.zeros(sum(sizes), dtype=torch.bool, device=pool.device)
    picked[torch.cat(entropies).flatten().topk(sum(sizes) // 2).indices] = True
    picked_by_rank = picked.split(sizes)
    rank, counts = get_rank(), [int(mask.sum()) for mask in picked_by_rank]
    chosen = pool[picked_by_rank[rank]].flatten(1)
    everyone = torch.cat([block for (block,) in gather_rows([chosen], max(counts))])
    return everyone.split([size // 2 for size in sizes])[rank].unflatten(1, pool.shape[1:])
