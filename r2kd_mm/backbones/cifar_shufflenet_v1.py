"""Define ShuffleNetV1 for small images, such as those of CIFAR."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmcv.cnn import ConvModule
from mmpretrain.models.utils import channel_shuffle
from torch import Tensor, nn

from r2kd_mm.backbones.staged import StagedBackbone
from r2kd_mm.registry import MODELS


class ShuffleUnit(nn.Module):
    """Unit of a 1x1 group convolution, a channel shuffle, a depthwise 3x3 and a 1x1 (arXiv 1707.01083, Fig. 2).

    With stride 2 the average-pooled input is concatenated to the result, with stride 1 the input is added. Unlike in
    the paper and in mmpretrain's block, a ReLU follows the depthwise convolution, and with ``first_groups=1`` no
    channels are shuffled.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output; with a stride of 2, ``in_channels`` of them are the pooled input.
        stride: 1 or 2.
        groups: Groups of the last convolution.
        first_groups: Groups of the first convolution and of the shuffle.
        norm_cfg: Normalisation layer.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, groups: int, first_groups: int, norm_cfg: dict
    ) -> None:
        super().__init__()
        if stride == 2:
            out_channels -= in_channels
        mid_channels = out_channels // 4
        self.first_groups = first_groups
        self.conv1 = ConvModule(in_channels, mid_channels, kernel_size=1, groups=first_groups, norm_cfg=norm_cfg)
        self.conv2 = ConvModule(
            mid_channels, mid_channels, kernel_size=3, stride=stride, padding=1, groups=mid_channels, norm_cfg=norm_cfg
        )
        self.conv3 = ConvModule(
            mid_channels, out_channels, kernel_size=1, groups=groups, norm_cfg=norm_cfg, act_cfg=None
        )
        self.pool = nn.AvgPool2d(kernel_size=3, stride=2, padding=1) if stride == 2 else None
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, in_channels, H, W)`` to ``(N, out_channels, H / stride, W / stride)``."""
        residual = channel_shuffle(self.conv1(x), self.first_groups)
        residual = self.conv3(self.conv2(residual))
        if self.pool is None:
            return self.relu(residual + x)
        return self.relu(torch.cat([residual, self.pool(x)], dim=1))


@MODELS.register_module()
class CIFARShuffleNetV1(StagedBackbone):
    """ShuffleNetV1 with three groups: Zhang et al., arXiv 1707.01083, Table 1, g = 3.

    The stem is a 1x1 convolution without stride or pooling, since the images are small.

    Args:
        out_indices: Stages whose output is returned, each in ``[0, 2]``; their strides are 2, 4, 8 and their channels
            240, 480, 960.
        frozen_stages: -1 freezes nothing, 0 freezes ``conv1``, ``k`` freezes ``conv1`` and ``layer1`` to ``layerk``.
        norm_cfg: Normalisation layer, ``None`` for batch normalisation.
        norm_eval: Keep batch normalisation in eval mode during training.
        init_cfg: Initialisation; ``None`` keeps PyTorch's in the stages, as the public network has it.

    Raises:
        ValueError: ``out_indices`` or ``frozen_stages`` is out of range.

    Example:
        >>> import torch
        >>> (features,) = CIFARShuffleNetV1()(torch.zeros(1, 3, 32, 32))
        >>> features.shape
        torch.Size([1, 960, 4, 4])
    """

    groups = 3
    arch_settings = ((240, 4), (480, 8), (960, 4))  # (channels, blocks) of each stage

    def __init__(
        self,
        out_indices: Sequence[int] = (2,),
        frozen_stages: int = -1,
        norm_cfg: dict | None = None,
        norm_eval: bool = False,
        init_cfg: dict | Sequence[dict] | None = None,
    ) -> None:
        norm_cfg = norm_cfg or dict(type='BN')
        in_channels = 24
        stem = ConvModule(3, in_channels, kernel_size=1, norm_cfg=norm_cfg)
        stages = []
        for stage, (out_channels, num_blocks) in enumerate(self.arch_settings):
            blocks = []
            for block in range(num_blocks):
                # 24 channels are too few to be grouped (Section 3.2 of the paper)
                first_groups = 1 if stage == block == 0 else self.groups
                stride = 2 if block == 0 else 1
                blocks.append(ShuffleUnit(in_channels, out_channels, stride, self.groups, first_groups, norm_cfg))
                in_channels = out_channels
            stages.append(nn.Sequential(*blocks))
        super().__init__(stem, stages, out_indices, frozen_stages, norm_eval, init_cfg)
