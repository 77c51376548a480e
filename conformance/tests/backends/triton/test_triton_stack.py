"""Room on the interpreter's stack: the call is made once, with its own errors, and no frame below maps memory again."""

from __future__ import annotations

import sys

import pytest

from attnconf.backends.triton.stack import call_with_room


def test_it_calls_once_on_a_frame_that_asks_for_a_large_stack() -> None:
    frames: list[int] = []

    def look() -> None:
        frames.append(sys._getframe(1).f_code.co_stacksize)

    call_with_room(look)
    assert len(frames) == 1
    assert 8 * frames[0] >= 128 * 1024


def test_an_error_comes_through() -> None:
    def fail() -> None:
        message = "from below"
        raise ValueError(message)

    with pytest.raises(ValueError, match="from below"):
        call_with_room(fail)
