"""Define ShuffleNetV2 for small images, such as those of CIFAR."""

from __future__ import annotations

from collections.abc import Sequence

from mmcv.cnn import ConvModule
from mmpretrain.models.backbones.shufflenet_v2 import InvertedResidual
from torch import nn

from r2kd_mm.backbones.staged import StagedBackbone
from r2kd_mm.registry import MODELS


@MODELS.register_module()
class CIFARShuffleNetV2(StagedBackbone):
    """ShuffleNetV2 of width 1: Ma et al., arXiv 1807.11164, Table 5.

    The stem is a 1x1 convolution without stride or pooling, since the images are small; the blocks are those of
    mmpretrain's ``ShuffleNetV2``. The 1x1 convolution to 1024 channels is ``layer4``.

    Args:
        out_indices: Stages whose output is returned, each in ``[0, 3]``; their strides are 2, 4, 8, 8 and their
            channels 116, 232, 464, 1024.
        frozen_stages: -1 freezes nothing, 0 freezes ``conv1``, ``k`` freezes ``conv1`` and ``layer1`` to ``layerk``.
        norm_cfg: Normalisation layer, ``None`` for batch normalisation.
        norm_eval: Keep batch normalisation in eval mode during training.
        init_cfg: Initialisation; ``None`` keeps PyTorch's in the first three stages, as the public network has it.

    Raises:
        ValueError: ``out_indices`` or ``frozen_stages`` is out of range.

    Example:
        >>> import torch
        >>> (features,) = CIFARShuffleNetV2()(torch.zeros(1, 3, 32, 32))
        >>> features.shape
        torch.Size([1, 1024, 4, 4])
    """

    arch_settings = ((116, 4), (232, 8), (464, 4))  # (channels, blocks) of each stage
    last_channels = 1024

    def __init__(
        self,
        out_indices: Sequence[int] = (3,),
        frozen_stages: int = -1,
        norm_cfg: dict | None = None,
        norm_eval: bool = False,
        init_cfg: dict | Sequence[dict] | None = None,
    ) -> None:
        norm_cfg = norm_cfg or dict(type='BN')
        in_channels = 24
        stem = ConvModule(3, in_channels, kernel_size=1, norm_cfg=norm_cfg)
        stages: list[nn.Module] = []
        for out_channels, num_blocks in self.arch_settings:
            blocks = []
            for block in range(num_blocks):
                stride = 2 if block == 0 else 1
                blocks.append(InvertedResidual(in_channels, out_channels, stride, norm_cfg=norm_cfg))
                in_channels = out_channels
            stages.append(nn.Sequential(*blocks))
        stages.append(ConvModule(in_channels, self.last_channels, kernel_size=1, norm_cfg=norm_cfg))
        super().__init__(stem, stages, out_indices, frozen_stages, norm_eval, init_cfg)
