"""Chunked layers that are not chunked, slide, or begin their chunks elsewhere (clause 2)."""

from __future__ import annotations

from attnconf.clauses import Clause
from attnconf.mutants.mutant import Mutant
from attnconf.mutants.small_cases import FULL, ask
from attnconf.mutants.source import Edit, edited

CHUNKED = FULL.model_copy(update={"kind": "chunked", "chunk_size": 20})
_HIDDEN = "hidden | (keys // geometry.chunk_size < positions // geometry.chunk_size)"
_FIRST = "first_key = max(0, kv_len - q_len) // geometry.chunk_size * geometry.chunk_size"

MUTANTS = (
    Mutant(
        id="chunks-ignored",
        summary="chunked layers are run as full ones",
        bug="vllm-project/vllm#49980",
        clause=Clause.WINDOW,
        make=edited("reference", Edit(_HIDDEN, "hidden"), Edit(_FIRST, "first_key = 0")),
        proof=ask("decode", CHUNKED),
    ),
    Mutant(
        id="chunks-slide",
        summary="the chunk size is passed on as a window",
        clause=Clause.WINDOW,
        make=edited(
            "reference",
            Edit(_HIDDEN, "hidden | (keys <= positions - geometry.chunk_size)"),
            Edit(_FIRST, "first_key = max(0, kv_len - q_len - geometry.chunk_size + 1)"),
        ),
        proof=ask("decode", CHUNKED),
    ),
    Mutant(
        id="chunks-of-the-first-row",
        summary="all rows of a block see the chunk of its first row, too",
        clause=Clause.WINDOW,
        make=edited("reference", Edit(_HIDDEN, "hidden")),
        proof=ask("extend", CHUNKED, requests=({"prefix_len": 45, "new_tokens": 24},)),
    ),
    Mutant(
        id="chunks-of-the-last-row",
        summary="all rows of a block see the chunk of its last row alone",
        clause=Clause.WINDOW,
        make=edited(
            "reference",
            Edit(_FIRST, "first_key = max(0, kv_len - 1) // geometry.chunk_size * geometry.chunk_size"),
        ),
        proof=ask(
            "verify", CHUNKED, requests=({"prefix_len": 38, "new_tokens": 4}, {"prefix_len": 9, "new_tokens": 4})
        ),
    ),
    Mutant(
        id="chunks-counted-from-new-tokens",
        summary="chunks are counted from the first new token of a prefill",
        clause=Clause.WINDOW,
        make=edited(
            "reference",
            Edit(
                _HIDDEN,
                "hidden | ((keys - kv_len + q_len) // geometry.chunk_size "
                "< (positions - kv_len + q_len) // geometry.chunk_size)",
            ),
        ),
        proof=ask("extend", CHUNKED, requests=({"prefix_len": 45, "new_tokens": 24},)),
    ),
    Mutant(
        id="chunk-key-at-the-border",
        summary="the first token of a chunk still sees the chunk before it",
        clause=Clause.WINDOW,
        make=edited(
            "reference",
            Edit(_HIDDEN, "hidden | (keys // geometry.chunk_size < (positions - 1) // geometry.chunk_size)"),
            Edit(_FIRST, "first_key = max(0, kv_len - q_len - 1) // geometry.chunk_size * geometry.chunk_size"),
        ),
        proof=ask("extend", CHUNKED, requests=({"prefix_len": 33, "new_tokens": 12},)),
    ),
    Mutant(
        id="chunk-of-a-blocks-last-row",
        summary="a kernel starts at the chunk of its block's last row: the rows before it lose their keys",
        clause=Clause.WINDOW,
        make=edited(
            "triton",
            Edit(
                "first_key = tl.maximum(position, 0) // window_left * window_left",
                "first_key = tl.maximum(position + tokens - 1, 0) // window_left * window_left",
                "triton.kernel",
            ),
        ),
        proof=ask("extend", CHUNKED, requests=({"prefix_len": 33, "new_tokens": 24},)),
    ),
)
