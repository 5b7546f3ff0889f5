"""Find timm, torchvision, mmpretrain, HuggingFace and zoo networks by name, with image size and normalisation."""

from r2kd_mm.networks.classifier import NetworkClassifier
from r2kd_mm.networks.files import FileNetwork
from r2kd_mm.networks.inputs import Inputs
from r2kd_mm.networks.names import LIBRARIES, NamedNetwork, find_network

__all__ = ['FileNetwork', 'Inputs', 'LIBRARIES', 'NamedNetwork', 'NetworkClassifier', 'find_network']
