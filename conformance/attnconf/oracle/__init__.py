"""The oracle: float64 attention from logical keys and values. It sees no page, and imports nothing that it judges."""

from attnconf.oracle.attention import Solved, Weights, attend, attend_all, solve
from attnconf.oracle.blocks import Block
from attnconf.oracle.packed import numbers, scaled, width_of
from attnconf.oracle.problem import Answer, Problem

__all__ = [
    "Answer",
    "Block",
    "Problem",
    "Solved",
    "Weights",
    "attend",
    "attend_all",
    "numbers",
    "scaled",
    "solve",
    "width_of",
]
