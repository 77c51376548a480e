"""Images of a batch as sglang's models are told of them: by request, with the first and the last token of each."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attnconf.cases.inputs.batch import Batch


def images(batch: Batch) -> list[SimpleNamespace | None] | None:
    """Return ``ForwardBatch.mm_inputs`` of the batch: None for a request without images, or for all requests.

    The offsets of an image are its first and its last token, both within the request. What a request has of images
    that hold no query row is left out, since it changes no mask.
    """
    if batch.row_spans is None:
        return None
    found: list[SimpleNamespace | None] = []
    for spans in batch.spans_by_request():
        item = SimpleNamespace(is_image=lambda: True, offsets=[(begin, end - 1) for begin, end in spans])
        found.append(SimpleNamespace(mm_items=[item]) if spans else None)
    return found if any(found) else None
