"""Mutator: what a file may become by accident or by malice, as data, as lines and as bytes."""

from __future__ import annotations

import json
import random
from typing import Any

ODD: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 3, 7, 0.5, -0.0, 1e308, 1e400, float("nan"), 2**31, 2**63, 10**30, "", "3", "nan",
    "full", "decode", "x" * 9000, "\x1b[31m\n::error::x", "\u202e|<b>", "\ud800", "\u0663", "../../etc", [], {}, [[]],
    [None], {"": 0},
)  # fmt: skip
JUNK = ("", "\x00", "]", "}", '"', "1", "[[", "= 3", "\n", "\\u00e9", "é", "9" * 5000, "0x" + "f" * 5000, "[" * 100_000)
VALUES = (
    "3", "-1", "true", "nan", "1e400", '""', '"x"', "[]", "{}", "[[1]]", "1979-05-27", '">=1"', '["10.x"]', "9" * 5000,
    "0x" + "f" * 5000, '["none"]', '[">=2"]', '["any"]', '"triton"', '["full"]', '["decode"]', "2020-01-01", "[4, 4]",
    "[" + '"n",' * 10_000 + "]",
)  # fmt: skip
_RARELY = 0.02
_LONG = 500_000
"""About how many characters a list gets that is made long; the mutator's own memory counts, too."""

_DEEPER = 0.75


def mutate_data(data: Any, rng: random.Random) -> Any:  # noqa: ANN401 - JSON
    """Return a copy of ``data`` with one place in it replaced, removed, doubled, renamed or made long."""
    copy = json.loads(json.dumps(data))
    place = copy
    while place:
        key = rng.choice(list(place) if isinstance(place, dict) else range(len(place)))
        inner = place[key]
        if isinstance(inner, dict | list) and inner and rng.random() < _DEEPER:
            place = inner
            continue
        _change(place, key, rng)
        break
    return copy


def _change(place: Any, key: Any, rng: random.Random) -> None:  # noqa: ANN401 - JSON
    act = rng.randrange(6)
    if act == 0:
        del place[key]
    elif act == 1 and isinstance(place, list):
        place.extend([place[key]] * (_LONG // len(json.dumps(place[key])) if rng.random() < _RARELY else 1))
    elif act == 1:
        place[f"{key}\n\x1b"] = place[key]
    elif act == 2 and isinstance(place[key], int | float):
        place[key] = place[key] * rng.choice((-1, 0, 2, 10)) + rng.choice((-1, 0, 1))
    else:
        place[key] = rng.choice(ODD)


def mutate_lines(text: str, rng: random.Random) -> str:
    """Return a TOML text with one line dropped, repeated, moved, misspelt or given another value."""
    lines = text.splitlines()
    at = rng.randrange(len(lines))
    line = lines[at]
    act = rng.randrange(5)
    if act == 0 and len(lines) > 1:
        del lines[at]
    elif act == 1:
        lines.insert(rng.randrange(len(lines)), line)
    elif act == 2:
        lines.insert(rng.randrange(len(lines)), lines.pop(at))
    elif act == 3 and "=" in line:
        lines[at] = f"{line.split('=')[0]}= {rng.choice(VALUES)}"
    else:
        lines[at] = line.replace("e", rng.choice(("", "a", '"', "[", "\\u00e9")), 1)
    return "\n".join(lines)


def mutate_bytes(content: bytes, rng: random.Random) -> bytes:
    """Return a text that is cut, has junk or another byte somewhere, is no UTF-8, or very long."""
    at = rng.randrange(len(content) + 1)
    act = rng.randrange(6)
    if act == 0:
        return content[:at]
    if act == 1:
        return content[:at] + rng.choice(JUNK).encode() + content[at + rng.randrange(3) :]
    if act == 2:
        return content[:at] + bytes([rng.randrange(256)]) + content[at + 1 :]
    if act == 3:
        return content * 2
    if act == 4 and rng.random() < _RARELY:
        return content[:at] + rng.choice((b" ", b"[],", b"{},", b"9")) * 6_000_000 + content[at:]
    return content[:at] + content[rng.randrange(len(content) + 1) :]
