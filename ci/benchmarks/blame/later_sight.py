"""Faults of the second set in what a row sees, and in where its keys lie."""

from __future__ import annotations

from attnconf.clauses import Clause
from attnconf.mutants.source import Edit
from ci.benchmarks.blame.fault import GATHERED, HIDDEN, Fault, behind, reference

_WINDOW = "(keys < positions - window)"
_SET = "window = geometry.window_left if geometry.window_left >= 0 else kv_len"
_PAGES = "return by_token[table.long()[tokens // size], tokens % size]"
_POSITIONS = "positions = torch.arange(kv_len - q_len, kv_len, device=q.device)[:, None]"

LATER_SIGHT = (
    Fault(
        "two-rows-a-position",
        "two rows of a block share a position, as if each had two heads",
        Clause.CAUSAL,
        reference(
            Edit(_POSITIONS, "positions = (kv_len - q_len + torch.arange(q_len, device=q.device) // 2 * 2)[:, None]")
        ),
    ),
    Fault(
        "prompt-one-ahead",
        "a prompt without a prefix is masked from the key behind the next one on",
        Clause.CAUSAL,
        reference(Edit("(keys > positions)", "(keys > positions + (q_len == kv_len))")),
    ),
    Fault(
        "drafts-alone",
        "the drafts of a verify step see the prefix and themselves, and no draft before",
        Clause.CAUSAL,
        reference(
            behind(
                HIDDEN,
                "hidden = hidden | ((keys >= kv_len - q_len) & (keys < positions) & (self.batch.mode == 'verify'))",
            )
        ),
    ),
    Fault(
        "images-that-begin-here",
        "of an image that begins in the prefix the new tokens are causal",
        Clause.CAUSAL,
        reference(
            Edit(
                "((positions < keys) & (keys < ends))",
                "((positions < keys) & (keys < ends) & (self.batch.row_spans[rows, :1] >= kv_len - q_len))",
            )
        ),
    ),
    Fault(
        "tree-by-depth",
        "a draft sees all drafts that are not as deep",
        Clause.CAUSAL,
        reference(Edit("mask[rows][:, drafts])", "((depths[rows].long() + cached)[None, drafts] < positions))")),
    ),
    Fault(
        "window-behind-a-prefix",
        "behind a prefix the window of a prefill has one key less",
        Clause.WINDOW,
        reference(Edit(_WINDOW, "(keys < positions - window + (1 < q_len < kv_len))")),
    ),
    Fault(
        "window-of-the-layer-before",
        "the second of two sliding layers has the window of the first",
        Clause.WINDOW,
        reference(
            Edit(
                _SET,
                "before = self.batch.layers[max(0, layer - 1)].geometry.window_left\n"
                "        both = geometry.window_left >= 0 and before >= 0 and geometry.kv_owner is None\n"
                "        window = before if both else geometry.window_left if geometry.window_left >= 0 else kv_len",
            )
        ),
    ),
    Fault(
        "chunks-of-twice-the-size",
        "chunks are twice as long",
        Clause.WINDOW,
        reference(
            Edit(
                "(keys // geometry.chunk_size < positions // geometry.chunk_size)",
                "(keys // (2 * geometry.chunk_size) < positions // (2 * geometry.chunk_size))",
            ),
            Edit(
                "// geometry.chunk_size * geometry.chunk_size\n",
                "// (2 * geometry.chunk_size) * 2 * geometry.chunk_size\n",
            ),
        ),
    ),
    Fault(
        "short-window-off",
        "a window is applied once a request is twice as long",
        Clause.WINDOW,
        reference(
            Edit(
                _SET,
                "wide = kv_len > 2 * (geometry.window_left + 1)\n"
                "        window = geometry.window_left if geometry.window_left >= 0 and wide else kv_len",
            )
        ),
    ),
    Fault(
        "window-on-a-page-border",
        "where the window begins at a page, that page is skipped",
        Clause.WINDOW,
        reference(
            behind(
                HIDDEN,
                "begin = kv_len - 1 - window\n"
                "        page = self.batch.page_size\n"
                "        skipped = (keys < begin + page) & (begin > 0) & (begin % page == 0) & (window > page)\n"
                "        hidden = hidden | skipped",
            )
        ),
    ),
    Fault(
        "slots-from-one",
        "the slots of a page are numbered from 1: each token is read as the next one of its page",
        Clause.PAGING,
        reference(Edit(_PAGES, "return by_token[table.long()[tokens // size], (tokens + 1) % size]")),
    ),
    Fault(
        "third-page-is-the-first",
        "from the third page on a table repeats",
        Clause.PAGING,
        reference(Edit(_PAGES, "return by_token[table.long()[(tokens // size) % 2], tokens % size]")),
    ),
    Fault(
        "values-a-page-on",
        "values are read in the page behind that of the keys",
        Clause.PAGING,
        reference(
            behind(
                GATHERED,
                "v = self._gather(self._caches(layer)[1].roll(-1, 0), table, first_key, kv_len)",
            )
        ),
    ),
    Fault(
        "partial-page-is-null",
        "a last page that is not full is not in the table yet: the null page is read",
        Clause.PAGING,
        reference(
            Edit(
                _PAGES,
                "pages = table.long()[tokens // size].clone()\n"
                "        if last % size:\n"
                "            pages[tokens // size == last // size] = 0\n"
                "        return by_token[pages, tokens % size]",
            )
        ),
    ),
    Fault(
        "values-untranslated",
        "values of a sliding layer are read by page ids of the full pool",
        Clause.HYBRID_POOLS,
        reference(
            behind(
                GATHERED,
                "v_cache = self._caches(layer)[1]\n"
                "        if self.batch.caches[self.batch.layers[layer].cache].pool == 'swa':\n"
                "            places = [bool(torch.equal(table, one)) for one in block_tables_for(self.batch, layer)]\n"
                "            full = self.batch.block_tables[places.index(True)] % len(v_cache)\n"
                "            v = self._gather(v_cache, full, first_key, kv_len)",
            )
        ),
    ),
)
