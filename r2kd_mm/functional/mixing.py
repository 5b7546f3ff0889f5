"""Apply Mixup, CutMix or Cutout to a batch of images, with partners, ratios and boxes that the caller has drawn.

All functions return a new tensor and leave their arguments unchanged. ``images`` has shape ``(N, C, H, W)``. A box is
``(top, left, bottom, right)`` in pixels; bottom and right are exclusive. Parameters with a first dimension of 1 apply
to the whole batch.
"""

from __future__ import annotations

import torch
from torch import Tensor


def mixup(images: Tensor, partner: Tensor, lam: Tensor) -> Tensor:
    """Blend each image with a partner, ``lam * x_i + (1 - lam) * x_partner(i)`` (Zhang et al., ICLR 2018, Eq. 1).

    Args:
        images: Shape ``(N, C, H, W)``, floating point.
        partner: Index of each image's partner, shape ``(N,)``, integer.
        lam: Share of the image itself, in ``[0, 1]``, shape ``(N,)`` or ``(1,)``.

    Example:
        >>> import torch
        >>> images = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1)
        >>> mixup(images, partner=torch.tensor([1, 0]), lam=torch.tensor([0.75])).flatten()
        tensor([0.2500, 0.7500])
    """
    lam = lam.to(images)[:, None, None, None]
    return lam * images + (1 - lam) * images[partner]


def cutmix(images: Tensor, partner: Tensor, boxes: Tensor) -> Tensor:
    """Paste the box of each image's partner into it (Yun et al., ICCV 2019, Eq. 1).

    Args:
        images: Shape ``(N, C, H, W)``.
        partner: Index of each image's partner, shape ``(N,)``, integer.
        boxes: Integer boxes, shape ``(N, 4)`` or ``(1, 4)``.

    Example:
        >>> import torch
        >>> images = torch.tensor([[[[0, 0], [0, 0]]], [[[1, 1], [1, 1]]]])
        >>> cutmix(images, partner=torch.tensor([1, 0]), boxes=torch.tensor([[0, 0, 1, 2]]))[0, 0]  # the first row
        tensor([[1, 1],
                [0, 0]])
    """
    return torch.where(box_mask(boxes, *images.shape[-2:]), images[partner], images)


def cutout(images: Tensor, boxes: Tensor, fill: float = 0.0) -> Tensor:
    """Fill a box of each image (DeVries and Taylor, arXiv 1708.04552); 0 is the mean colour of normalised images.

    Args:
        images: Shape ``(N, C, H, W)``.
        boxes: Integer boxes, shape ``(N, 4)`` or ``(1, 4)``.
        fill: Value inside the box.

    Example:
        >>> import torch
        >>> cutout(torch.ones(1, 1, 2, 2), torch.tensor([[0, 0, 1, 2]]))[0, 0]
        tensor([[0., 0.],
                [1., 1.]])
    """
    return images.masked_fill(box_mask(boxes, *images.shape[-2:]), fill)


def box_mask(boxes: Tensor, height: int, width: int) -> Tensor:
    """Return a boolean mask of shape ``(len(boxes), 1, height, width)``, ``True`` inside the box of each row."""
    top, left, bottom, right = (edge[:, None] for edge in boxes.unbind(dim=1))
    rows = torch.arange(height, device=boxes.device)
    columns = torch.arange(width, device=boxes.device)
    in_rows = (rows >= top) & (rows < bottom)
    in_columns = (columns >= left) & (columns < right)
    return (in_rows[:, :, None] & in_columns[:, None, :])[:, None]


def centred_boxes(centres: Tensor, sizes: Tensor, height: int, width: int) -> Tensor:
    """Make boxes from centres and sizes, cut off at the border of the image.

    Args:
        centres: Row and column of each centre, shape ``(B, 2)``, integer.
        sizes: Height and width of each box before the cut, shape ``(B, 2)``, integer.
        height: Image height in pixels.
        width: Image width in pixels.

    Returns:
        Integer boxes, shape ``(B, 4)``.

    Example:
        >>> import torch
        >>> centred_boxes(torch.tensor([[0, 4]]), torch.tensor([[4, 4]]), height=8, width=8)
        tensor([[0, 2, 2, 6]])
    """
    limits = torch.tensor([height, width], device=centres.device)
    start = centres - sizes // 2
    return torch.cat([start.clamp(min=0), torch.minimum(start + sizes, limits)], dim=1)
