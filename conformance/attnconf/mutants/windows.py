"""Keys: causality, and the window at its old end (clauses 1 and 2)."""

from __future__ import annotations

from attnconf.clauses import Clause
from attnconf.mutants.mutant import Mutant
from attnconf.mutants.small_cases import FULL, SLIDING, ask
from attnconf.mutants.source import Edit, edited

_WINDOW = "window = geometry.window_left if geometry.window_left >= 0 else kv_len"
_OLD = "(keys < positions - window)"
_FIRST = "first_key = max(0, kv_len - q_len - window)\n"

_MASKED = "scores = scores.masked_fill(hidden, -math.inf)"

MUTANTS = (
    Mutant(
        id="window-short-in-decode",
        summary="decode keeps window_left keys, not window_left + 1",
        bug="lightseekorg/tokenspeed#578",
        catalogue=("M01",),
        clause=Clause.WINDOW,
        make=edited("reference", Edit(_OLD, "(keys < positions - window + (q_len == 1))")),
        proof=ask("decode", SLIDING),
    ),
    Mutant(
        id="window-one-more",
        summary="a sliding_window of W is passed on as window_left: one key too many",
        bug="huggingface/transformers#39408",
        catalogue=("M02",),
        clause=Clause.WINDOW,
        make=edited("reference", Edit("window = geometry.window_left if", "window = geometry.window_left + 1 if")),
        proof=ask("decode", SLIDING),
    ),
    Mutant(
        id="window-chunk-relative",
        summary="the window test takes a query's row in its chunk for its position",
        bug="vllm-project/vllm#4405",
        catalogue=("M04",),
        clause=Clause.WINDOW,
        make=edited("reference", Edit(_OLD, "(keys < positions - positions[0] - window)")),
        proof=ask("extend", SLIDING),
    ),
    Mutant(
        id="window-off-in-decode",
        summary="decode ignores the window",
        bug="EricLBuehler/mistral.rs#2094",
        catalogue=("M05",),
        clause=Clause.WINDOW,
        make=edited(
            "reference", Edit("if geometry.window_left >= 0 else", "if geometry.window_left >= 0 and q_len > 1 else")
        ),
        proof=ask("decode", SLIDING),
    ),
    Mutant(
        id="window-on-full-layers",
        summary="the model's window binds its full layers, too",
        bug="ggml-org/llama.cpp#15811",
        catalogue=("M05",),
        clause=Clause.WINDOW,
        make=edited(
            "reference",
            Edit(
                _WINDOW,
                "window = max(one.geometry.window_left for one in self.batch.layers)\n"
                "        window = window if window >= 0 else kv_len",
            ),
        ),
        proof=ask("decode", FULL, SLIDING),
    ),
    Mutant(
        id="window-of-last-row",
        summary="all rows of a request take the last row's window",
        bug="NVIDIA/TensorRT-LLM#6834",
        clause=Clause.WINDOW,
        make=edited("reference", Edit(_OLD, "(keys < positions.max() - window)")),
        proof=ask("verify", SLIDING),
    ),
    Mutant(
        id="window-in-first-tile-only",
        summary="the window is masked in the first 16 visited keys only",
        bug="flashinfer-ai/flashinfer#2062",
        clause=Clause.WINDOW,
        make=edited("reference", Edit(_OLD, "(keys < positions - window) & (keys < first_key + 16)")),
        proof=ask("extend", SLIDING, requests=({"prefix_len": 60, "new_tokens": 24},)),
    ),
    Mutant(
        id="window-skips-partial-page",
        summary="the visit starts at the first whole page inside the window",
        bug="flashinfer-ai/flashinfer#3089",
        clause=Clause.WINDOW,
        make=edited(
            "reference",
            Edit(
                _FIRST, f"{_FIRST}        first_key = min(kv_len - 1, first_key + -first_key % self.batch.page_size)\n"
            ),
        ),
        proof=ask("decode", SLIDING),
    ),
    Mutant(
        id="window-start-on-tile-border",
        summary="a window that starts on a border of 16 keys starts one key late",
        bug="NVIDIA/TensorRT-LLM#6379",
        clause=Clause.WINDOW,
        make=edited("reference", Edit(_FIRST, f"{_FIRST}        first_key += first_key > 0 and first_key % 16 == 0\n")),
        proof=ask("decode", SLIDING, requests=({"prefix_len": 52},)),
    ),
    Mutant(
        id="window-off-by-chunk-of-mixed",
        summary="the single-token requests of a mixed batch lose their oldest key",
        bug="vllm-project/vllm#3385",
        clause=Clause.WINDOW,
        make=edited(
            "reference", Edit(_OLD, "(keys < positions - window + (q_len == 1 and self.batch.mode == 'mixed'))")
        ),
        proof=ask("mixed", SLIDING),
    ),
    Mutant(
        id="causal-top-left",
        summary="positions count from the first new token, not from the prefix",
        bug="gittensor-ai-lab/sparkinfer#3",
        catalogue=("M06",),
        clause=Clause.CAUSAL,
        make=edited(
            "reference", Edit("positions = torch.arange(kv_len - q_len, kv_len,", "positions = torch.arange(q_len,")
        ),
        proof=ask("extend"),
    ),
    Mutant(
        id="causal-off-in-verify",
        summary="the new tokens of a short block see each other, later ones included",
        bug="flashinfer-ai/flashinfer#3871",
        catalogue=("M07",),
        clause=Clause.CAUSAL,
        make=edited("reference", Edit("(keys > positions)", "((keys > positions) & (q_len > 8))")),
        proof=ask("verify"),
    ),
    Mutant(
        id="causal-strict",
        summary="a query does not see its own key",
        bug="flashinfer-ai/flashinfer#348",
        clause=Clause.CAUSAL,
        make=edited(
            "reference", Edit("(keys > positions)", "((keys > positions) | ((keys == positions) & (positions > 0)))")
        ),
        proof=ask("extend"),
    ),
    Mutant(
        id="causal-at-tile-border",
        summary="the causal mask is left out where the diagonal starts a tile of 16 keys",
        clause=Clause.CAUSAL,
        make=edited("reference", Edit("(keys > positions)", "((keys > positions) & (positions % 16 != 0))")),
        proof=ask("extend"),
    ),
    Mutant(
        id="seq-lens-of-prefix",
        summary="seq_lens is taken for the cached tokens alone: a decode misses its newest key",
        clause=Clause.CAUSAL,
        make=edited("reference", Edit("keys > positions)", "keys > positions - int(q_len == 1 and kv_len > 1))")),
        proof=ask("decode"),
    ),
    Mutant(
        id="window-by-finite-mask",
        summary="keys behind the window get the score -10000: they count where all others score less",
        bug="none filed",
        clause=Clause.WINDOW,
        make=edited(
            "reference",
            Edit(_FIRST, "first_key = 0\n"),
            Edit(_MASKED, f"{_MASKED}\n        scores = scores.masked_fill({_OLD}, -1e4)"),
        ),
        proof=ask("extend", SLIDING, seed=18),
    ),
    Mutant(
        id="mask-is-finite",
        summary="keys out of sight get the score -10000",
        clause=Clause.CAUSAL,
        make=edited("reference", Edit(_MASKED, "scores = scores.masked_fill(hidden, -1e4)")),
        proof=ask("extend", seed=18),
    ),
)
