"""Bidirectional layers that are served as causal ones, or whose window is cut at one end alone (clauses 1 and 2)."""

from __future__ import annotations

from attnconf.clauses import Clause
from attnconf.mutants.mutant import Mutant
from attnconf.mutants.small_cases import FULL, SLIDING, ask
from attnconf.mutants.source import Edit, edited

BOTH_WAYS = FULL.model_copy(update={"bidirectional": True})
SLIDING_BOTH_WAYS = SLIDING.model_copy(update={"bidirectional": True, "window_left": 5})
_FIRST = "first_key = max(0, kv_len - q_len - window)"
_HIDDEN = "hidden = (keys - positions).abs() > window"
_REQUESTS = ({"prefix_len": 21, "new_tokens": 16}, {"new_tokens": 11})

MUTANTS = (
    Mutant(
        id="bidirectional-as-causal",
        summary="the layers of an encoder are served by the causal kernel",
        bug="sgl-project/sglang#32149",
        clause=Clause.CAUSAL,
        make=edited("reference", Edit(_HIDDEN, "hidden = hidden")),
        proof=ask("extend", BOTH_WAYS, requests=_REQUESTS),
    ),
    Mutant(
        id="bidirectional-behind-a-prefix",
        summary="a row behind a prefix is causal: only a block that is the whole request is not",
        clause=Clause.CAUSAL,
        make=edited("reference", Edit(_HIDDEN, f"{_HIDDEN} if kv_len == q_len else hidden")),
        proof=ask("extend", BOTH_WAYS, requests=_REQUESTS),
    ),
    Mutant(
        id="bidirectional-window-of-the-left",
        summary="the window of a bidirectional layer has no right end",
        bug="huggingface/transformers#40700",
        clause=Clause.WINDOW,
        make=edited("reference", Edit(_HIDDEN, "hidden = keys < positions - window")),
        proof=ask("extend", SLIDING_BOTH_WAYS, requests=_REQUESTS),
    ),
    Mutant(
        id="bidirectional-without-a-window",
        summary="windows belong to the causal mask, and are left out together with it",
        bug="sgl-project/sglang#33603",
        clause=Clause.WINDOW,
        make=edited(
            "reference",
            Edit(_FIRST, f"{_FIRST} if not geometry.bidirectional else 0"),
            Edit(_HIDDEN, "hidden = torch.zeros_like(hidden)"),
        ),
        proof=ask("extend", SLIDING_BOTH_WAYS, requests=_REQUESTS),
    ),
    Mutant(
        id="bidirectional-window-one-less",
        summary="the window of a bidirectional layer counts the query on both sides: its last key is lost",
        clause=Clause.WINDOW,
        make=edited("reference", Edit(_HIDDEN, f"{_HIDDEN} - (keys > positions).int()")),
        proof=ask("extend", SLIDING_BOTH_WAYS, requests=_REQUESTS),
    ),
    Mutant(
        id="bidirectional-to-the-block",
        summary="a kernel visits keys up to its block's last row: those behind the block are lost",
        clause=Clause.CAUSAL,
        make=edited(
            "triton",
            Edit(
                "        high = tl.maximum(high, tl.minimum(high + window_left, ahead) if WINDOWED else ahead)\n",
                "        high = tl.minimum(high, ahead)\n",
                "triton.kernel",
            ),
        ),
        proof=ask("extend", BOTH_WAYS, requests=({"prefix_len": 9, "new_tokens": 40},)),
    ),
)
