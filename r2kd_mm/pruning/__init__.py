"""Make pruned copies of a teacher: set single weights to zero, or remove whole channels.

Weights are chosen by magnitude, in N:M groups or at random; channels are chosen by L1 norm.
"""

from typing import TYPE_CHECKING

from r2kd_mm.lazy import import_on_demand

if TYPE_CHECKING:
    from r2kd_mm.pruning.channels import ChannelPruner
    from r2kd_mm.pruning.magnitude import MagnitudePruner
    from r2kd_mm.pruning.n_m import NMPruner
    from r2kd_mm.pruning.random import RandomPruner
    from r2kd_mm.pruning.weights import Pruner, PruningReport

__all__ = ['ChannelPruner', 'MagnitudePruner', 'NMPruner', 'Pruner', 'PruningReport', 'RandomPruner']

__getattr__ = import_on_demand(__name__)
