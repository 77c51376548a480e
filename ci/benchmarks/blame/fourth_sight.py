"""Faults of the fourth set in what a row sees, and in where its keys lie."""

from __future__ import annotations

from attnconf.clauses import Clause
from attnconf.mutants.source import Edit
from ci.benchmarks.blame.fault import GATHERED, HIDDEN, Fault, behind, reference

_KEYS = "(keys > positions)"
_WINDOW = "(keys < positions - window)"
_SET = "window = geometry.window_left if geometry.window_left >= 0 else kv_len"
_PAGES = "return by_token[table.long()[tokens // size], tokens % size]"
_SEEN = "mask[rows][:, drafts])"
_TRANSLATED = "return (mapping[pages * size] // size).to(torch.int32)"
_CHUNKS = "(keys // geometry.chunk_size < positions // geometry.chunk_size)"
_BOTH = "hidden = (keys - positions).abs() > window"

FOURTH_SIGHT = (
    Fault(
        "last-row-sees-all-but-itself",
        "the diagonal of the last row of a prefill is cut off by a tile that ends one key early",
        Clause.CAUSAL,
        reference(behind(HIDDEN, "hidden = hidden | ((keys == kv_len - 1) & (positions == kv_len - 1) & (q_len > 1))")),
    ),
    Fault(
        "first-key-of-each-sixteen-lost",
        "a loop over tiles of 16 keys begins each behind its first key, from the second tile on",
        Clause.CAUSAL,
        reference(behind(HIDDEN, "hidden = hidden | ((keys > 0) & (keys % 16 == 0) & (kv_len > 17))")),
    ),
    Fault(
        "causal-by-half",
        "rows of a block of eight see the keys of the half of the block that they stand in",
        Clause.CAUSAL,
        reference(Edit(_KEYS, "(keys > (positions - kv_len + q_len) // 4 * 4 + 3 + kv_len - q_len)")),
    ),
    Fault(
        "drafts-see-the-block",
        "the drafts of a chain see all of their block",
        Clause.CAUSAL,
        reference(Edit(_KEYS, "((keys > positions) & (self.batch.mode != 'verify'))")),
    ),
    Fault(
        "tree-of-parents-swapped",
        "a draft of a tree sees the draft before its own in place of itself",
        Clause.CAUSAL,
        reference(Edit(_SEEN, "mask[rows].roll(-1, 1)[:, drafts])")),
    ),
    Fault(
        "image-without-its-first",
        "the first token of an image is causal, the others are not",
        Clause.CAUSAL,
        reference(
            Edit(
                "((positions < keys) & (keys < ends))",
                "((positions < keys) & (keys < ends) & (self.batch.row_spans[rows, :1] < positions))",
            )
        ),
    ),
    Fault(
        "encoder-prefix-causal",
        "rows of a bidirectional layer see the later keys of their own eight alone",
        Clause.CAUSAL,
        reference(Edit(_BOTH, "hidden = ((keys - positions).abs() > window) | (keys > positions // 8 * 8 + 7)")),
    ),
    Fault(
        "window-two-short",
        "the window loses its oldest two keys: W is taken off twice",
        Clause.WINDOW,
        reference(Edit(_WINDOW, "(keys < positions - max(0, window - 2))")),
    ),
    Fault(
        "window-with-a-sink-token",
        "the very first key is kept in every window, as of StreamingLLM",
        Clause.WINDOW,
        reference(
            Edit("first_key = max(0, kv_len - q_len - window)", "first_key = 0"),
            Edit(_WINDOW, "((keys < positions - window) & (keys > 0))"),
        ),
    ),
    Fault(
        "window-from-the-block",
        "all rows of a prefill share the window of the middle one",
        Clause.WINDOW,
        reference(Edit(_WINDOW, "(keys < kv_len - q_len + q_len // 2 - window)")),
    ),
    Fault(
        "window-doubled-in-decode",
        "a decode is given twice the window",
        Clause.WINDOW,
        reference(
            Edit(
                _SET,
                "window = geometry.window_left * (1 + (q_len == 1)) if geometry.window_left >= 0 else kv_len",
            )
        ),
    ),
    Fault(
        "chunks-half",
        "chunks are half as long",
        Clause.WINDOW,
        reference(
            Edit(
                _CHUNKS,
                "(keys // max(1, geometry.chunk_size // 2) < positions // max(1, geometry.chunk_size // 2))",
            )
        ),
    ),
    Fault(
        "odd-pages-from-the-even",
        "two pages are fetched at once: the slots of odd columns are read in the page of the even one",
        Clause.PAGING,
        reference(Edit(_PAGES, "return by_token[table.long()[tokens // size // 2 * 2], tokens % size]")),
    ),
    Fault(
        "pages-reversed",
        "the pages of a request are read from the last one on",
        Clause.PAGING,
        reference(
            Edit(_PAGES, "return by_token[table.long()[max(0, last - 1) // size - tokens // size], tokens % size]")
        ),
    ),
    Fault(
        "keys-of-the-page-before",
        "keys of all but the first page are read in the page before, and values in their own",
        Clause.PAGING,
        reference(
            behind(
                GATHERED,
                "size = self.batch.page_size\n"
                "        moved = (torch.arange(first_key, kv_len) - size).clamp_min(first_key) - first_key\n"
                "        k = k[moved] if kv_len > size else k",
            )
        ),
    ),
    Fault(
        "first-page-is-the-second",
        "the first column of a table is taken for a header",
        Clause.PAGING,
        reference(
            Edit(_PAGES, "return by_token[table.long()[(tokens // size).clamp_min(int(last > size))], tokens % size]")
        ),
    ),
    Fault(
        "tables-in-reverse",
        "the rows of the table are read from the last request on",
        Clause.PAGING,
        reference(
            Edit(
                "self._attend(layer, tables[row], rows, kv_len)",
                "self._attend(layer, tables.flip(0)[row].clamp(0, len(self._caches(layer)[0]) - 1), rows, kv_len)",
            )
        ),
    ),
    Fault(
        "translated-a-page-late",
        "a sliding layer's page is translated as the next id of the full pool",
        Clause.HYBRID_POOLS,
        reference(
            Edit(
                _TRANSLATED, "return (mapping[(pages * size + size) % len(mapping)] // size).to(torch.int32)", "tables"
            )
        ),
    ),
)
