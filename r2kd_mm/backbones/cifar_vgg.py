"""Define VGG networks with batch normalisation for small images: VGG-8, 11, 13, 16 and 19."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from mmcv.cnn import build_norm_layer
from torch import nn

from r2kd_mm.backbones.staged import KAIMING_INIT, StagedBackbone
from r2kd_mm.registry import MODELS


@MODELS.register_module()
class CIFARVGG(StagedBackbone):
    """VGG of Simonyan and Zisserman, arXiv 1409.1556, Table 1, for images of 32 or 64 pixels.

    Five stages of 3x3 convolutions, each with bias, normalisation and ReLU. The paper's three fully connected layers
    are not part of the backbone: neck and head add global average pooling and one linear layer. mmpretrain's ``VGG``
    is different: it pools after every stage, which reduces 32 pixels to 1, and it has no depth 8.

    Args:
        depth: 8, 11, 13, 16 or 19: the number of convolutions, plus the three fully connected layers of the paper.
        num_pools: Number of 2x2 max-poolings in ``[0, 4]``; the first one opens ``layer2``, the next ``layer3``, and
            so on. The public networks have 3 for 32 pixels and 4 for 64, so that the last map is 4x4.
        out_indices: Stages whose output is returned, each in ``[0, 4]``; their channels are 64, 128, 256, 512, 512.
        frozen_stages: -1 or 0 freezes nothing, since there is no stem; ``k`` freezes ``layer1`` to ``layerk``.
        norm_cfg: Normalisation layer, ``None`` for batch normalisation.
        norm_eval: Keep batch normalisation in eval mode during training.
        init_cfg: Initialisation, ``None`` for Kaiming convolutions and unit normalisation scales.

    Raises:
        ValueError: ``depth``, ``num_pools``, ``out_indices`` or ``frozen_stages`` is out of range.

    Example:
        >>> import torch
        >>> (features,) = CIFARVGG(depth=8)(torch.zeros(1, 3, 32, 32))
        >>> features.shape
        torch.Size([1, 512, 4, 4])
    """

    # convolutions of each stage
    arch_settings = {
        8: (1, 1, 1, 1, 1),
        11: (1, 1, 2, 2, 2),
        13: (2, 2, 2, 2, 2),
        16: (2, 2, 3, 3, 3),
        19: (2, 2, 4, 4, 4),
    }
    channels = (64, 128, 256, 512, 512)

    def __init__(
        self,
        depth: int,
        num_pools: int = 3,
        out_indices: Sequence[int] = (4,),
        frozen_stages: int = -1,
        norm_cfg: dict | None = None,
        norm_eval: bool = False,
        init_cfg: dict | Sequence[dict] | None = None,
    ) -> None:
        if depth not in self.arch_settings:
            raise ValueError(f'depth must be one of {", ".join(map(str, self.arch_settings))}, got {depth}')
        if num_pools not in range(5):
            raise ValueError(f'num_pools must be in [0, 4], got {num_pools}')
        norm_cfg = norm_cfg or dict(type='BN')
        stages, in_channels = [], 3
        for stage, (num_convs, out_channels) in enumerate(zip(self.arch_settings[depth], self.channels)):
            layers: OrderedDict[str, nn.Module] = OrderedDict()
            if 1 <= stage <= num_pools:
                layers['pool'] = nn.MaxPool2d(kernel_size=2, stride=2)
            for number in range(1, num_convs + 1):
                layers[f'conv{number}'] = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1)
                layers[f'norm{number}'] = build_norm_layer(norm_cfg, out_channels)[1]
                layers[f'relu{number}'] = nn.ReLU(inplace=True)
                in_channels = out_channels
            stages.append(nn.Sequential(layers))
        super().__init__(nn.Identity(), stages, out_indices, frozen_stages, norm_eval, init_cfg or KAIMING_INIT)
