"""Sizes: the loads whose speed counts, of sizes that serving runs. Lengths are drawn, since served ones are ragged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnconf.cases.drawing.choices import Choices
from attnconf.cases.drawing.counter import counted
from attnconf.cases.drawing.serving import CONTEXT, Load, load_requests, loads
from attnconf.cases.request import Request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnconf.cases.case import Mode
    from attnconf.cases.geometry import LayerGeometry

_DRAFTS = 4
"""Query tokens of a request of a verify step."""


@dataclass(frozen=True)
class Batch:
    """``count`` requests of at most ``keys`` cached tokens each, and no fewer than half of them."""

    count: int
    keys: int


_FEW: dict[str, tuple[Batch, ...]] = {"decode": (Batch(64, 4000),), "verify": (Batch(64, 4000),)}
_ALL: dict[str, tuple[Batch, ...]] = {
    "decode": (Batch(1, CONTEXT), Batch(8, 16_000), Batch(64, 4000), Batch(256, 2000)),
    "verify": (Batch(8, 16_000), Batch(64, 4000)),
}
MODES: tuple[Mode, ...] = ("decode", "extend", "mixed", "verify")


def sized_requests(
    mode: Mode, layers: Sequence[LayerGeometry], *, few: bool, seed: int
) -> list[tuple[str, tuple[Request, ...]]]:
    """Return the loads of a mode for a model of these layers, each with its size in words: a ``few``, or all."""
    found = []
    for batch in (_FEW if few else _ALL).get(mode, ()):
        choices = Choices(counted(seed, 0), f"bench {mode} {batch.count} x {batch.keys}/")
        tokens = _DRAFTS if mode == "verify" else 1
        requests = tuple(
            Request(prefix_len=choices.between(f"keys {index}", batch.keys // 2, batch.keys), new_tokens=tokens)
            for index in range(batch.count)
        )
        found.append((load_text(mode, requests), requests))
    if mode in {"extend", "mixed"}:
        windows = [layer.reach for layer in layers if layer.reach >= 0]
        served = loads(mode, layers, accelerated=True, few=few)
        for load in filter(_is_a_chunk, served):
            choices = Choices(counted(seed, 0), f"bench {mode} {load.tokens} {load.prefix} {load.others}/")
            requests = load_requests(choices, mode, load, windows, (_DRAFTS,))
            found.append((load_text(mode, requests), requests))
    return list({text: (text, requests) for text, requests in found}.values())


def _is_a_chunk(load: Load) -> bool:
    return load.tokens >= 512 and load.prefix != "context"  # noqa: PLR2004 - the smallest chunk that is served


def load_text(mode: str, requests: Sequence[Request]) -> str:
    """Return the size of a load in words."""
    chunk = max(requests, key=lambda one: one.new_tokens)
    if mode in {"decode", "verify"}:
        lengths = [one.prefix_len for one in requests]
        keys = f"{min(lengths)} to {max(lengths)}" if len(requests) > 1 else str(lengths[0])
        drafts = f", {chunk.new_tokens} tokens each" if mode == "verify" else ""
        return f"{len(requests)} {'request' if len(requests) == 1 else 'requests'} of {keys} keys{drafts}"
    others = len(requests) - 1
    beside = "" if not others else f" and {others} {'other' if others == 1 else 'others'}"
    return f"{chunk.new_tokens} new tokens behind {chunk.prefix_len}{beside}"
