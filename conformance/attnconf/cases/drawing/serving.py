"""Serving loads: what a scheduler hands to a model's layers in one step, at the sizes that are served.

Kernels take another path at such sizes: more tiles than there are multiprocessors, splits, persistent schedulers, a
prefill behind a prefix that fills no tile, or one that is longer than its own window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from attnconf.cases.request import Request

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from attnconf.cases.case import Case, Mode
    from attnconf.cases.drawing.choices import Choices
    from attnconf.cases.geometry import LayerGeometry

Prefix = Literal["none", "odd", "past the window", "context"]

CONTEXT = 131_072
"""Keys of the longest context that these models are served with."""

_ODD = 1500
_SERVED_KEYS = 2000
"""The most keys of one request in eight of a large batch."""

_SHORT_KEYS = 256
"""The most keys of the others."""

_LONG_ONE_IN = 8
_USUAL_WINDOW = 511
"""Stands for a window where a model has none."""

_PAST = 160
_SECOND_TOKENS = 9
_MOST_PRODUCTS_ON_CPU = 2**24
"""Query heads x new tokens x keys of a layer, above which a CPU gets fewer rows."""

_ROWS_ON_CPU = 300


@dataclass(frozen=True)
class Load:
    """One step: a chunk of ``tokens`` new tokens behind a ``prefix``, if there is any, and ``others`` beside it.

    In a decode batch all requests are ``others``; those beside a chunk are decodes, too.
    """

    tokens: int = 0
    prefix: Prefix = "none"
    others: int = 0


_FEW: dict[Mode, tuple[Load, ...]] = {
    "decode": (Load(others=64),),
    "extend": (Load(512, "odd"), Load(2048, "past the window")),
    "mixed": (Load(512, "odd", 64),),
}
"""Loads for a profile of little time."""

_ALL: dict[Mode, tuple[Load, ...]] = {
    "decode": (*(Load(others=count) for count in (64, 256, 512)), Load(1, "context")),
    "extend": (
        *(Load(tokens, prefix) for tokens in (512, 2048, 8192) for prefix in ("none", "odd", "past the window")),
        Load(17, "context"),
    ),
    "mixed": (Load(512, "odd", 64), Load(2048, "past the window", 64)),
    "verify": (Load(others=64),),
}


def loads(mode: str, layers: Sequence[LayerGeometry], *, accelerated: bool, few: bool) -> tuple[Load, ...]:
    """Return the loads of a mode for a model of these ``layers``: on a GPU a ``few`` or all, on a CPU what it bears.

    A CPU gets one chunk that is longer than the longest window, or of 300 rows where that is too much.
    """
    if accelerated:
        found: tuple[Load, ...] = (_FEW if few else _ALL).get(mode, ())  # type: ignore[call-overload]
        return found
    if few or mode != "extend":
        return ()
    rows = max(layer.reach for layer in layers) + _PAST // 2
    heads = max(layer.num_qo_heads for layer in layers)
    bears = rows > _ROWS_ON_CPU and heads * rows * rows <= _MOST_PRODUCTS_ON_CPU
    return (Load(rows if bears else _ROWS_ON_CPU, "odd"),)


def load_requests(
    choices: Choices, mode: Mode, load: Load, windows: Sequence[int], verify_lens: Sequence[int]
) -> tuple[Request, ...]:
    """Draw the requests of a step under ``load`` for a model whose layers reach ``windows`` keys back."""
    tokens = choices.pick("verify tokens", verify_lens) if mode == "verify" else 1
    others = [
        _other(choices.within(f"request {index}"), tokens, windows, long=index % _LONG_ONE_IN == 0)
        for index in range(load.others)
    ]
    if not load.tokens:
        return tuple(others)
    chunk = Request(prefix_len=_prefix(choices, load.prefix, windows), new_tokens=load.tokens)
    if mode == "extend" and choices.flip("second"):
        others.append(Request(prefix_len=choices.below("second prefix", _ODD), new_tokens=_SECOND_TOKENS))
    return (*others, chunk) if choices.flip("chunk last") else (chunk, *others)


def _other(choices: Choices, tokens: int, windows: Sequence[int], *, long: bool) -> Request:
    """Draw a request beside others; a ``long`` one goes past the window, or has any number of keys."""
    if not long:
        return Request(prefix_len=choices.below("keys", _SHORT_KEYS), new_tokens=tokens)
    if windows and choices.flip("past its window"):
        return Request(prefix_len=max(windows) + choices.below("past", _PAST), new_tokens=tokens)
    return Request(prefix_len=choices.below("keys", _SERVED_KEYS), new_tokens=tokens)


def _prefix(choices: Choices, prefix: Prefix, windows: Sequence[int]) -> int:
    if prefix == "none":
        return 0
    if prefix == "context":
        return CONTEXT + choices.below("past context", _PAST)
    odd = 2 * choices.below("odd", _ODD // 2) + 1
    return odd if prefix == "odd" else max(windows, default=_USUAL_WINDOW) + 1 + odd


def lessened(case: Case) -> Iterator[Case]:
    """Yield smaller cases than one of a load, the smallest first: fewer requests, then more new tokens."""
    chunk = max(range(len(case.requests)), key=lambda index: case.requests[index].new_tokens)
    for most in (1, 4, 16, 64):
        for rows in (16, 65, 257, 1025):
            kept = [one for index, one in enumerate(case.requests) if index != chunk][: most - (case.mode != "mixed")]
            new = min(rows, case.requests[chunk].new_tokens) if case.mode in {"extend", "mixed"} else None
            first = case.requests[chunk]
            first = first if new is None else first.resized(first.prefix_len, new)
            smaller = case.model_copy(update={"requests": (first, *kept)})
            if _work(smaller) < _work(case):
                yield smaller


def _work(case: Case) -> int:
    return sum(request.new_tokens * request.kv_len + request.kv_len for request in case.requests)
