"""Spans: images whose tokens see too little or too much of each other (clauses 1 and 2)."""

from __future__ import annotations

from attnconf.clauses import Clause
from attnconf.mutants.mutant import Mutant
from attnconf.mutants.small_cases import FULL, SLIDING, ask
from attnconf.mutants.source import Edit, edited

_FOLLOWED = "self.batch.row_spans is not None and geometry.spans"
_SPAN = "hidden & ~((positions < keys) & (keys < ends))"
_FIRST = "first_key = max(0, kv_len - q_len - window)"
IMAGES = FULL.model_copy(update={"spans": True})
SLIDING_IMAGES = SLIDING.model_copy(update={"spans": True, "window_left": 6})

_REQUESTS = (
    {"prefix_len": 45, "new_tokens": 16, "spans": ((48, 60),)},
    {"prefix_len": 7, "new_tokens": 9, "spans": ((3, 11), (11, 14))},
)


MUTANTS = (
    Mutant(
        id="spans-ignored",
        summary="the mask of images is dropped: their tokens see each other causally",
        bug="sgl-project/sglang#25006",
        clause=Clause.CAUSAL,
        make=edited("reference", Edit(_FOLLOWED, f"False and {_FOLLOWED}")),
        proof=ask("extend", SLIDING_IMAGES, requests=_REQUESTS),
    ),
    Mutant(
        id="spans-on-full-layers",
        summary="the mask of images is applied in every layer, also in full ones that are causal",
        clause=Clause.CAUSAL,
        make=edited("reference", Edit(_FOLLOWED, "self.batch.row_spans is not None")),
        proof=ask("extend", FULL, SLIDING_IMAGES, requests=_REQUESTS),
    ),
    Mutant(
        id="spans-cut-by-window",
        summary="a span that is wider than its window is cut at both ends",
        bug="vllm-project/vllm#47217",
        clause=Clause.WINDOW,
        make=edited("reference", Edit(_SPAN, _SPAN.replace("< ends)", "< ends) & (keys <= positions + window)"))),
        proof=ask("extend", SLIDING_IMAGES, requests=_REQUESTS),
    ),
    Mutant(
        id="spans-lift-the-window",
        summary="the tokens of an image see all of it, also what their window has left behind",
        clause=Clause.WINDOW,
        make=edited(
            "reference",
            Edit(_FIRST, f"{_FIRST} if self.batch.row_spans is None or not geometry.spans else 0"),
            Edit(_SPAN, "hidden & ~((keys >= self.batch.row_spans[rows, :1]) & (keys < ends))"),
        ),
        proof=ask("extend", SLIDING_IMAGES, requests=_REQUESTS),
    ),
    Mutant(
        id="spans-counted-from-chunk",
        summary="the tokens of an image are counted from the first new one: a chunk behind a prefix misses them",
        clause=Clause.CAUSAL,
        make=edited(
            "reference",
            Edit("ends = self.batch.row_spans[rows, 1:]", "ends = self.batch.row_spans[rows, 1:] - (kv_len - q_len)"),
        ),
        proof=ask("extend", IMAGES, requests=_REQUESTS),
    ),
    Mutant(
        id="spans-of-whole-chunks",
        summary="an image that a chunk cuts stays causal",
        clause=Clause.CAUSAL,
        make=edited(
            "reference",
            Edit(_SPAN, _SPAN.replace("< ends)", "< ends) & (ends <= kv_len)")),
        ),
        proof=ask("extend", IMAGES, requests=({"prefix_len": 20, "new_tokens": 12, "spans": ((24, 40),)},)),
    ),
    Mutant(
        id="spans-end-with-the-block",
        summary="a kernel visits keys up to its block's last row: the rest of an image behind the block is lost",
        clause=Clause.CAUSAL,
        make=edited(
            "triton",
            Edit(
                "        high = tl.maximum(high, tl.minimum(end, position - first + q_len))\n",
                "        high = tl.maximum(high, tl.minimum(end, high))\n",
                "triton.kernel",
            ),
        ),
        proof=ask("extend", IMAGES, requests=({"new_tokens": 60, "spans": ((0, 60),)},)),
    ),
)
