"""Room on Python's own stack for code that makes millions of small calls, as Triton's interpreter does.

CPython allocates frames in chunks of 16 KiB, and returns a chunk to the system as soon as its last frame ends. If a hot
loop happens to call across the end of a chunk, every call maps and unmaps memory: under pytest-xdist, whose stack is a
little deeper, the interpreter then spent half its time in the operating system. A frame with a large stack of its own
gets a large chunk, and the frames of its calls fit into the rest of it.
"""

from __future__ import annotations

from types import FunctionType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_SLOTS = 20_000
"""Slots of the large frame: 160 KB of a chunk of 256 KiB, which leaves 96 KB for the frames of its calls."""


def _call(function: Callable[[], None]) -> None:
    function()


call_with_room: Callable[[Callable[[], None]], None] = FunctionType(
    _call.__code__.replace(co_stacksize=_SLOTS), globals(), "call_with_room"
)
"""Call ``function`` at the start of a large chunk of stack."""
