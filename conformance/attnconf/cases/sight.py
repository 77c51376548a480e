"""Sight: which keys a query row sees, as a run of positions.

A row at position i sees the keys up to its own, or, in a layer of spans, up to the last token of the span that i lies
in, or, in a bidirectional layer, all keys of its request. A window cuts the old end alone: in transformers 5.24
``create_masks_for_vision_model`` of Gemma 3 and of Gemma 4 makes AND(window, OR(causal, same span)) of ``kv_idx > q_idx
- sliding_window``. A key behind the request's last token does not exist, so where a chunk ends within a span its rows
see less of it than the rows of the next chunk.
Of a bidirectional layer a window cuts both ends alike: ``_bidirectional_window_overlay`` of transformers 5.23's Gemma 3
(EmbeddingGemma), (W - 1, W - 1) of vLLM 0.33's encoder layers, (w, w) of sglang 0.5.23's FA3 over its paged cache, and
``bidirectional_sliding_window`` of FlashInfer's FMHA v2 (pull request 4828).
A row of a tree of draft tokens sees its branch alone of the new tokens, and its window and its chunk are those of its
position, which is its depth behind the prefix (``trees.py``).
A chunked layer cuts the old end at a multiple of its ``chunk_size``: ``chunked_overlay`` of transformers 5.24 makes
AND(``kv_idx // chunk_size == q_idx // chunk_size``, causal), of positions, whatever a prefill is cut into.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from attnconf.cases import trees

if TYPE_CHECKING:
    from collections.abc import Iterable

    from attnconf.cases.geometry import LayerGeometry
    from attnconf.cases.request import Request


class Seen(NamedTuple):
    """The keys ``first`` to ``last``, both included, that the row whose own key is ``position`` sees.

    Those in ``hidden`` are between them, and it does not see them: other branches of a tree.
    """

    position: int
    first: int
    last: int
    hidden: tuple[int, ...] = ()

    @property
    def keys(self) -> int:
        """How many keys."""
        return self.last - self.first + 1 - len(self.hidden)


def seen(layer: LayerGeometry, request: Request, row: int) -> Seen:
    """Return what query row ``row`` of ``request``, counted from its first new token, sees in ``layer``."""
    if request.tree:
        return _seen_in_tree(layer, request, row)
    position = request.prefix_len + row
    if layer.bidirectional:
        newest = request.kv_len - 1
        last = newest if layer.window_left < 0 else min(newest, position + layer.window_left)
        return Seen(position, layer.first_seen(position), last)
    span = request.span_of(position) if layer.spans else None
    last = position if span is None else min(span[1], request.kv_len) - 1
    return Seen(position, layer.first_seen(position), last)


def _seen_in_tree(layer: LayerGeometry, request: Request, row: int) -> Seen:
    prefix, depths = request.prefix_len, trees.depths(request.tree)
    oldest = layer.first_seen(prefix + depths[row])
    drafts = [prefix + token for token in trees.branch(request.tree, row) if prefix + depths[token] >= oldest]
    first = oldest if oldest < prefix else drafts[0]
    hidden = tuple(key for key in range(max(first, prefix), prefix + row) if key not in drafts)
    return Seen(prefix + row, first, prefix + row, hidden)


def follows_spans(layer: LayerGeometry, requests: Iterable[Request]) -> bool:
    """Return whether some row of ``requests`` lies in a span that ``layer`` follows."""
    return layer.spans and any(request.queried_spans for request in requests)


def sees_ahead(layer: LayerGeometry, requests: Iterable[Request]) -> bool:
    """Return whether ``layer`` is bidirectional and some of ``requests`` has rows before its newest key."""
    return layer.bidirectional and any(request.new_tokens > 1 for request in requests)


def follows_tree(requests: Iterable[Request]) -> bool:
    """Return whether the new tokens of some request are a tree."""
    return any(request.tree for request in requests)
