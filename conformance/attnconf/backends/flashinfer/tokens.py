"""Tokens: the rows of a batch's queries and answers, as FlashInfer's functions take them.

Rows behind those of the last request belong to nobody: a captured graph has them. FlashInfer counts by the rows that it
gets, so it gets none of these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from attnconf.cases.inputs.batch import Batch


def dense_queries(batch: Batch, layer: int) -> torch.Tensor:
    """Return the queries of the batch's tokens, contiguous, copied where they are a slice of a packed tensor.

    FlashInfer passes no strides of the query on (sgl-project/sglang#31667).
    """
    return batch.layers[layer].q[: batch.num_rows].contiguous()


def answered_rows(
    batch: Batch, out: torch.Tensor, lse: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return the rows of ``out`` and ``lse`` that are of the batch's tokens."""
    return out[: batch.num_rows], None if lse is None else lse[: batch.num_rows]
