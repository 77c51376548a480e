"""Spaces: what a campaign draws its cases from, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from attnconf.cases.case import Layer
from attnconf.cases.dtypes import E5M2, FP8, NVFP4, Dtypes

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.cases.case import Mode
    from attnconf.cases.drawing.choices import Choices
    from attnconf.cases.drawing.extremes import Card
    from attnconf.cases.drawing.serving import Load
    from attnconf.cases.dtypes import KVDtype

T = TypeVar("T")
Draw: TypeAlias = "Callable[[Choices], T]"
"""A function that draws a part of a case."""

MODES: tuple[Mode, ...] = ("decode", "extend", "mixed", "verify")
PAGE_SIZES = (1, 2, 3, 8, 16, 32, 64, 128, 256)
VERIFY_LENS = (*range(2, 9), *range(2, 9), 9, 16, 33, 64)
"""Query tokens of a verify step: usual ones, drawn twice as often, and beside tiles and words of mask bits."""

MODEL_DTYPES: tuple[Dtypes, ...] = (
    Dtypes("float16", "float16", "float16"),
    Dtypes("bfloat16", "bfloat16", "bfloat16"),
    Dtypes("bfloat16", FP8, "bfloat16"),
    Dtypes("float16", FP8, "float16"),
    Dtypes(FP8, FP8, "bfloat16"),
)
"""The dtypes in which engines serve a model's layers."""

DTYPES: tuple[Dtypes, ...] = (
    Dtypes("float32", "float32", "float32"),
    *MODEL_DTYPES,
    Dtypes(FP8, FP8, "float16"),
    Dtypes(FP8, FP8, FP8),
    Dtypes("bfloat16", FP8, FP8),
)


RARE_FORMATS: tuple[KVDtype, ...] = (E5M2, NVFP4)
"""Formats of KV that now and then stand in for KV of e4m3: see ``standing_in``."""


def standing_in(formats: tuple[KVDtype, ...], dtypes: Dtypes) -> tuple[KVDtype, ...]:
    """Return those of rare ``formats`` in which KV of e4m3 may be stored: e5m2 has queries and answers of 16 bits."""
    if dtypes.kv != FP8:
        return ()
    return tuple(one for one in formats if one == NVFP4 or FP8 not in {dtypes.q, dtypes.out})


def over(kv_dtype: KVDtype, dtypes: tuple[Dtypes, ...]) -> tuple[Dtypes, ...]:
    """Return those of ``dtypes`` with such KV; a rare format has those in whose place it stands."""
    if kv_dtype in RARE_FORMATS:
        return tuple(one._replace(kv=kv_dtype) for one in dtypes if standing_in((kv_dtype,), one))
    return tuple(one for one in dtypes if one.kv == kv_dtype)


@dataclass(frozen=True, kw_only=True)
class CompiledShape:
    """What is compiled into kernels: layers, page size and dtypes, drawn together where each one costs a build."""

    layers: tuple[Layer, ...]
    page_size: int
    dtypes: Dtypes


@dataclass(frozen=True, kw_only=True)
class Space:
    """The cases that a campaign draws from.

    ``layers`` draws a case's layers; ``past_window`` gives every case a request longer than the longest
    window, so that each window masks keys. ``hybrid`` None leaves the pools free; ``max_kv_len`` bounds lengths where
    no window asks for more. With a ``long_kv_len`` above 0 one request has that many keys or up to a page more, and
    the others are short or between; ``lengths.shortened`` then shrinks what fails. With ``extremes`` some cases have
    one dimension that is far larger than the others; the first cases are those of the ``deck``, one a card or load, and
    ``far`` ones go to the end of each ladder, or to a ``part`` of it. ``formats`` of KV stand in for 8-bit KV now and
    then, where shapes are free. With ``head_scales`` each KV head of several has scales of its own.
    """

    name: str
    layers: Draw[tuple[Layer, ...]]
    model: str = "free"
    modes: tuple[Mode, ...] = MODES
    dtypes: tuple[Dtypes, ...] = DTYPES
    formats: tuple[KVDtype, ...] = RARE_FORMATS
    head_scales: bool = False
    page_sizes: tuple[int, ...] = PAGE_SIZES
    max_requests: int = 3
    max_kv_len: int = 300
    long_kv_len: int = 0
    max_new_tokens: int = 24
    past_window: bool = True
    hybrid: bool | None = None
    shapes: Draw[CompiledShape] | None = None
    verify_lens: tuple[int, ...] = VERIFY_LENS
    extremes: bool = False
    deck: tuple[Card | Load, ...] = ()
    far: bool = True
    part: int | None = None
