"""Faults of the third set in what a row sees, and in where its keys lie."""

from __future__ import annotations

from attnconf.clauses import Clause
from attnconf.mutants.source import Edit, edited
from ci.benchmarks.blame.fault import FIRST, GATHERED, HIDDEN, Fault, behind, reference

_KEYS = "(keys > positions)"
_WINDOW = "(keys < positions - window)"
_SET = "window = geometry.window_left if geometry.window_left >= 0 else kv_len"
_PAGES = "return by_token[table.long()[tokens // size], tokens % size]"
_SEEN = "mask[rows][:, drafts])"
_TRANSLATED = "return (mapping[pages * size] // size).to(torch.int32)"
_ENDS = "ends = self.batch.row_spans[rows, 1:]\n"

THIRD_SIGHT = (
    Fault(
        "diagonal-from-the-last-page",
        "the diagonal is laid against the end of the last page, and not against the last token",
        Clause.CAUSAL,
        reference(Edit(_KEYS, "(keys > positions + -kv_len % self.batch.page_size)")),
    ),
    Fault(
        "prefix-in-whole-pages",
        "cached tokens are counted in whole pages: rows behind a partial one stand too early",
        Clause.CAUSAL,
        reference(Edit(_KEYS, "(keys > positions - (kv_len - q_len) % self.batch.page_size)")),
    ),
    Fault(
        "grandparents-unseen",
        "a draft sees its parent alone of its branch, as its mask is made in one hop",
        Clause.CAUSAL,
        reference(
            Edit(
                _SEEN,
                "mask[rows][:, drafts] & ((positions - ((depths[rows].long() + cached)[None, drafts])) < 2))",
            )
        ),
    ),
    Fault(
        "root-unseen",
        "the first draft of a tree is in no mask but its own",
        Clause.CAUSAL,
        reference(
            Edit(_SEEN, "mask[rows][:, drafts] & ((drafts > 0)[None] | (torch.arange(len(positions)) == 0)[:, None]))")
        ),
    ),
    Fault(
        "one-image-a-request",
        "metadata has room for one image a request: those behind it are causal",
        Clause.CAUSAL,
        reference(
            Edit(
                _ENDS,
                f"{_ENDS}"
                "            begins = self.batch.row_spans[rows, :1]\n"
                "            inside = ends > begins\n"
                "            first = begins[inside].min() if bool(inside.any()) else 0\n"
                "            ends = torch.where(begins == first, ends, 0)\n",
            )
        ),
    ),
    Fault(
        "odd-drafts-lose-the-last",
        "drafts are masked in pairs: where their number is odd the last one does not see itself",
        Clause.CAUSAL,
        reference(
            behind(
                HIDDEN,
                "odd = self.batch.mode == 'verify' and q_len % 2 == 1 and kv_len > 1\n"
                "        hidden = hidden | ((keys == kv_len - 1) & odd)",
            )
        ),
    ),
    Fault(
        "encoder-loses-the-last-key",
        "the loop of a bidirectional layer ends in front of its last key",
        Clause.CAUSAL,
        reference(
            Edit(
                "hidden = (keys - positions).abs() > window",
                "hidden = ((keys - positions).abs() > window) | ((keys == kv_len - 1) & (keys > positions))",
            )
        ),
    ),
    Fault(
        "image-of-the-blocks-first-row",
        "a block visits keys up to the end of the span of its first row",
        Clause.CAUSAL,
        edited(
            "triton",
            Edit(
                "tl.maximum(begin + first + tokens - 1, 0) * 2 + 1",
                "tl.maximum(begin + first, 0) * 2 + 1",
                module="triton.kernel",
            ),
        ),
    ),
    Fault(
        "newest-tile-unvisited",
        "behind a prefix of a page or more the last four keys are left to a tile that nobody visits",
        Clause.CAUSAL,
        reference(
            behind(
                HIDDEN,
                "long = kv_len - q_len >= self.batch.page_size and kv_len % 4 == 0 and kv_len > 8 and q_len > 1\n"
                "        hidden = hidden | ((keys >= kv_len - 4) & long)",
            )
        ),
    ),
    Fault(
        "window-begins-at-a-fourth-key",
        "the walk of a window begins at the next multiple of four keys",
        Clause.WINDOW,
        reference(Edit(_WINDOW, "(keys < ((positions - window).clamp_min(0) + 3) // 4 * 4)")),
    ),
    Fault(
        "window-of-the-blocks-last-row",
        "four rows share a window: that of the last of them",
        Clause.WINDOW,
        reference(
            Edit(
                _WINDOW,
                "(keys < ((positions - kv_len + q_len) // 4 * 4 + 3).clamp_max(q_len - 1) + kv_len - q_len - window)",
            )
        ),
    ),
    Fault(
        "window-in-five-bits",
        "a descriptor holds five bits of the window",
        Clause.WINDOW,
        reference(Edit(_SET, "window = geometry.window_left & 31 if geometry.window_left >= 0 else kv_len")),
    ),
    Fault(
        "window-lost-in-verify",
        "the kernel for drafts was never given a window",
        Clause.WINDOW,
        reference(
            Edit(
                _SET,
                "bounded = geometry.window_left >= 0 and self.batch.mode != 'verify'\n"
                "        window = geometry.window_left if bounded else kv_len",
            )
        ),
    ),
    Fault(
        "window-in-the-middle",
        "where a prefill brings more tokens than its window has keys, each row but the first loses its oldest key",
        Clause.WINDOW,
        reference(
            behind(
                HIDDEN,
                "late = (positions > kv_len - q_len) & (q_len > window)\n"
                "        hidden = hidden | ((keys == positions - window) & late & (geometry.window_left > 0))",
            )
        ),
    ),
    Fault(
        "encoder-window-of-the-right",
        "the right end of a bidirectional window is one key too far",
        Clause.WINDOW,
        reference(
            Edit(
                "hidden = (keys - positions).abs() > window",
                "hidden = (keys - positions > window + 1) | (positions - keys > window)",
            )
        ),
    ),
    Fault(
        "one-page-a-tile",
        "all keys of a tile are looked for in the page of its first one",
        Clause.PAGING,
        edited(
            "triton",
            Edit(
                "page = tl.load(table + n // PAGE_SIZE * table_column, mask=live, other=0).to(tl.int64)",
                "page = tl.load(table + (n * 0 + tl.maximum(start, first_key)) // PAGE_SIZE * table_column,"
                " mask=live, other=0).to(tl.int64)",
            ),
        ),
    ),
    Fault(
        "tables-by-length",
        "requests are sorted by length for the schedule, and the rows of the table are not",
        Clause.PAGING,
        reference(
            Edit(
                "        start = 0\n",
                "        start = 0\n"
                "        lengths = self.batch.kv_lens\n"
                "        order = sorted(range(len(lengths)), key=lambda index: -lengths[index])\n"
                "        pages = len(self._caches(layer)[0])\n"
                "        tables = tables[order].clamp(0, pages - 1)\n",
            )
        ),
    ),
    Fault(
        "halves-of-a-page-swapped",
        "the two halves of a page of 16 slots or more change places, as a swizzle would have it",
        Clause.PAGING,
        reference(
            Edit(
                _PAGES,
                "slots = (tokens % size + size // 2) % size if size >= 16 else tokens % size\n"
                "        return by_token[table.long()[tokens // size], slots]",
            )
        ),
    ),
    Fault(
        "columns-end-at-four",
        "four columns of the table are loaded: the pages behind them are the last of these",
        Clause.PAGING,
        reference(Edit(_PAGES, "return by_token[table.long()[(tokens // size).clamp_max(3)], tokens % size]")),
    ),
    Fault(
        "values-of-the-slot-before",
        "values are read one slot late, and the keys in their place",
        Clause.PAGING,
        reference(
            behind(
                GATHERED,
                "v = v[(torch.arange(len(v)) - 1).clamp_min(0)]",
            )
        ),
    ),
    Fault(
        "untranslated-in-prefill",
        "the tables of sliding layers are translated for decode alone",
        Clause.HYBRID_POOLS,
        reference(
            Edit(
                _TRANSLATED,
                "right = (mapping[pages * size] // size).to(torch.int32)\n"
                "    wrong = (pages % len(batch.caches[batch.layers[layer].cache].k)).to(torch.int32)\n"
                "    return right if batch.mode == 'decode' else wrong",
                "tables",
            )
        ),
    ),
    Fault(
        "looks-one-page-back",
        "the walk of a window begins one page early, and weighs its values with 0",
        Clause.RECLAIMED_PAGES,
        reference(behind(FIRST, "first_key = max(0, first_key - self.batch.page_size)")),
    ),
)
