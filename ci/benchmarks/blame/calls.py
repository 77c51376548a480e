"""Faults in memory, in batches, and between calls."""

from __future__ import annotations

from attnconf.clauses import Clause
from attnconf.mutants.source import Edit, edited
from ci.benchmarks.blame.fault import FIRST, Fault, P, behind, reference

_NAME = 'KERNEL = "torch-paged"'
_START = "        tables = block_tables_for(self.batch, layer)\n"
_STORED = "            out[rows] = row_out\n"
_MADE = "return _Run(batch)"
_EMPTY = "return q.new_zeros((*q.shape[:2], geometry.value_dim)), q.new_full(q.shape[:2], -math.inf)"
_SUMS = 'torch.einsum("hgmn,nhd->mhgd", p, v.float())'
_TURNED = 'by_token = cache if self.batch.kv_layout == "NHD" else cache.transpose(1, 2)'
_PARTS = (
    'sum(torch.einsum("hgmn,nhd->mhgd", p[..., part], v.float()[part]) for part in (slice(0, {0}), slice({0}, None)))'
)

CALLS = (
    Fault(
        "values-of-masked-lanes",
        "lanes behind the end load values of the null page, and weigh them with 0",
        Clause.DEAD_SLOTS,
        edited(
            "triton",
            Edit(
                "load_stored(v, v_offset, dv, v_dim, mask,",
                "load_stored(v, v_offset, dv, v_dim, (n >= 0)[:, None] & (dv < VALUE_DIM)[None, :],",
            ),
        ),
    ),
    Fault(
        "rest-of-page-in-sum",
        "the second product runs to the end of the last page, over weights that are 0 there",
        Clause.DEAD_SLOTS,
        reference(
            behind(
                P,
                "rest = -kv_len % self.batch.page_size\n"
                "        tail = self._gather(self._caches(layer)[1], table, kv_len, kv_len + rest)\n"
                "        p, v = torch.nn.functional.pad(p, (0, rest)), torch.cat([v.float(), tail.float()])",
            )
        ),
    ),
    Fault(
        "decode-walks-from-the-start",
        "decode walks all pages of a windowed layer and weighs what lies before the window with 0",
        Clause.RECLAIMED_PAGES,
        reference(behind(FIRST, "first_key = 0 if q_len == 1 else first_key")),
    ),
    Fault(
        "clears-the-last-page",
        "the slots behind the last token are cleared for the next step",
        Clause.READ_ONLY,
        reference(
            Edit(
                _START,
                f"{_START}"
                "        rest = -self.batch.kv_lens[0] % self.batch.page_size\n"
                "        if rest and self.batch.kv_layout == 'NHD':\n"
                "            last = tables[0, (self.batch.kv_lens[0] - 1) // self.batch.page_size]\n"
                "            self._caches(layer)[1][last.long(), -1] = 0\n",
            )
        ),
    ),
    Fault(
        "lengths-clamped-in-place",
        "lengths are raised to 1 where they lie, so that no request is empty",
        Clause.READ_ONLY,
        reference(Edit(_MADE, f"batch.seq_lens.clamp_(min=1)\n        {_MADE}")),
    ),
    Fault(
        "odd-rows-not-stored",
        "the last of an odd number of rows is left to a second block that does not exist",
        Clause.READ_ONLY,
        reference(
            Edit(
                _STORED,
                "            kept = q_len - (q_len > 2 and q_len % 2)\n            out[rows][:kept] = row_out[:kept]\n",
            )
        ),
    ),
    Fault(
        "empty-row-of-ones",
        "a row over no key has the sum of no weights, 1 in place of 0",
        Clause.EMPTY_ROWS,
        reference(Edit(_EMPTY, _EMPTY.replace("new_zeros", "new_ones"))),
    ),
    Fault(
        "empty-lse-is-lowest",
        "the LSE of a row over no key is the lowest finite number",
        Clause.EMPTY_ROWS,
        reference(Edit(_EMPTY, _EMPTY.replace("-math.inf", "-3.4e38"))),
    ),
    Fault(
        "order-by-odd-batches",
        "batches of an odd number of requests are summed in two parts",
        Clause.INDEPENDENCE,
        reference(Edit(_SUMS, f"({_PARTS.format('3 * (len(self.batch.q_lens) % 2)')})")),
    ),
    Fault(
        "order-by-parity-of-page",
        "a request whose first page has an odd id is summed in two parts",
        Clause.RELABELLING,
        reference(Edit(_SUMS, f"({_PARTS.format('3 * (int(table[0]) % 2)')})")),
    ),
    Fault(
        "values-as-nhd",
        "values are read as NHD in both layouts",
        Clause.LAYOUT,
        reference(
            Edit(
                _TURNED,
                f"{_TURNED}\n"
                "        is_v = any(cache is one.v for one in self.batch.caches)\n"
                "        if is_v and self.batch.kv_layout == 'HND':\n"
                "            pages, heads, slots, dim = cache.shape\n"
                "            by_token = cache.reshape(pages, slots, heads, dim)",
            )
        ),
    ),
    Fault(
        "table-a-width-apart-from-second",
        "a sliced table's rows are found by its width from the second request on",
        Clause.LAYOUT,
        reference(
            Edit(
                _START,
                f"{_START}"
                "        if tables.stride(0) != tables.shape[1]:\n"
                "            pages = len(self._caches(layer)[0])\n"
                "            tables = tables.as_strided(tables.shape, (tables.shape[1], 1)).clamp(0, pages - 1)\n",
            )
        ),
    ),
    Fault(
        "every-fourth-call",
        "every fourth call finds its splits in another order",
        Clause.DETERMINISM,
        reference(
            Edit(_NAME, f"{_NAME}\n_CALLS = [0]"),
            Edit(_START, f"{_START}        _CALLS[0] += 1\n"),
            Edit(_SUMS, f"({_PARTS.format('3 * (_CALLS[0] % 4 == 0)')})"),
        ),
    ),
    Fault(
        "plan-by-number-of-requests",
        "a plan is kept by the number of requests and query tokens, with the lengths of the first such batch",
        Clause.DETERMINISM,
        reference(
            Edit(_NAME, f"{_NAME}\n_PLANS = {{}}"),
            Edit(
                _START,
                f"{_START}"
                "        key = (self.batch.q_lens, layer, self.batch.block_tables.shape, self.batch.kv_layout)\n"
                "        plan = _PLANS.setdefault(key, self.batch.kv_lens)\n"
                "        lengths = [min(pair) for pair in zip(plan, self.batch.kv_lens, strict=True)]\n",
            ),
            Edit(
                "zip(self.batch.q_lens, self.batch.kv_lens, strict=True)",
                "zip(self.batch.q_lens, lengths, strict=True)",
            ),
        ),
    ),
    Fault(
        "order-by-query-hint",
        "max_q_len picks the number of parts that are summed",
        Clause.HOST_HINTS,
        reference(Edit(_SUMS, f"({_PARTS.format('3 * (self.batch.max_q_len > max(self.batch.q_lens))')})")),
    ),
    Fault(
        "wide-heads-unbuilt",
        "heads of 256 numbers are declared, and not built",
        Clause.REFUSAL,
        reference(
            Edit(
                _START,
                f"{_START}"
                "        if self.batch.layers[layer].geometry.head_dim == 256:\n"
                "            raise NotImplementedError('head_dim 256 is not built')\n",
            )
        ),
    ),
)
