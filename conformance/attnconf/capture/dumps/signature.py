"""Signature: the parameters of a function, out of the text that a dump keeps of it."""

from __future__ import annotations

import ast
from dataclasses import dataclass

_OPEN, _CLOSE = "([{<", ")]}>"


@dataclass(frozen=True)
class Parameter:
    """One parameter: ``default`` is a literal, None without one; ``kind`` is ``*``, ``**`` or empty."""

    name: str
    kind: str
    default: object = None


def parameters(text: str) -> tuple[Parameter, ...]:
    """Return the parameters of ``text``, as ``inspect.signature`` writes it. Raises ``ValueError`` for no signature."""
    if not text.startswith("("):
        raise ValueError("no signature")
    parts = _parts(text)
    found = [_parameter(part) for part in parts if part not in {"/", "*"}]
    if any(not one.name.isidentifier() for one in found):
        raise ValueError("no signature")
    return tuple(found)


def _parts(text: str) -> list[str]:
    """Return what stands between the commas of the first brackets."""
    depth, start, quote = 0, 1, ""
    found: list[str] = []
    for place, char in enumerate(text):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char in _OPEN:
            depth += 1
        elif char in _CLOSE and text[place - 1 : place + 1] != "->":
            depth -= 1
            if not depth:
                return [*found, text[start:place].strip()] if text[start:place].strip() else found
        elif char == "," and depth == 1:
            found.append(text[start:place].strip())
            start = place + 1
    raise ValueError("no signature")


def _parameter(part: str) -> Parameter:
    head, equals, default = part.partition("=")
    name = head.partition(":")[0].strip()
    kind = "*" * (len(name) - len(name.lstrip("*")))
    try:
        value = ast.literal_eval(default.strip()) if equals else None
    except (ValueError, SyntaxError):
        value = None
    return Parameter(name.lstrip("*"), kind, value)
