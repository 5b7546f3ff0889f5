"""Provide small networks in eval mode for the tests of the teacher engine, and measure differences of logits."""

from __future__ import annotations

import torch
from torch import nn

from r2kd_mm.classifiers import classifier_logits
from r2kd_mm.teachers.folding import try_out

# Largest difference of two computations of the logits, over the largest logit; three to ten times what was measured.
EXACT_TOLERANCE = 2e-6


def settled(network, size=8, seed=0):
    """``network`` in eval mode, its normalisation unlike that of a new one."""
    torch.manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.affine:
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
    with torch.no_grad():
        for _ in range(2):
            network.train()(torch.randn(4, 3, size, size) + 0.5, mode='tensor')
    return network.eval().requires_grad_(False)


def images(count=4, size=8, seed=1):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def logits(network, inputs):
    with torch.no_grad():
        return classifier_logits(network, inputs)


def difference(engine, network, inputs):
    """Relative to the largest logit."""
    expected = logits(network, inputs)
    return ((engine.logits(network, inputs) - expected).abs().max() / expected.abs().max()).item()


def folded_norms(network, size=8):
    return sorted(pair.norm for pair in try_out(network, images(2, size)).pairs)


def norms(network):
    return sorted(
        name for name, module in network.named_modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)
    )


class Net(nn.Module):
    """A classifier whose convolutional part is ``body``, a function of itself and the input."""

    def __init__(self, body, **parts):
        super().__init__()
        for name, part in (dict(conv=nn.Conv2d(3, 4, 3), norm=nn.BatchNorm2d(4)) | parts).items():
            self.add_module(name, part)
        self.body = body
        self.fc = nn.Linear(4, 5)

    def forward(self, inputs, mode='tensor'):
        return self.fc(self.body(self, inputs).mean((2, 3)))


def conv_norm(net, x):
    return net.norm(net.conv(x))
