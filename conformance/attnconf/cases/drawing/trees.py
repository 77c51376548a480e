"""Trees of drawn verify steps: wide, deep, ragged, and several from the prefix."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnconf.cases.trees import is_chain

if TYPE_CHECKING:
    from attnconf.cases.case import Mode
    from attnconf.cases.drawing.choices import Choices
    from attnconf.cases.request import Request
    from attnconf.cases.trees import Tree

_ONE_IN = ("none", "none", "some")
"""How often the requests of a verify step have trees."""

_KINDS = ("chain", "star", "beams", "ragged", "forest")
_BEAMS = (2, 3, 4)
"""Chains side by side behind one token, as many as an engine's topk."""


def with_trees(choices: Choices, requests: tuple[Request, ...], mode: Mode) -> tuple[Request, ...]:
    """Return ``requests``, in some verify steps with trees; at least the one with most new tokens then has one."""
    if mode != "verify" or any(one.spans for one in requests) or choices.pick("trees", _ONE_IN) == "none":
        return requests
    longest = max(range(len(requests)), key=lambda index: requests[index].new_tokens)
    found = []
    for index, request in enumerate(requests):
        own = choices.within(f"request {index}")
        kinds = _KINDS if index != longest else _KINDS[1:]
        tree = _tree(own, request.new_tokens, own.pick("tree", kinds)) if request.new_tokens > 1 else ()
        if is_chain(tree) and index == longest:
            tree = (-1,) * request.new_tokens
        found.append(request.model_copy(update={"tree": () if is_chain(tree) else tree}))
    return tuple(found)


def _tree(choices: Choices, tokens: int, kind: str) -> Tree:
    if kind == "chain":
        return ()
    if kind == "star":
        return (-1, *(0 for _ in range(tokens - 1)))
    if kind == "forest":
        return (-1,) * tokens
    if kind == "beams":
        beams = choices.pick("beams", _BEAMS)
        return (-1, *(max(0, token - beams) for token in range(1, tokens)))
    return (-1, *(choices.below(f"parent {token}", token + 1) - 1 for token in range(1, tokens)))
