"""Define residual networks for CIFAR: ResNet-8 to ResNet-110, and the wider ResNet-8x4 and ResNet-32x4."""

from __future__ import annotations

from collections.abc import Sequence

from mmcv.cnn import ConvModule
from mmpretrain.models.backbones.resnet import BasicBlock, ResLayer

from r2kd_mm.backbones.staged import KAIMING_INIT, StagedBackbone
from r2kd_mm.registry import MODELS


@MODELS.register_module()
class CIFARResNet(StagedBackbone):
    """Residual network of three stages for small images: He et al., arXiv 1512.03385, Section 4.2.

    A shortcut that changes the shape is a 1x1 convolution with normalisation, as in the networks of distillation
    papers; the paper pads with zeros instead. mmpretrain's ``ResNet_CIFAR`` is another network: the four-stage ImageNet
    network with a small stem.

    Args:
        depth: Number of weighted layers, ``6 * n + 2`` with ``n >= 1`` blocks a stage.
        stem_channels: Channels of ``conv1``.
        base_channels: Channels of ``layer1``; ``layer2`` and ``layer3`` have two and four times as many.
        out_indices: Stages whose output is returned, each in ``[0, 2]``; their strides are 1, 2, 4.
        frozen_stages: -1 freezes nothing, 0 freezes ``conv1``, ``k`` freezes ``conv1`` and ``layer1`` to ``layerk``.
        norm_cfg: Normalisation layer, ``None`` for batch normalisation.
        norm_eval: Keep batch normalisation in eval mode during training.
        init_cfg: Initialisation, ``None`` for Kaiming convolutions and unit normalisation scales.

    Raises:
        ValueError: ``depth``, ``out_indices`` or ``frozen_stages`` is out of range.

    Example:
        >>> import torch
        >>> (features,) = CIFARResNet(depth=8)(torch.zeros(1, 3, 32, 32))
        >>> features.shape
        torch.Size([1, 64, 8, 8])
    """

    def __init__(
        self,
        depth: int,
        stem_channels: int = 16,
        base_channels: int = 16,
        out_indices: Sequence[int] = (2,),
        frozen_stages: int = -1,
        norm_cfg: dict | None = None,
        norm_eval: bool = False,
        init_cfg: dict | Sequence[dict] | None = None,
    ) -> None:
        num_blocks, remainder = divmod(depth - 2, 6)
        if remainder or num_blocks < 1:
            raise ValueError(f'depth must be 6 * n + 2 with n >= 1 (8, 14, 20, ...), got {depth}')
        norm_cfg = norm_cfg or dict(type='BN')
        stem = ConvModule(3, stem_channels, kernel_size=3, padding=1, norm_cfg=norm_cfg)
        stages, in_channels = [], stem_channels
        for stage in range(3):
            out_channels = base_channels * 2**stage
            stages.append(
                ResLayer(
                    BasicBlock, num_blocks, in_channels, out_channels, stride=1 if stage == 0 else 2, norm_cfg=norm_cfg
                )
            )
            in_channels = out_channels
        super().__init__(stem, stages, out_indices, frozen_stages, norm_eval, init_cfg or KAIMING_INIT)
