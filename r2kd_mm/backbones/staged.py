"""Define the base class of our backbones, which returns the outputs of chosen stages and freezes the first stages."""

from __future__ import annotations

from collections.abc import Sequence

from mmpretrain.models.backbones.base_backbone import BaseBackbone
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

# He et al., arXiv 1502.01852, by fan out, as the public CIFAR networks are initialised.
KAIMING_INIT = (
    dict(type='Kaiming', layer='Conv2d'),
    dict(type='Constant', val=1, layer=['_BatchNorm', 'GroupNorm']),
)


class StagedBackbone(BaseBackbone):
    """Backbone that runs the stem ``conv1``, and then the stages ``layer1``, ``layer2`` and so on, one submodule each.

    A subclass builds the stem and the stages, and passes them to this constructor.

    Args:
        stem: Module from images to the first feature map; ``nn.Identity()`` if the first stage takes the images.
        stages: The N stages in order.
        out_indices: Stages whose output is returned, each in ``[0, N - 1]``; index 0 is ``layer1``.
        frozen_stages: -1 freezes nothing, 0 freezes the stem, ``k`` freezes the stem and ``layer1`` to ``layerk``.
            Frozen parts get no gradient and stay in eval mode.
        norm_eval: Keep batch normalisation in eval mode during training.
        init_cfg: Initialisation; ``None`` keeps PyTorch's.

    Raises:
        ValueError: ``out_indices`` or ``frozen_stages`` is out of range.
    """

    def __init__(
        self,
        stem: nn.Module,
        stages: Sequence[nn.Module],
        out_indices: Sequence[int],
        frozen_stages: int,
        norm_eval: bool,
        init_cfg: dict | Sequence[dict] | None,
    ) -> None:
        num_stages = len(stages)
        if not out_indices or not set(out_indices) <= set(range(num_stages)):
            raise ValueError(
                f'out_indices must be one or more stages in [0, {num_stages - 1}], got {tuple(out_indices)}'
            )
        if frozen_stages not in range(-1, num_stages + 1):
            raise ValueError(f'frozen_stages must be in [-1, {num_stages}], got {frozen_stages}')
        super().__init__(init_cfg)
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.num_stages = num_stages
        self.conv1 = stem
        for number, stage in enumerate(stages, start=1):
            self.add_module(f'layer{number}', stage)
        self.train()  # freezes

    @property
    def stages(self) -> list[nn.Module]:
        """Stages from ``layer1`` to the last."""
        return [getattr(self, f'layer{number}') for number in range(1, self.num_stages + 1)]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map images ``(N, 3, H, W)`` to the feature maps of ``out_indices``, in the order of the stages."""
        x = self.conv1(x)
        outputs = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in self.out_indices:
                outputs.append(x)
        return tuple(outputs)

    def train(self, mode: bool = True) -> StagedBackbone:
        """Switch the mode, except of frozen stages and, with ``norm_eval``, of batch normalisation."""
        super().train(mode)
        if self.frozen_stages >= 0:
            for part in [self.conv1, *self.stages[: self.frozen_stages]]:
                part.eval().requires_grad_(False)
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self
