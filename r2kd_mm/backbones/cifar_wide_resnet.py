"""Define wide residual networks for small images: WRN-16-1, WRN-16-2, WRN-40-1, WRN-40-2 and similar ones."""

from __future__ import annotations

from collections.abc import Sequence

from mmcv.cnn import ConvModule, build_norm_layer
from torch import Tensor, nn

from r2kd_mm.backbones.staged import KAIMING_INIT, StagedBackbone
from r2kd_mm.registry import MODELS


class PreActivationBlock(nn.Module):
    """Residual block with normalisation and ReLU before each 3x3 convolution (arXiv 1603.05027, Fig. 4 (e)).

    Where the shape changes, the shortcut is a 1x1 convolution of the activated input.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        stride: Stride of the first convolution and of the shortcut.
        norm_cfg: Normalisation layer.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, norm_cfg: dict) -> None:
        super().__init__()
        self.norm1 = build_norm_layer(norm_cfg, in_channels)[1]
        self.relu1 = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False)
        self.norm2 = build_norm_layer(norm_cfg, out_channels)[1]
        self.relu2 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False)
        self.shortcut = None
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, in_channels, H, W)`` to ``(N, out_channels, H / stride, W / stride)``."""
        activated = self.relu1(self.norm1(x))
        residual = self.conv2(self.relu2(self.norm2(self.conv1(activated))))
        return residual + (x if self.shortcut is None else self.shortcut(activated))


@MODELS.register_module()
class CIFARWideResNet(StagedBackbone):
    """Wide residual network: Zagoruyko and Komodakis, arXiv 1605.07146, Table 1, without dropout.

    ``conv1``, three stages of pre-activation blocks, and the normalisation with ReLU that closes the last of them,
    which is ``layer4``. mmrazor's ``WideResNet`` is the same network, but returns no intermediate feature map and
    cannot freeze stages.

    Args:
        depth: Number of weighted layers, ``6 * n + 4`` with ``n >= 1`` blocks a stage.
        widen_factor: Width k of the paper, >= 1: the stages have 16, 32 and 64 times as many channels.
        out_indices: Stages whose output is returned, each in ``[0, 3]``; their strides are 1, 2, 4, 4. The first three
            are sums before normalisation, the last one is what the classifier sees.
        frozen_stages: -1 freezes nothing, 0 freezes ``conv1``, ``k`` freezes ``conv1`` and ``layer1`` to ``layerk``.
        norm_cfg: Normalisation layer, ``None`` for batch normalisation.
        norm_eval: Keep batch normalisation in eval mode during training.
        init_cfg: Initialisation, ``None`` for Kaiming convolutions and unit normalisation scales.

    Raises:
        ValueError: ``depth``, ``widen_factor``, ``out_indices`` or ``frozen_stages`` is out of range.

    Example:
        >>> import torch
        >>> (features,) = CIFARWideResNet(depth=10)(torch.zeros(1, 3, 32, 32))
        >>> features.shape
        torch.Size([1, 64, 8, 8])
    """

    def __init__(
        self,
        depth: int,
        widen_factor: int = 1,
        out_indices: Sequence[int] = (3,),
        frozen_stages: int = -1,
        norm_cfg: dict | None = None,
        norm_eval: bool = False,
        init_cfg: dict | Sequence[dict] | None = None,
    ) -> None:
        num_blocks, remainder = divmod(depth - 4, 6)
        if remainder or num_blocks < 1:
            raise ValueError(f'depth must be 6 * n + 4 with n >= 1 (10, 16, 22, 28, 34, 40, ...), got {depth}')
        if widen_factor < 1:
            raise ValueError(f'widen_factor must be >= 1, got {widen_factor}')
        norm_cfg = norm_cfg or dict(type='BN')
        in_channels = 16
        # no normalisation here: the first block begins with it
        stem = ConvModule(3, in_channels, kernel_size=3, padding=1, bias=False, act_cfg=None)
        stages: list[nn.Module] = []
        for stage in range(3):
            out_channels = 16 * widen_factor * 2**stage
            blocks = []
            for block in range(num_blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                blocks.append(PreActivationBlock(in_channels, out_channels, stride, norm_cfg))
                in_channels = out_channels
            stages.append(nn.Sequential(*blocks))
        stages.append(nn.Sequential(build_norm_layer(norm_cfg, in_channels)[1], nn.ReLU(inplace=True)))
        super().__init__(stem, stages, out_indices, frozen_stages, norm_eval, init_cfg or KAIMING_INIT)
