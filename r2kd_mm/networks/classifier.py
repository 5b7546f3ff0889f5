"""Wrap any network that outputs logits as an mmpretrain classifier, for training and prediction."""

from __future__ import annotations

from mmpretrain.models import TimmClassifier
from mmpretrain.models.classifiers import BaseClassifier
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from r2kd_mm.classifiers import as_logits
from r2kd_mm.registry import MODELS


@MODELS.register_module()
class NetworkClassifier(TimmClassifier):
    """mmpretrain classifier around a network of another package, such as torchvision, with a configurable loss.

    A checkpoint has the network's own parameter names, so the other package can load it too::

        dict(type=NetworkClassifier, network=dict(type=torchvision.models.get_model, name='resnet18', num_classes=12))

    Args:
        network: The network, or its config, whose ``type`` is a class or a function that returns a module. The network
            returns logits ``(N, num_classes)``, or an object with the attribute ``logits``.
        loss: Loss, or its config.
        data_preprocessor: Config of the normalisation; a distiller normalises the images itself.
        init_cfg: MMEngine's initialisation config.

    Raises:
        TypeError: The config does not build a network.

    Example:
        >>> import torch
        >>> classifier = NetworkClassifier(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)))
        >>> classifier(torch.zeros(2, 3, 2, 2)).shape, classifier.num_classes
        (torch.Size([2, 3]), 3)
    """

    def __init__(
        self,
        network: dict | nn.Module,
        loss: dict | nn.Module | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        # the wrapper of timm makes the network itself, so its constructor is passed over
        preprocessor = {'type': 'mmpretrain.ClsDataPreprocessor', **(data_preprocessor or {})}
        BaseClassifier.__init__(self, init_cfg=init_cfg, data_preprocessor=preprocessor)
        self.model = MODELS.build(network) if isinstance(network, dict) else network
        if not isinstance(self.model, nn.Module):
            raise TypeError(
                f'network of NetworkClassifier must build a torch.nn.Module, got a {type(self.model).__name__}'
            )
        vars(self.model)['is_init'] = True  # BaseModule.init_weights passes over such a module
        loss = dict(type='CrossEntropyLoss', loss_weight=1.0) if loss is None else loss
        self.loss_module = MODELS.build(loss) if isinstance(loss, dict) else loss
        self._register_state_dict_hook(self._remove_state_dict_prefix)
        self._register_load_state_dict_pre_hook(self._add_state_dict_prefix)

    @property
    def num_classes(self) -> int | None:
        """Number of the logits, where the network or its last linear layer states it."""
        stated = getattr(self.model, 'num_classes', None)
        linear = [module for module in self.model.modules() if isinstance(module, nn.Linear)]
        return stated if isinstance(stated, int) else linear[-1].out_features if linear else None

    def forward(
        self, inputs: Tensor, data_samples: list[DataSample] | None = None, mode: str = 'tensor'
    ) -> Tensor | dict[str, Tensor] | list[DataSample]:
        """Logits, losses or predictions, as of mmpretrain's ``BaseClassifier``."""
        if mode == 'tensor':
            return as_logits(self.model(inputs), self.model)
        return super().forward(inputs, data_samples, mode)

    def loss(self, inputs: Tensor, data_samples: list[DataSample], **options: object) -> dict[str, Tensor]:
        """Losses by name."""
        return self._get_loss(self(inputs), data_samples, **options)
