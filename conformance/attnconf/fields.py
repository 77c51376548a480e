"""Fields: typed reads from one untrusted JSON object, with errors of one sentence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from attnconf.errors import InvalidInputError, shown
from attnconf.wording import clipped

if TYPE_CHECKING:
    from collections.abc import Mapping

_LONGEST_QUOTE = 60


def quote(value: object) -> str:
    """Return ``value`` as short ASCII text, fit for any terminal and any log."""
    return clipped(shown(value), _LONGEST_QUOTE)


@dataclass(frozen=True)
class Fields:
    """One JSON object of the file ``source``; ``prefix`` is its place there (``text_config.``).

    Every method raises ``InvalidInputError`` that names the file, the field, what stood there and what may. A key
    that is missing or null yields ``default``; without a default it is an error.
    """

    source: str
    data: Mapping[str, Any]
    prefix: str = ""

    def refuse(self, name: str, given: object, allowed: str) -> NoReturn:
        """Raise the error for the field ``name``."""
        raise InvalidInputError(self.source, field=self._place(name), given=quote(given), allowed=allowed)

    def refuse_missing(self, name: str, allowed: str) -> NoReturn:
        """Raise the error for the absent field ``name``."""
        raise InvalidInputError(self.source, field=self._place(name), given="missing", allowed=allowed)

    def _place(self, name: str) -> str:
        return self.prefix + quote(name)[1:-1]

    def has(self, name: str) -> bool:
        """Whether the field is there and not null."""
        return self.data.get(name) is not None

    def integer(self, name: str, default: int | None = None, *, low: int = 1, high: int = 2**31 - 1) -> int:
        """Return a whole number in [low, high]; true, 8.0 and "8" are not whole numbers."""
        allowed = f"a whole number from {low} to {high}"
        value = self.data.get(name)
        if value is None:
            if default is None:
                self.refuse_missing(name, allowed)
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self.refuse(name, value, allowed)
        return value

    def positive(self, name: str, default: float | None = None) -> float:
        """Return a finite number above 0."""
        value = self.data.get(name)
        if value is None:
            if default is None:
                self.refuse_missing(name, "a number above 0")
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < _HUGE:
            self.refuse(name, value, "a number above 0")
        return float(value)

    def boolean(self, name: str, *, default: bool) -> bool:
        """Return true or false."""
        value = self.data.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.refuse(name, value, "true or false")
        return value

    def text(self, name: str, default: str) -> str:
        """Return a string."""
        value = self.data.get(name)
        if value is None:
            return default
        if not isinstance(value, str):
            self.refuse(name, value, "a string")
        return value

    def texts(self, name: str) -> tuple[str, ...] | None:
        """Return a list of strings, or None for a missing one."""
        value = self.data.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self.refuse(name, value, "a list of strings")
        return tuple(value)

    def child(self, name: str) -> Fields | None:
        """Return the object inside ``name``, or None for a missing one."""
        value = self.data.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            self.refuse(name, value, "an object")
        return Fields(self.source, value, f"{self.prefix}{name}.")


_HUGE = math.ldexp(1.0, 127)
"""A scale beyond fp32 is none; comparing with it also refuses NaN and infinities."""
