"""Find a network by name in timm, torchvision, mmpretrain, HuggingFace or the zoo of r2kd_mm.

The result also states the image size and normalisation that the network expects.
"""

from r2kd_mm.networks.classifier import NetworkClassifier
from r2kd_mm.networks.files import FileNetwork
from r2kd_mm.networks.inputs import Inputs
from r2kd_mm.networks.names import LIBRARIES, NamedNetwork, find_network

__all__ = ['FileNetwork', 'Inputs', 'LIBRARIES', 'NamedNetwork', 'NetworkClassifier', 'find_network']
