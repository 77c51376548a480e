"""Question: all that an engine knows when it chooses an attention backend, as one value."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from attnconf.cases.case import KVDtype
from attnconf.platforms import Platform
from attnconf.values import Value

Side = Literal["prefill", "decode"]
Named = Literal["none", "prefill", "decode", "both", "split"]
Algorithm = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,60}$")]
Mask = Literal["causal", "images"]
Positive = Annotated[int, Field(ge=1, lt=10**6)]


class UserChoice(Value):
    """What the user named: ``attention`` for both sides, ``prefill`` and ``decode`` for one; None for nothing."""

    attention: str | None = None
    prefill: str | None = None
    decode: str | None = None

    def of(self, side: Side) -> str | None:
        """Return the backend that the user wants on one side, or None."""
        return (self.prefill if side == "prefill" else self.decode) or self.attention

    @property
    def named(self) -> Named:
        """Which sides the user decided; ``split``: each side by itself, and differently."""
        if self.attention is not None or (self.prefill is not None and self.prefill == self.decode):
            return "both"
        if self.prefill is not None:
            return "prefill" if self.decode is None else "split"
        return "none" if self.decode is None else "decode"


class Question(Value):
    """The question which backend ``architecture`` gets.

    ``kv_dtype`` is that of the KV cache. ``mask`` is ``images`` when the tokens of an image see each other in both
    directions, as configurations with ``use_bidirectional_attention: vision`` ask for while images are served.
    ``q_len`` counts the query tokens that a request has in a decode step: 1 without speculative decoding, else the
    draft tokens that are verified at once; ``speculative`` names the algorithm that drafts them, as the engine does, or
    is ``none``; ``topk`` is the width of the draft tree, 1 for a chain. ``page_size`` counts tokens, None when the user
    leaves it to the engine. ``user`` is what the user named.
    """

    architecture: str
    platform: Platform = Platform()
    kv_dtype: KVDtype = "bfloat16"
    mask: Mask = "causal"
    q_len: Positive = 1
    speculative: Algorithm = "none"
    topk: Positive = 1
    page_size: Positive | None = None
    user: UserChoice = UserChoice()
