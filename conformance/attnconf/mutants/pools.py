"""Pools: the sliding pool and its translation, reclaimed pages, and contents of dead slots (clauses 6 to 8)."""

from __future__ import annotations

from attnconf.clauses import Clause
from attnconf.mutants.mutant import Mutant
from attnconf.mutants.small_cases import FULL, HOSTILE, HYBRID, RECLAIMED, SLIDING, ask
from attnconf.mutants.source import Edit, edited

_GATHER = "k, v = (self._gather(cache, table, first_key, kv_len) for cache in self._caches(layer))"
_WHOLE = f"held = -(-kv_len // self.batch.page_size) * self.batch.page_size\n        {_GATHER}"
"""Whole pages are read, with the slots behind the last token."""
_WHOLE_PAGES = Edit(_GATHER, _WHOLE.replace("kv_len) for", "held) for"))
_ALL_KEYS = Edit("keys = torch.arange(first_key, kv_len,", "keys = torch.arange(first_key, first_key + k.shape[0],")
_START = "first_key = max(0, kv_len - q_len - window)"
_TRANSLATE = "(mapping[pages * size] // size)"
_NEEDED = "needed = columns[None, :] < used[:, None]"

MUTANTS = (
    Mutant(
        id="sliding-pool-untranslated",
        summary="a sliding layer indexes its pool by ids of the full pool",
        bug="sgl-project/sglang#18970",
        catalogue=("M15",),
        clause=Clause.HYBRID_POOLS,
        make=edited(
            "reference", Edit(_TRANSLATE, "(pages % batch.caches[batch.layers[layer].cache].k.shape[0])", "tables")
        ),
        proof=ask("decode", SLIDING, paging=HYBRID),
    ),
    Mutant(
        id="sliding-pool-by-page",
        summary="the slot translation is indexed by page id",
        bug="sgl-project/sglang#16267",
        catalogue=("M16",),
        clause=Clause.HYBRID_POOLS,
        make=edited("reference", Edit(_TRANSLATE, "(mapping[pages] // size)", "tables")),
        proof=ask("decode", SLIDING, paging=HYBRID),
    ),
    Mutant(
        id="sliding-pool-prefix-only",
        summary="the pages of the new tokens are not translated",
        bug="sgl-project/sglang#24617",
        clause=Clause.HYBRID_POOLS,
        make=edited(
            "reference",
            Edit(
                _NEEDED,
                f"{_NEEDED}\n    fresh = columns[None, :] >= ((batch.seq_lens - "
                "batch.qo_indptr.diff()) // size)[:, None]",
                "tables",
            ),
            Edit(
                "return (mapping[pages * size] // size)",
                "pools = batch.caches[batch.layers[layer].cache].k.shape[0]\n    return "
                "torch.where(needed & fresh, pages % pools, mapping[pages * size] // size)",
                "tables",
            ),
        ),
        proof=ask("decode", SLIDING, paging=HYBRID),
    ),
    Mutant(
        id="sliding-pool-of-first-layer",
        summary="all layers take the first layer's table",
        clause=Clause.HYBRID_POOLS,
        make=edited(
            "reference",
            Edit(
                "block_tables_for(self.batch, layer)",
                "block_tables_for(self.batch, 0).clamp(0, len(self._caches(layer)[0]) - 1)",
            ),
        ),
        proof=ask("decode", FULL, SLIDING, paging=HYBRID),
    ),
    Mutant(
        id="dead-values-times-zero",
        summary="the values behind the last token are read and weighed with 0",
        bug="Dao-AILab/flash-attention#1745",
        catalogue=("M09",),
        clause=Clause.DEAD_SLOTS,
        make=edited("reference", _WHOLE_PAGES, _ALL_KEYS),
        proof=ask("decode", seed=2),
    ),
    Mutant(
        id="dead-keys-masked-by-adding",
        summary="masking adds -inf to scores: a NaN key stays one",
        bug="deepbeepmeep/Wan2GP#1628",
        catalogue=("M10",),
        clause=Clause.DEAD_SLOTS,
        make=edited(
            "reference",
            Edit(
                _GATHER,
                _WHOLE.replace("kv_len) for", "held) for")
                + "\n        v = v.float().masked_fill(torch.arange(first_key, held, "
                "device=v.device)[:, None, None] >= kv_len, 0.0)",
            ),
            _ALL_KEYS,
            Edit(
                "scores = scores.masked_fill(hidden, -math.inf)",
                "scores = scores + torch.where(hidden, -math.inf, 0.0)",
            ),
        ),
        proof=ask("decode", poison=HOSTILE),
    ),
    Mutant(
        id="tail-unmasked-in-decode",
        summary="decode runs without a causal mask, and nothing else masks the tail of the last page",
        bug="flashinfer-ai/flashinfer#3717",
        catalogue=("M08",),
        clause=Clause.DEAD_SLOTS,
        make=edited(
            "reference", _WHOLE_PAGES, _ALL_KEYS, Edit("(keys > positions)", "((keys > positions) & (q_len > 1))")
        ),
        proof=ask("decode"),
    ),
    Mutant(
        id="page-granular-loads",
        summary="loads are predicated by page: a stale key behind the end counts",
        bug="flashinfer-ai/flashinfer#941",
        clause=Clause.DEAD_SLOTS,
        make=edited(
            "reference",
            _WHOLE_PAGES,
            _ALL_KEYS,
            Edit("(keys > positions)", "((keys > positions) & ((keys < kv_len) | (positions < kv_len - 1)))"),
        ),
        proof=ask("extend"),
    ),
    Mutant(
        id="values-outside-window",
        summary="keys are masked by the window, values are loaded from the start",
        bug="vllm-project/vllm#30887",
        catalogue=("M09",),
        clause=Clause.RECLAIMED_PAGES,
        make=edited("reference", Edit(_START, "first_key = 0")),
        proof=ask("decode", SLIDING, paging=RECLAIMED, poison=HOSTILE),
    ),
    Mutant(
        id="reclaimed-weigh-little",
        summary="keys behind the window get a finite mask, and their recycled pages a weight of exp(-20)",
        bug="vllm-project/vllm#42273",
        clause=Clause.WINDOW,
        make=edited(
            "reference",
            Edit(_START, "first_key = 0"),
            Edit(
                "scores = scores.masked_fill(hidden, -math.inf)",
                "old = keys < positions - window\n        scores = scores.masked_fill(hidden & ~old, -math.inf)\n"
                "        scores = torch.where(old, scores.nan_to_num(0.0).clamp(-5, 5) - 20.0, scores)",
            ),
            Edit(
                "for cache in self._caches(layer))",
                "for cache in self._caches(layer))\n        v = torch.where(v.float().abs() < 1e3, v.float(), 0.0)",
            ),
        ),
        proof=ask("decode", SLIDING, paging=RECLAIMED),
    ),
    Mutant(
        id="null-page-of-the-table",
        summary="a batch with reclaimed pages counts columns from its first page that is left",
        clause=Clause.RECLAIMED_PAGES,
        make=edited(
            "reference",
            Edit(
                "table.long()[tokens // size],",
                "table.long()[(tokens // size + (table[0] == 0).long()).clamp_max((last - 1) // size)],",
            ),
        ),
        proof=ask("decode", SLIDING, paging=RECLAIMED),
    ),
)
