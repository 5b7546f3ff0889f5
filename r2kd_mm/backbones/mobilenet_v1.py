"""MobileNetV1, the ImageNet student that mmpretrain lacks."""

from __future__ import annotations

from collections.abc import Sequence

from mmcv.cnn import ConvModule, DepthwiseSeparableConvModule
from mmpretrain.models.backbones.base_backbone import BaseBackbone
from mmpretrain.models.utils import make_divisible
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from r2kd_mm.registry import MODELS


@MODELS.register_module()
class MobileNetV1(BaseBackbone):
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
        norm_eval: Whether batch normalisation keeps its running statistics while training.
        init_cfg: Initialisation, ``None`` for Kaiming convolutions and unit normalisation scales.

    Raises:
        ValueError: ``out_indices``, ``frozen_stages`` or ``widen_factor`` is out of range.
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
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        num_stages = len(self.arch_settings)
        if not set(out_indices) <= set(range(num_stages)):
            raise ValueError(f'out_indices must be in [0, {num_stages - 1}], got {tuple(out_indices)}')
        if frozen_stages not in range(-1, num_stages + 1):
            raise ValueError(f'frozen_stages must be in [-1, {num_stages}], got {frozen_stages}')
        if widen_factor <= 0:
            raise ValueError(f'widen_factor must be > 0, got {widen_factor}')
        super().__init__(
            init_cfg
            or [
                dict(type='Kaiming', layer=['Conv2d']),
                dict(type='Constant', val=1, layer=['_BatchNorm', 'GroupNorm']),
            ]
        )
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        layer_cfg = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg or dict(type='BN'), act_cfg=act_cfg or dict(type='ReLU'))

        in_channels = make_divisible(32 * widen_factor, 8)
        self.conv1 = ConvModule(3, in_channels, kernel_size=3, stride=2, padding=1, **layer_cfg)
        for stage, (channels, num_blocks, stride) in enumerate(self.arch_settings, start=1):
            out_channels = make_divisible(channels * widen_factor, 8)
            blocks = []
            for block in range(num_blocks):
                blocks.append(
                    DepthwiseSeparableConvModule(
                        in_channels,
                        out_channels,
                        kernel_size=3,
                        stride=stride if block == 0 else 1,
                        padding=1,
                        **layer_cfg,
                    )
                )
                in_channels = out_channels
            self.add_module(f'layer{stage}', nn.Sequential(*blocks))
        self.train()

    @property
    def layers(self) -> list[nn.Module]:
        """The five stages, in order."""
        return [getattr(self, f'layer{stage}') for stage in range(1, len(self.arch_settings) + 1)]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Images ``(N, 3, H, W)`` to the feature maps of ``out_indices``."""
        x = self.conv1(x)
        outputs = []
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index in self.out_indices:
                outputs.append(x)
        return tuple(outputs)

    def train(self, mode: bool = True) -> MobileNetV1:
        """Switch the mode, but for frozen stages and, with ``norm_eval``, for batch normalisation."""
        super().train(mode)
        if self.frozen_stages >= 0:
            for part in [self.conv1, *self.layers[: self.frozen_stages]]:
                part.eval().requires_grad_(False)
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self
