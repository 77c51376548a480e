"""Faults in what a row sees, and in where its keys lie."""

from __future__ import annotations

from attnconf.clauses import Clause
from attnconf.mutants.source import Edit
from ci.benchmarks.blame.fault import FIRST, GATHERED, HIDDEN, Fault, behind, reference

_WINDOW = "(keys < positions - window)"
_TRANSLATED = "return (mapping[pages * size] // size).to(torch.int32)"
_PAGES = "return by_token[table.long()[tokens // size], tokens % size]"
_CALL = "self._attend(layer, tables[row], rows, kv_len)"

SIGHT = (
    Fault(
        "behind-a-prefix-one-ahead",
        "rows behind a prefix are numbered from 1, so each sees the next key",
        Clause.CAUSAL,
        reference(Edit("(keys > positions)", "(keys > positions + (kv_len > q_len))")),
    ),
    Fault(
        "causal-by-four-rows",
        "the mask is made for four rows at once: each sees the keys of the last of them",
        Clause.CAUSAL,
        reference(Edit("(keys > positions)", "(keys > positions // 4 * 4 + 3)")),
    ),
    Fault(
        "first-token-dropped",
        "of requests beyond 24 keys the very first one, which carries the sink of attention, is dropped",
        Clause.CAUSAL,
        reference(behind(HIDDEN, "hidden = hidden | ((keys == 0) & (kv_len > 24) & (geometry.window_left < 0))")),
    ),
    Fault(
        "singles-of-a-mixed-batch",
        "requests of one token in a mixed batch do not see that token",
        Clause.CAUSAL,
        reference(
            behind(HIDDEN, "hidden = hidden | ((keys == kv_len - 1) & (self.batch.mode == 'mixed') & (q_len == 1))")
        ),
    ),
    Fault(
        "draft-without-itself",
        "the mask of a tree has no diagonal: a draft does not see its own key",
        Clause.CAUSAL,
        reference(
            Edit("mask[rows][:, drafts])", "(mask[rows] & ~torch.eye(*mask[rows].shape, dtype=torch.bool))[:, drafts])")
        ),
    ),
    Fault(
        "image-one-too-far",
        "the end of an image is taken to be its last token: the one behind it is seen, too",
        Clause.CAUSAL,
        reference(Edit("(keys < ends)", "(keys <= ends)")),
    ),
    Fault(
        "window-of-the-first-row",
        "all rows of a request see as far back as the first one",
        Clause.WINDOW,
        reference(Edit(_WINDOW, "(keys < (kv_len - q_len) - window)")),
    ),
    Fault(
        "window-in-eights",
        "windows are rounded up to a multiple of eight keys",
        Clause.WINDOW,
        reference(
            Edit(
                "window = geometry.window_left if geometry.window_left >= 0 else kv_len",
                "window = geometry.window_left // 8 * 8 + 7 if geometry.window_left >= 0 else kv_len",
            )
        ),
    ),
    Fault(
        "window-lost-with-sinks",
        "layers with sinks have a kernel of their own, which has no window",
        Clause.WINDOW,
        reference(
            Edit(
                "window = geometry.window_left if geometry.window_left >= 0 else kv_len",
                "window = geometry.window_left if geometry.window_left >= 0 and not geometry.sinks else kv_len",
            )
        ),
    ),
    Fault(
        "window-in-whole-pages",
        "the page in which a window begins is seen from its first slot on",
        Clause.WINDOW,
        reference(
            Edit(_WINDOW, "(keys < (positions - window) // self.batch.page_size * self.batch.page_size)"),
            behind(FIRST, "first_key = first_key // self.batch.page_size * self.batch.page_size"),
        ),
    ),
    Fault(
        "window-of-quantised-keys",
        "over 8-bit keys the window has one key less",
        Clause.WINDOW,
        reference(Edit(_WINDOW, "(keys < positions - window + (k.element_size() == 1))")),
    ),
    Fault(
        "chunks-one-early",
        "a chunk begins at the last token of the one before it",
        Clause.WINDOW,
        reference(
            Edit(
                "(keys // geometry.chunk_size < positions // geometry.chunk_size)",
                "((keys + 1) // geometry.chunk_size < (positions + 1) // geometry.chunk_size)",
            )
        ),
    ),
    Fault(
        "columns-in-four-bits",
        "the column of a table is kept in 4 bits: the 17th page is the first one",
        Clause.PAGING,
        reference(Edit(_PAGES, "return by_token[table.long()[(tokens // size) % 16], tokens % size]")),
    ),
    Fault(
        "borders-in-the-page-before",
        "the first slot of a page is looked for in the page before it",
        Clause.PAGING,
        reference(Edit(_PAGES, "return by_token[table.long()[(tokens - 1).clamp_min(0) // size], tokens % size]")),
    ),
    Fault(
        "values-through-the-last-row",
        "values are read through the table of the batch's last request",
        Clause.PAGING,
        reference(
            behind(
                GATHERED,
                "v = self._gather(self._caches(layer)[1], self.whole(layer)[-1], first_key, kv_len)",
            ),
            Edit(
                "    def _owner(self, layer: int)",
                "    def whole(self, layer):\n"
                "        return block_tables_for(self.batch, layer).clamp(0, len(self._caches(layer)[0]) - 1)\n\n"
                "    def _owner(self, layer: int)",
            ),
        ),
    ),
    Fault(
        "pages-from-the-end",
        "where a table is wider than a request needs, its last columns are taken",
        Clause.PAGING,
        reference(
            Edit(
                _CALL,
                "self._attend(layer, tables[row].roll(-(kv_len > 40) * "
                "(tables.shape[1] > -(-kv_len // self.batch.page_size))).clamp(0, len(self._caches(layer)[0]) - 1), "
                "rows, kv_len)",
            )
        ),
    ),
    Fault(
        "short-requests-untranslated",
        "page ids are translated once a request is longer than two pages",
        Clause.HYBRID_POOLS,
        reference(
            Edit(
                _TRANSLATED,
                "right = (mapping[pages * size] // size).to(torch.int32)\n"
                "    wrong = (pages % len(batch.caches[batch.layers[layer].cache].k)).to(torch.int32)\n"
                "    return torch.where((used <= 2)[:, None], wrong, right)",
                "tables",
            )
        ),
    ),
    Fault(
        "last-page-untranslated",
        "the page of the newest token, which was allocated in this step, is not translated",
        Clause.HYBRID_POOLS,
        reference(
            Edit(
                _TRANSLATED,
                "right = (mapping[pages * size] // size).to(torch.int32)\n"
                "    wrong = (pages % len(batch.caches[batch.layers[layer].cache].k)).to(torch.int32)\n"
                "    return torch.where(columns[None, :] == used[:, None] - 1, wrong, right)",
                "tables",
            )
        ),
    ),
)
