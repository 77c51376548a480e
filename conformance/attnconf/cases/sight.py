"""Sight: which keys a query row sees, as a run of positions.

A row at position i sees the keys up to its own, or, in a layer of spans, up to the last token of the span that i lies
in. A window cuts the old end alone: in transformers 5.24 ``create_masks_for_vision_model`` of Gemma 3 and of Gemma 4
makes AND(window, OR(causal, same span)) of ``kv_idx > q_idx - sliding_window``. A key behind the request's last token
does not exist, so where a chunk ends within a span its rows see less of it than the rows of the next chunk.
A chunked layer cuts the old end at a multiple of its ``chunk_size``: ``chunked_overlay`` of transformers 5.24 makes
AND(``kv_idx // chunk_size == q_idx // chunk_size``, causal), of positions, whatever a prefill is cut into.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from attnconf.cases.case import Request
    from attnconf.cases.geometry import LayerGeometry


class Seen(NamedTuple):
    """The keys ``first`` to ``last``, both included, that the row at ``position`` sees."""

    position: int
    first: int
    last: int

    @property
    def keys(self) -> int:
        """How many keys."""
        return self.last - self.first + 1


def seen(layer: LayerGeometry, request: Request, row: int) -> Seen:
    """Return what query row ``row`` of ``request``, counted from its first new token, sees in ``layer``."""
    position = request.prefix_len + row
    span = request.span_of(position) if layer.spans else None
    last = position if span is None else min(span[1], request.kv_len) - 1
    return Seen(position, layer.first_seen(position), last)


def follows_spans(layer: LayerGeometry, requests: Iterable[Request]) -> bool:
    """Return whether some row of ``requests`` lies in a span that ``layer`` follows."""
    return layer.spans and any(request.queried_spans for request in requests)
