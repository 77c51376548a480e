"""Question: everything that an engine considers when it chooses an attention backend, as one value."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from attnconf.cases.dtypes import KVDtype
from attnconf.platforms import Platform
from attnconf.values import Value

Side = Literal["prefill", "decode"]
Named = Literal["none", "prefill", "decode", "both", "split"]
Algorithm = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,60}$")]
Mask = Literal["causal", "images"]
Deterministic = Literal["off", "on"]
Positive = Annotated[int, Field(ge=1, lt=10**6)]


class UserChoice(Value):
    """The backends that the user named: ``attention`` for both sides, ``prefill`` and ``decode`` for one side."""

    attention: str | None = None
    prefill: str | None = None
    decode: str | None = None

    def of(self, side: Side) -> str | None:
        """Return the backend that the user named for one side, or None."""
        return (self.prefill if side == "prefill" else self.decode) or self.attention

    @property
    def named(self) -> Named:
        """The sides for which the user named a backend; ``split``: another one for each side."""
        if self.attention is not None or (self.prefill is not None and self.prefill == self.decode):
            return "both"
        if self.prefill is not None:
            return "prefill" if self.decode is None else "split"
        return "none" if self.decode is None else "decode"


class Question(Value):
    """The question which backend ``architecture`` gets.

    ``kv_dtype`` is the dtype of the KV cache. ``mask`` is ``images`` when the tokens of an image see each other in both
    directions, as in configurations with ``use_bidirectional_attention: vision`` while images are served. ``q_len``
    is the number of query tokens of a request in a decode step: 1 without speculative decoding, else the draft
    tokens that are verified at once. ``speculative`` is the engine's name of the drafting algorithm, or ``none``;
    ``topk`` is the width of the draft tree, 1 for a chain, None where nothing is drafted. ``page_size`` counts
    tokens, None when the user leaves it to the engine. ``deterministic`` is ``on`` where the user asks for
    deterministic inference. ``user`` has the backends that the user named.
    """

    architecture: str
    platform: Platform = Platform()
    kv_dtype: KVDtype = "bfloat16"
    mask: Mask = "causal"
    q_len: Positive = 1
    speculative: Algorithm = "none"
    topk: Positive | None = None
    page_size: Positive | None = None
    deterministic: Deterministic = "off"
    user: UserChoice = UserChoice()
