"""Queries, outputs and tables as engines have them: slices, rows behind the last, long hints (10, 14, 19 and 20)."""

from __future__ import annotations

from attnconf.cases.case import Paging
from attnconf.clauses import Clause
from attnconf.mutants.mutant import Mutant
from attnconf.mutants.small_cases import ask, served
from attnconf.mutants.source import Edit, edited

_PACKED = {"query": {"storage": "packed"}}
_SLACK = {"query": {"slack_rows": 5}}
_SLICED = {"paging": Paging(page_size=8, table_slack=3)}
_QUERY = "q = inputs.q[rows].float()"
_TABLES = "tables = block_tables_for(self.batch, layer)\n"

MUTANTS = (
    Mutant(
        id="query-taken-for-contiguous",
        summary="rows of a packed query are read as if they followed each other",
        bug="flashinfer-ai/flashinfer#4625",
        clause=Clause.LAYOUT,
        make=edited(
            "reference",
            Edit(
                _QUERY,
                "q = inputs.q.as_strided(inputs.q.shape, (inputs.q[0].numel(), geometry.head_dim, 1))[rows].float()",
            ),
        ),
        proof=ask("decode", **_PACKED),
    ),
    Mutant(
        id="query-stride-of-key-heads",
        summary="a packed row is taken to hold as many keys and values as queries",
        clause=Clause.LAYOUT,
        make=edited(
            "reference",
            Edit(
                _QUERY,
                "packed, wide = inputs.q.stride(0) > inputs.q[0].numel(), inputs.q[0].numel()\n"
                "        size = len(inputs.q) * inputs.q.stride(0)\n"
                "        places = torch.arange(len(inputs.q))[rows, None] * wide * (3 if packed else 1)\n"
                "        places = (places + torch.arange(wide)) % size\n"
                "        q = inputs.q.as_strided((size,), (1,))[places].view(-1, *inputs.q.shape[1:]).float()",
            ),
        ),
        proof=ask("verify", **_PACKED),
    ),
    Mutant(
        id="call-query-strided",
        summary="a packed query is handed to a function that takes no strides of it",
        bug="sgl-project/sglang#31667",
        clause=Clause.REFUSAL,
        make=edited(
            "trtllm_mha",
            Edit("q[: batch.num_rows].contiguous()", "q[: batch.num_rows]", module="flashinfer.tokens"),
        ),
        proof=served("decode", **_PACKED),
    ),
    Mutant(
        id="rows-behind-are-zeroed",
        summary="all rows of the output behind the last request's are set to zero",
        clause=Clause.READ_ONLY,
        make=edited("reference", Edit("        return KERNEL\n", "        out[start:] = 0.0\n        return KERNEL\n")),
        proof=ask("decode", **_SLACK),
    ),
    Mutant(
        id="rows-from-the-end",
        summary="the last rows of a padded query are taken for those of the requests",
        clause=Clause.READ_ONLY,
        make=edited(
            "reference",
            Edit(_QUERY, "q = inputs.q[len(inputs.q) - self.batch.num_rows :][rows].float()"),
        ),
        proof=ask("verify", **_SLACK),
    ),
    Mutant(
        id="tokens-a-request-from-rows",
        summary="the rows of a padded query are divided by the requests: each seems to bring more tokens",
        clause=Clause.READ_ONLY,
        make=edited(
            "reference",
            Edit(
                "            out[rows] = row_out\n",
                "            out[rows] = row_out\n"
                "            more = (len(out) - self.batch.num_rows) // len(self.batch.q_lens)\n"
                "            out[rows.stop : rows.stop + more] = row_out[-1]\n",
            ),
        ),
        proof=ask("decode", query={"slack_rows": 4}),
    ),
    Mutant(
        id="table-stride-is-width",
        summary="rows of a block table that is a slice of a wider one are found by its width",
        clause=Clause.LAYOUT,
        make=edited(
            "reference",
            Edit(_TABLES, f"{_TABLES}        tables = tables.as_strided(tables.shape, (tables.shape[1], 1))\n"),
        ),
        proof=ask("decode", **_SLICED),
    ),
    Mutant(
        id="call-table-strided",
        summary="a slice of a wider block table is handed to a function that takes no strides of it",
        clause=Clause.REFUSAL,
        make=edited(
            "trtllm_mha", Edit("block_tables_for(batch, layer).contiguous()", "block_tables_for(batch, layer)")
        ),
        proof=served("decode", paging=Paging(page_size=16, layout="HND", table_slack=3)),
    ),
    Mutant(
        id="keys-by-value-strides",
        summary="keys are read with the strides of values",
        clause=Clause.LAYOUT,
        make=edited(
            "reference",
            Edit("return cache.k, cache.v", "return cache.k.as_strided(cache.k.shape, cache.v.stride()), cache.v"),
        ),
        proof=ask("decode", paging=Paging(page_size=8, storage="unlike")),
    ),
    Mutant(
        id="hint-in-sixteen-bits",
        summary="max_seq_len is held in 16 bits: under a context of 131,072 keys no key is read",
        clause=Clause.HOST_HINTS,
        make=edited(
            "reference",
            Edit("start = 0\n", "start = 0\n        cut = self.batch.max_seq_len % 2**16\n"),
            Edit("tables[row], rows, kv_len)\n", "tables[row], rows, min(kv_len, cut))\n"),
        ),
        proof=ask("decode", query={"context_len": 131_072}),
    ),
    Mutant(
        id="corrupted-pages-clamped",
        summary="page ids are said to be validated, and clamped to the pool without a word",
        clause=Clause.REFUSAL,
        make=edited(
            "reference",
            Edit("fault is not None:", 'fault is not None and "the pool has" not in fault:'),
            Edit(
                "by_token[table.long()[tokens // size],",
                "by_token[table.long()[tokens // size].clamp(0, len(cache) - 1),",
            ),
        ),
        proof=ask("decode"),
    ),
    Mutant(
        id="corrupted-length-is-empty",
        summary="lengths are said to be validated, and a negative one is taken for a request without keys",
        clause=Clause.REFUSAL,
        make=edited(
            "reference",
            Edit("fault is not None:", 'fault is not None and "negative" not in fault:'),
            Edit("if kv_len == 0:", "if kv_len <= 0:"),
        ),
        proof=ask("decode"),
    ),
    Mutant(
        id="splits-end-before-the-hint",
        summary="keys are split by max_seq_len, and under a long one the last part of each request is not merged",
        clause=Clause.HOST_HINTS,
        make=edited(
            "reference",
            Edit(
                "(keys > positions)",
                "((keys > positions) | ((keys >= kv_len - 1 - kv_len // 4) & (self.batch.max_seq_len > 2**16)))",
            ),
        ),
        proof=ask("decode", query={"context_len": 2**20}),
    ),
)
