"""Drafts: verify steps of many or other numbers of query tokens, and their padding (clauses 1 and 11)."""

from __future__ import annotations

from attnconf.clauses import Clause
from attnconf.mutants.mutant import Mutant
from attnconf.mutants.small_cases import ask
from attnconf.mutants.source import Edit, edited

_POSITIONS = "positions = torch.arange(kv_len - q_len, kv_len, device=q.device)[:, None]"
_VERIFIES = "self.batch.mode == 'verify'"

MUTANTS = (
    Mutant(
        id="drafts-as-many-as-the-first",
        summary="a verify step takes the first request's number of query tokens for that of each",
        bug="flashinfer-ai/flashinfer#4137",
        clause=Clause.CAUSAL,
        make=edited(
            "reference",
            Edit(
                _POSITIONS,
                f"first = self.batch.q_lens[0] if {_VERIFIES} and self.batch.q_lens[0] else q_len\n"
                "        positions = torch.arange(kv_len - first, kv_len - first + q_len, device=q.device)[:, None]",
            ),
        ),
        proof=ask("verify", requests=({"prefix_len": 44, "new_tokens": 5}, {"prefix_len": 20, "new_tokens": 2})),
    ),
    Mutant(
        id="drafts-past-a-mask-word",
        summary="the mask of drafts is one word of 32 bits: those behind it are seen by all",
        clause=Clause.CAUSAL,
        make=edited(
            "reference",
            Edit(
                "(keys > positions)",
                f"((keys > positions) & ~((keys - (kv_len - q_len) >= 32) & ({_VERIFIES})))",
            ),
        ),
        proof=ask("verify", requests=({"prefix_len": 20, "new_tokens": 40},)),
    ),
    Mutant(
        id="drafts-of-padding-unwritten",
        summary="the padding rows of a verify step are left as they were",
        bug="alibaba/rtp-llm#1241",
        clause=Clause.EMPTY_ROWS,
        make=edited("reference", Edit("if q_len == 0:", "if q_len == 0 or (kv_len == 0 and q_len > 1):")),
        proof=ask("verify", padding_rows=1),
    ),
)
