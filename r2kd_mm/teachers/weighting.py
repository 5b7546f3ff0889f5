"""Set the weight of each teacher's logits in an ensemble: fixed, set by the teacher's confidence, or learned."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from r2kd_mm.arguments import check_positive
from r2kd_mm.functional import entropy
from r2kd_mm.registry import MODELS


def mix(logits: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted sum of the logits of the members of an ensemble.

    Args:
        logits: Shape ``(members, N, C)``.
        weights: Shape ``(members,)``, or ``(members, N)`` for weights of each image.

    Returns:
        Shape ``(N, C)``.

    Example:
        >>> mix(torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]]), torch.tensor([0.7, 0.3]))
        tensor([[0.7000, 0.3000]])
    """
    return (weights.to(logits.dtype).reshape(len(logits), -1, 1) * logits).sum(dim=0)


class Weighting(nn.Module):
    """Maps the members' logits ``(members, N, C)`` to weights ``(members,)`` or ``(members, N)`` that sum to 1.

    Attributes:
        is_fixed: Whether the weights are the shares, whatever the logits.
        is_learned: Whether the weights change in training.

    Args:
        shares: One for each member, in ``[0, 1]``, with the sum 1.
    """

    shares: Tensor
    is_fixed = False
    is_learned = False

    def __init__(self, shares: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer('shares', torch.tensor(shares, dtype=torch.float64), persistent=False)

    def extra_repr(self) -> str:
        """The shares."""
        return f'shares={self.shares.tolist()}'


@MODELS.register_module()
class FixedWeights(Weighting):
    """The shares, for every image.

    Example:
        >>> FixedWeights([0.5, 0.5])(torch.zeros(2, 4, 10))
        tensor([0.5000, 0.5000], dtype=torch.float64)
    """

    is_fixed = True

    def forward(self, logits: Tensor) -> Tensor:
        """See :class:`Weighting`; shape ``(members,)``."""
        return self.shares


@MODELS.register_module()
class ConfidenceWeights(Weighting):
    r"""More weight, image by image, to the members that are surer of their answer.

    .. math:: w_{kn} \propto s_k \exp(-H(\mathrm{softmax}(z_{kn} / T)) / \tau)

    for the share :math:`s_k` of member :math:`k`. At :math:`\tau = 1` the share is divided by the number of classes
    that the member hesitates between (its perplexity), and :math:`\tau \to \infty` gives back the shares. To weigh
    teachers by their entropy is the idea of Kwon et al., *Adaptive Knowledge Distillation Based on Entropy* (ICASSP
    2020); this formula is ours. It needs no label, unlike CA-MKD (Zhang et al., arXiv 2201.00007), so that it holds for
    augmented views whose labels are mixed.

    Args:
        shares: See :class:`Weighting`.
        temperature: :math:`T > 0`.
        tau: :math:`\tau > 0` in nats; a small one leaves the image to the surest member.

    Raises:
        ValueError: A number is out of range.

    Example:
        >>> sure, unsure = torch.tensor([[9.0, 0.0]]), torch.tensor([[0.0, 0.0]])
        >>> ConfidenceWeights([0.5, 0.5])(torch.stack([sure, unsure])).round(decimals=2)  # of the only image
        tensor([[0.6700],
                [0.3300]], dtype=torch.float64)
    """

    def __init__(self, shares: Sequence[float], temperature: float = 1.0, tau: float = 1.0) -> None:
        check_positive(temperature=temperature, tau=tau)
        super().__init__(shares)
        self.temperature = temperature
        self.tau = tau

    def forward(self, logits: Tensor) -> Tensor:
        """See :class:`Weighting`; shape ``(members, N)``."""
        confidence = -entropy(logits.to(torch.float64), self.temperature) / self.tau
        return (self.shares.log()[:, None] + confidence).softmax(dim=0)

    def extra_repr(self) -> str:
        """Shares and numbers."""
        return f'{super().extra_repr()}, temperature={self.temperature}, tau={self.tau}'


@MODELS.register_module()
class LearnedWeights(Weighting):
    """Weights that begin as the shares and are trained along with the student, but not by what the student learns from.

    They are a parameter of the distiller, in its optimizer and its checkpoints, and minimise the cross entropy of the
    ensemble on the labels of the clean images. A distillation loss has no say: its cheapest solution would be the
    teacher that is easiest to copy. A member with the share 0 keeps it.

    Example:
        >>> weights = LearnedWeights([0.75, 0.25])
        >>> weights(torch.zeros(2, 4, 10)).detach()
        tensor([0.7500, 0.2500], dtype=torch.float64)
    """

    is_learned = True

    def __init__(self, shares: Sequence[float]) -> None:
        super().__init__(shares)
        self.offsets = nn.Parameter(torch.zeros(len(shares)))

    def forward(self, logits: Tensor) -> Tensor:
        """See :class:`Weighting`; shape ``(members,)``, with gradient."""
        return (self.shares.log() + self.offsets).softmax(dim=0)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross entropy of the ensemble.

        Args:
            logits: Logits of the members on clean images, shape ``(members, N, C)``.
            labels: Class indices ``(N,)`` or class shares ``(N, C)``.
        """
        return functional.cross_entropy(mix(logits.detach(), self(logits)), labels)
