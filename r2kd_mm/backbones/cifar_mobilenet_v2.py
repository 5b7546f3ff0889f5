"""Define MobileNetV2 for small images; at half width it is a common student for distillation on CIFAR-100."""

from __future__ import annotations

from collections.abc import Sequence

from mmcv.cnn import ConvModule
from torch import Tensor, nn

from r2kd_mm.backbones.staged import KAIMING_INIT, StagedBackbone
from r2kd_mm.registry import MODELS


class InvertedResidual(nn.Module):
    """Inverted residual: expand by a 1x1, filter by a depthwise 3x3, project by a 1x1 (arXiv 1801.04381, Fig. 4 (d)).

    The expansion is a convolution even at an ``expand_ratio`` of 1, where mmpretrain's block has none.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        stride: Stride of the depthwise convolution; the input is added where it is 1 and the channels agree.
        expand_ratio: Expanded channels over ``in_channels``, an integer >= 1.
        norm_cfg: Normalisation layer.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, expand_ratio: int, norm_cfg: dict) -> None:
        super().__init__()
        mid_channels = in_channels * expand_ratio
        self.with_shortcut = stride == 1 and in_channels == out_channels
        self.conv = nn.Sequential(
            ConvModule(in_channels, mid_channels, kernel_size=1, norm_cfg=norm_cfg),
            ConvModule(
                mid_channels,
                mid_channels,
                kernel_size=3,
                stride=stride,
                padding=1,
                groups=mid_channels,
                norm_cfg=norm_cfg,
            ),
            ConvModule(mid_channels, out_channels, kernel_size=1, norm_cfg=norm_cfg, act_cfg=None),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, in_channels, H, W)`` to ``(N, out_channels, H / stride, W / stride)``."""
        return x + self.conv(x) if self.with_shortcut else self.conv(x)


@MODELS.register_module()
class CIFARMobileNetV2(StagedBackbone):
    """MobileNetV2 of Sandler et al., arXiv 1801.04381, Table 2, with fewer strides and with ReLU instead of ReLU6.

    ``conv1``, seven stages of inverted residuals, and a 1x1 convolution to 1280 channels, which is ``layer8``. Other
    than in mmpretrain's ``MobileNetV2``, channels are rounded down rather than to multiples of 8, and ``layer2`` keeps
    the resolution.

    Args:
        widen_factor: Width multiplier > 0 of all channels but the last 1280.
        out_indices: Stages whose output is returned, each in ``[0, 7]``; their strides are 2, 2, 4, 8, 8, 16, 16, 16.
        frozen_stages: -1 freezes nothing, 0 freezes ``conv1``, ``k`` freezes ``conv1`` and ``layer1`` to ``layerk``.
        norm_cfg: Normalisation layer, ``None`` for batch normalisation.
        norm_eval: Keep batch normalisation in eval mode during training.
        init_cfg: Initialisation, ``None`` for Kaiming convolutions and unit normalisation scales.

    Raises:
        ValueError: ``widen_factor``, ``out_indices`` or ``frozen_stages`` is out of range.

    Example:
        >>> import torch
        >>> (features,) = CIFARMobileNetV2(widen_factor=0.5)(torch.zeros(1, 3, 32, 32))
        >>> features.shape
        torch.Size([1, 1280, 2, 2])
    """

    # (expand ratio, channels, blocks, stride of the first block) of each stage
    arch_settings = (
        (1, 16, 1, 1),
        (6, 24, 2, 1),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )
    last_channels = 1280

    def __init__(
        self,
        widen_factor: float = 1.0,
        out_indices: Sequence[int] = (7,),
        frozen_stages: int = -1,
        norm_cfg: dict | None = None,
        norm_eval: bool = False,
        init_cfg: dict | Sequence[dict] | None = None,
    ) -> None:
        if int(16 * widen_factor) < 1:  # the narrowest stage
            raise ValueError(f'widen_factor must be >= 1/16, got {widen_factor}')
        norm_cfg = norm_cfg or dict(type='BN')
        in_channels = int(32 * widen_factor)
        stem = ConvModule(3, in_channels, kernel_size=3, stride=2, padding=1, norm_cfg=norm_cfg)
        stages: list[nn.Module] = []
        for expand_ratio, channels, num_blocks, stride in self.arch_settings:
            out_channels = int(channels * widen_factor)
            blocks = []
            for block in range(num_blocks):
                blocks.append(
                    InvertedResidual(in_channels, out_channels, stride if block == 0 else 1, expand_ratio, norm_cfg)
                )
                in_channels = out_channels
            stages.append(nn.Sequential(*blocks))
        stages.append(ConvModule(in_channels, self.last_channels, kernel_size=1, norm_cfg=norm_cfg))
        super().__init__(stem, stages, out_indices, frozen_stages, norm_eval, init_cfg or KAIMING_INIT)
