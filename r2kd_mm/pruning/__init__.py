"""Teacher pruners: score the weights, choose, apply."""

from r2kd_mm.pruning.magnitude import MagnitudePruner, PruningReport

__all__ = ['MagnitudePruner', 'PruningReport']
