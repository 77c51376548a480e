"""Units: errors in units of their bounds, in JSON, in text and in the bins of a histogram."""

from __future__ import annotations

import math
from bisect import bisect_left
from typing import Annotated

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema

EDGES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Upper edges of a histogram's bins, in units of the bound. An error above the last one breaks the contract."""

_THREE_DIGITS = 100
_READABLE = 10**7
"""Errors from the first to the second are printed as whole numbers, smaller and larger ones with three digits."""


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
"""An error in units of its bound. In JSON it is null if no number was judged, and "inf" if the output was not finite.

JSON has no infinity; a large finite number would be false, and null would be lost in a maximum.
"""


def units_text(units: float) -> str:
    """Return an error in units for a sentence: three digits, or the whole number while that is readable."""
    return f"{units:.0f}" if _THREE_DIGITS <= units < _READABLE else f"{units:.3g}"


def units_column(units: float | None) -> str:
    """Return an error in units for a table, with two decimals; the text is empty for None."""
    return "" if units is None else ("inf" if math.isinf(units) else f"{units:.2f}")


def unit_bin(units: float) -> int:
    """Return the index of the histogram's bin for an error in units: 1 is inside the bound, NaN is above it."""
    return len(EDGES) if math.isnan(units) else bisect_left(EDGES, units)
