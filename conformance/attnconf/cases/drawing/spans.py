"""Spans of drawn requests: images inside a block of new tokens, across its ends, side by side, or all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnconf.cases.case import Layer, Mode
    from attnconf.cases.drawing.choices import Choices
    from attnconf.cases.request import Request, Span

_ONE_IN = ("none", "none", "some")
"""How often the requests of a case have images where some layer follows them."""

_KINDS = ("none", "whole", "inside", "from the prefix", "past the end", "side by side")
_FAR = 40
"""Tokens by which a span reaches into the prefix, or past the last new token."""


def with_spans(
    choices: Choices, requests: tuple[Request, ...], layers: Sequence[Layer], mode: Mode
) -> tuple[Request, ...]:
    """Return ``requests``, in some cases with spans, if one of ``layers`` follows them and there is room for one.

    A span of one query token alone changes nothing, so a decode gets none. Where some request is to have spans, at
    least the one with most new tokens does.
    """
    longest = max(range(len(requests)), key=lambda index: requests[index].new_tokens)
    if mode == "decode" or requests[longest].new_tokens < 2 or not any(layer.spans for layer in layers):  # noqa: PLR2004
        return requests
    if choices.pick("images", _ONE_IN) == "none":
        return requests
    found = []
    for index, request in enumerate(requests):
        kinds = [kind for kind in _KINDS if kind != "none" or index != longest]
        own = choices.within(f"request {index}")
        spans = _spans(own, request, own.pick("span", kinds)) if request.new_tokens > 1 else ()
        found.append(request.model_copy(update={"spans": spans}))
    return tuple(found)


def _spans(choices: Choices, request: Request, kind: str) -> tuple[Span, ...]:
    prefix, end = request.prefix_len, request.kv_len
    if kind == "none":
        return ()
    if kind == "inside":
        begin = prefix + choices.below("span begins", request.new_tokens - 1)
        return ((begin, choices.between("span ends", begin + 2, end)),)
    if kind == "from the prefix":
        return (
            (max(0, prefix - choices.between("span before", 1, _FAR)), choices.between("span ends", prefix + 1, end)),
        )
    if kind == "past the end":
        begin = prefix + choices.below("span begins", request.new_tokens - 1)
        return ((begin, end + choices.between("span behind", 1, _FAR)),)
    if kind == "side by side":
        middle = choices.between("span ends", prefix + 1, end - 1)
        return ((max(0, prefix - choices.below("span before", _FAR)), middle), (middle, end))
    return ((prefix, end),)
