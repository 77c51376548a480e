"""Sizes: how large our own memory is."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from attnconf.values import Value

Pages = Annotated[int, Field(ge=2, le=100_000, strict=True)]


class Sizes(Value):
    """The pages of both pools, the tokens of a page, and the window of sliding layers."""

    full: Pages = 18
    swa: Pages = 12
    page_size: Annotated[int, Field(ge=1, le=4096, strict=True)] = 4
    window_left: Annotated[int, Field(ge=0, lt=2**31, strict=True)] = 7


SMALL = Sizes()
"""So small that requests often have to wait, and a story says much in few tokens."""
