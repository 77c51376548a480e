"""Page tables: page ids, slots, the right request's table, and the strides of a page (clauses 5, 12 and 14)."""

from __future__ import annotations

from attnconf.cases.case import Paging
from attnconf.clauses import Clause
from attnconf.mutants.mutant import Mutant
from attnconf.mutants.small_cases import FULL, ask
from attnconf.mutants.source import Edit, edited

_READ = "by_token[table.long()[tokens // size], tokens % size]"

MUTANTS = (
    Mutant(
        id="page-size-one",
        summary="the table is read as if pages held one token",
        bug="sgl-project/sglang#11138",
        clause=Clause.PAGING,
        make=edited(
            "reference",
            Edit(_READ, "by_token[table.long()[tokens.clamp_max(table.numel() - 1)].clamp(0, len(cache) - 1), 0]"),
        ),
        proof=ask("decode"),
    ),
    Mutant(
        id="page-token-granular",
        summary="the table is indexed by token, not by page",
        bug="sgl-project/sglang#32902",
        clause=Clause.PAGING,
        make=edited(
            "reference",
            Edit(
                _READ,
                "by_token[table.long()[tokens.clamp_max(table.numel() - 1)].clamp(0, len(cache) - 1), tokens % size]",
            ),
        ),
        proof=ask("decode"),
    ),
    Mutant(
        id="page-larger-than-tile",
        summary="in pages of more than 64 tokens each tile reads the first 64 slots",
        bug="flashinfer-ai/flashinfer#4347",
        catalogue=("M18",),
        clause=Clause.PAGING,
        make=edited("reference", Edit("tokens % size]", "tokens % min(size, 64)]")),
        proof=ask("decode", paging=Paging(page_size=128), requests=({"prefix_len": 100},)),
    ),
    Mutant(
        id="last-page-modulo",
        summary="the last page holds kv_len % page_size tokens: none of them when it is full",
        bug="catalogue M20",
        catalogue=("M20",),
        clause=Clause.PAGING,
        make=edited(
            "reference",
            Edit(
                "(keys > positions)",
                "((keys > positions) | ((keys >= kv_len - self.batch.page_size) & (kv_len % "
                "self.batch.page_size == 0) & (kv_len > self.batch.page_size)))",
            ),
        ),
        proof=ask("decode", requests=({"prefix_len": 63}, {"prefix_len": 20})),
    ),
    Mutant(
        id="page-id-wraps",
        summary="page id times stride is computed in too few bits: high pages alias low ones",
        bug="vllm-project/vllm#47671",
        catalogue=("M14",),
        clause=Clause.PAGING,
        make=edited(
            "reference",
            Edit(
                "table.long()[tokens // size],", "table.long()[tokens // size] % max(1, 2**18 // by_token[0].numel()),"
            ),
        ),
        proof=ask("decode", paging=Paging(page_size=8, placement="high")),
    ),
    Mutant(
        id="page-id-wraps-in-keys",
        summary="page ids above 255 are cut to a byte on the key path only",
        bug="vllm-project/vllm#50427",
        clause=Clause.PAGING,
        make=edited(
            "reference",
            Edit(
                "table.long()[tokens // size],",
                "table.long()[tokens // size] % (256 if any(cache is one.k for one in self.batch.caches) else 2**31),",
            ),
        ),
        proof=ask("decode", paging=Paging(page_size=8, placement="high")),
    ),
    Mutant(
        id="table-of-first-request",
        summary="every request reads the first request's pages",
        clause=Clause.PAGING,
        make=edited(
            "reference",
            Edit("tables[row], rows,", "tables[0], rows,"),
            Edit(
                "table.long()[tokens // size],",
                "table.long()[(tokens // size).clamp_max(table.numel() - 1)].clamp(0, len(cache) - 1),",
            ),
        ),
        proof=ask("decode", requests=({"prefix_len": 63}, {"prefix_len": 20})),
    ),
    Mutant(
        id="row-taken-for-request",
        summary="the index of a query row picks the table row: right while every request has one token",
        bug="vllm-project/vllm#51065",
        catalogue=("M07",),
        clause=Clause.PAGING,
        make=edited(
            "reference",
            Edit("tables[row], rows,", "tables[min(rows.start, len(tables) - 1)], rows,"),
            Edit(
                "table.long()[tokens // size],",
                "table.long()[(tokens // size).clamp_max(table.numel() - 1)].clamp(0, len(cache) - 1),",
            ),
        ),
        proof=ask(
            "verify",
            requests=(
                {"prefix_len": 60, "new_tokens": 2},
                {"prefix_len": 40, "new_tokens": 2},
                {"prefix_len": 20, "new_tokens": 2},
            ),
        ),
    ),
    Mutant(
        id="shared-pages-copied-late",
        summary="a request that shares pages reads its neighbour's table past the shared part",
        clause=Clause.PAGING,
        make=edited(
            "reference",
            Edit(
                "tables[row], rows,",
                "tables[row - (row > 0 and bool(tables[row][0] == tables[row - 1][0]) and kv_len <= "
                "self.batch.kv_lens[row - 1])], rows,",
            ),
        ),
        proof=ask("decode", requests=({"prefix_len": 44}, {"prefix_len": 40, "shares_with": 0, "shared_pages": 2})),
    ),
    Mutant(
        id="block-base-from-tokens",
        summary="a page starts page_size token strides after the one before it",
        bug="ROCm/aiter#3498",
        catalogue=("M21",),
        clause=Clause.LAYOUT,
        make=edited(
            "reference",
            Edit(
                "by_token = cache if",
                "cache = cache.as_strided(cache.shape, (cache[0].numel() if self.batch.storage != "
                "'sliced' else cache.stride(0), *cache.stride()[1:]))\n        by_token = cache if",
            ),
        ),
        proof=ask("decode"),
    ),
    Mutant(
        id="layout-strides-swapped",
        summary="the strides of slots and heads are swapped where the shape cannot tell",
        bug="ROCm/aiter#3347",
        catalogue=("M22",),
        clause=Clause.LAYOUT,
        make=edited(
            "reference",
            Edit(
                'self.batch.kv_layout == "NHD" else',
                'self.batch.kv_layout == "NHD" or cache.shape[1] == cache.shape[2] else',
            ),
        ),
        proof=ask("decode", FULL, paging=Paging(page_size=2, layout="HND")),
    ),
    Mutant(
        id="hnd-read-as-nhd",
        summary="HND memory is taken for NHD",
        bug="flashinfer-ai/flashinfer#1407",
        clause=Clause.LAYOUT,
        make=edited(
            "reference",
            Edit("cache.transpose(1, 2)", "cache.reshape(len(cache), self.batch.page_size, -1, cache.shape[3])"),
        ),
        proof=ask("decode"),
    ),
)
