"""A counter as a source of choices: each is the SHA-256 of a seed, the number of the case, and the choice's name.

Nothing else decides, so one seed gives the same cases under every version of Python and of all packages, and a choice
that is added to a case leaves its other choices as they were.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attnconf.cases.drawing.choices import Source

_BYTES = 16
"""Of each digest: beside 2 ** 128, the remainder of a division by any count of options is of no weight."""


def counted(seed: int, number: int) -> Source:
    """Return the source of the choices of case ``number`` of ``seed``."""
    start = hashlib.sha256(f"{seed}/{number}/".encode())

    def source(name: str, count: int) -> int:
        found = start.copy()
        found.update(name.encode())
        return int.from_bytes(found.digest()[:_BYTES], "big") % count

    return source
