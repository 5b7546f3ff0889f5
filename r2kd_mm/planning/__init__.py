"""Estimate FLOPs, memory and time of one training step of a config, without a GPU and without the data."""

from r2kd_mm.planning.cards import CARDS, Card, find_card, read_bytes
from r2kd_mm.planning.trace import Operator, StepTrace

__all__ = ['CARDS', 'Card', 'Operator', 'StepTrace', 'find_card', 'read_bytes']
