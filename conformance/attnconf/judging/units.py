"""Units: an error in units of its bound, as JSON and text have it, and in the bins of a histogram."""

from __future__ import annotations

import math
from bisect import bisect_left
from typing import Annotated

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema

EDGES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Upper edges of a histogram's bins, in units of the bound; what lies above the last one broke the contract."""


def _read_units(value: object) -> object:
    return math.inf if value == "inf" else value


def _write_units(value: float | None) -> float | str | None:
    return "inf" if value == math.inf else value


Units = Annotated[
    float | None,
    Field(ge=0, allow_inf_nan=True),
    BeforeValidator(_read_units),
    PlainSerializer(_write_units, when_used="json"),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, {"const": "inf"}, {"type": "null"}]}),
]
"""An error in units of its bound: null if nothing was judged by numbers, "inf" in JSON if the output was not finite.

A large finite number would be a lie, and null for it would be lost in a maximum; so infinity has a name.
"""


def units_text(units: float | None) -> str:
    """Return an error in units as a report shows it; nothing was judged by numbers: an empty text."""
    return "" if units is None else ("inf" if math.isinf(units) else f"{units:.2f}")


def unit_bin(units: float) -> int:
    """Return the index of the histogram's bin for an error in units; 1 is still inside the bound, NaN is not."""
    return len(EDGES) if math.isnan(units) else bisect_left(EDGES, units)
