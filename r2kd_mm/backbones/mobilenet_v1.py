"""Define MobileNetV1, which mmpretrain lacks; it is a common student for distillation on ImageNet."""

from __future__ import annotations

from collections.abc import Sequence

from mmcv.cnn import ConvModule, DepthwiseSeparableConvModule
from mmpretrain.models.utils import make_divisible
from torch import nn

from r2kd_mm.backbones.staged import KAIMING_INIT, StagedBackbone
from r2kd_mm.registry import MODELS


@MODELS.register_module()
class MobileNetV1(StagedBackbone):
    """MobileNetV1 of Howard et al., "MobileNets", arXiv 1704.04861, Table 1.

    A 3x3 convolution of stride 2 (``conv1``) and five stages (``layer1`` to ``layer5``) of depthwise separable
    convolutions. With ``widen_factor=1`` and a linear head of 1000 classes it has 4,231,976 parameters.

    Args:
        widen_factor: Width multiplier (the paper's alpha) > 0; channels are rounded to multiples of 8.
        out_indices: Stages whose output is returned, each in ``[0, 4]``: their strides are 2, 4, 8, 16, 32 and their
            channels 64, 128, 256, 512, 1024 times ``widen_factor``.
        frozen_stages: -1 freezes nothing, 0 freezes ``conv1``, ``k`` freezes ``conv1`` and ``layer1`` to ``layerk``.
            Frozen parts get no gradient and stay in eval mode.
        conv_cfg: Convolution layer, ``None`` for ``Conv2d``.
        norm_cfg: Normalisation layer.
        act_cfg: Activation layer. ReLU as in the paper, not the ReLU6 of MobileNetV2.
        norm_eval: Keep batch normalisation in eval mode during training.
        init_cfg: Initialisation, ``None`` for Kaiming convolutions and unit normalisation scales.

    Raises:
        ValueError: ``out_indices``, ``frozen_stages`` or ``widen_factor`` is out of range.

    Example:
        >>> import torch
        >>> (features,) = MobileNetV1(widen_factor=0.25)(torch.zeros(1, 3, 64, 64))
        >>> features.shape
        torch.Size([1, 256, 2, 2])
    """

    # (channels, blocks, stride of the first block) of each stage
    arch_settings = ((64, 1, 1), (128, 2, 2), (256, 2, 2), (512, 6, 2), (1024, 2, 2))

    def __init__(
        self,
        widen_factor: float = 1.0,
        out_indices: Sequence[int] = (4,),
        frozen_stages: int = -1,
        conv_cfg: dict | None = None,
        norm_cfg: dict | None = None,
        act_cfg: dict | None = None,
        norm_eval: bool = False,
        init_cfg: dict | Sequence[dict] | None = None,
    ) -> None:
        if widen_factor <= 0:
            raise ValueError(f'widen_factor must be > 0, got {widen_factor}')
        layer_cfg = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg or dict(type='BN'), act_cfg=act_cfg or dict(type='ReLU'))
        in_channels = make_divisible(32 * widen_factor, 8)
        stem = ConvModule(3, in_channels, kernel_size=3, stride=2, padding=1, **layer_cfg)
        stages = []
        for channels, num_blocks, first_stride in self.arch_settings:
            out_channels = make_divisible(channels * widen_factor, 8)
            blocks = []
            for block in range(num_blocks):
                stride = first_stride if block == 0 else 1
                blocks.append(
                    DepthwiseSeparableConvModule(in_channels, out_channels, 3, stride=stride, padding=1, **layer_cfg)
                )
                in_channels = out_channels
            stages.append(nn.Sequential(*blocks))
        super().__init__(stem, stages, out_indices, frozen_stages, norm_eval, init_cfg or KAIMING_INIT)
