"""Images of a batch as vLLM's model runner and its Gemma 4 tell attention of them: ranges of each request.

The runner makes them of where images lie (``compute_mm_prefix_ranges``), and every metadata builder gets all of them.
In a layer with a window Gemma 4 lets that cut them (``mm_prefix_clamp_sliding_window``), and before its layers run it
takes them out of the metadata of full layers. So a layer here follows spans or not, and its window cuts them, as
clauses 1 and 2 have it. vLLM's Gemma 3 declares no such cut: there the runner drops an image that is longer than the
window, which no image of a Gemma 3 is (256 tokens, and windows of 512 and more).
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from attnconf.backends.engines.vllm.library import Library
    from attnconf.cases.inputs.batch import Batch

    Ranges = dict[int, list[tuple[int, int]]]


def has_images(batch: Batch, layers: Iterable[int]) -> bool:
    """Return whether some of ``layers`` follow spans of which ``batch`` has some: vLLM's ``is_mm_prefix_lm``."""
    return batch.row_spans is not None and any(batch.layers[index].geometry.spans for index in layers)


def image_ranges(vllm: Library, batch: Batch) -> Ranges | None:
    """Return vLLM's ranges by request, of the first and the last token of each image; None where no row lies in one.

    An image may end behind the request's last token, as in a chunk of a prefill. What a request has of images that hold
    no query row is left out, since it changes no mask.
    """
    if batch.row_spans is None:
        return None
    features = []
    for spans in batch.spans_by_request():
        places = [vllm.PlaceholderRange(offset=begin, length=end - begin) for begin, end in spans]
        features.append([SimpleNamespace(modality="image", mm_position=place) for place in places])
    ranges: Ranges = vllm.compute_mm_prefix_ranges(features, clamp_sliding_window=True)
    return ranges


def leave_out(vllm: Library, layers: Iterable[int]) -> None:
    """Take the images out of the metadata of ``layers`` in vLLM's current forward context, as its Gemma 4 does."""
    model = SimpleNamespace(_full_attn_layer_idxs=frozenset(layers))  # all that the method reads of the model
    vllm.gemma4()._clear_mm_prefix_for_full_attn_layers(model)  # noqa: SLF001 - the model's own step
