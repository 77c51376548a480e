"""The right answer of a cell, as the peers compute theirs: plain attention in float32."""

from __future__ import annotations

import math
from itertools import accumulate
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from ci.benchmarks.peerstyles.cell import Cell


def answer(
    cell: Cell, q: torch.Tensor, tokens: list[tuple[torch.Tensor, torch.Tensor]], sinks: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the output, rounded to q's dtype, and the LSE: plain attention in float32 over contiguous tokens."""
    layer = cell.layer
    outs, lses = [], []
    rows = parts(q.float(), [new for _, new in cell.requests])
    for (cached, new), queries, (k, v) in zip(cell.requests, rows, tokens, strict=True):
        grouped = queries.view(new, layer.num_kv_heads, layer.group_size, layer.head_dim).permute(1, 2, 0, 3)
        scores = torch.matmul(grouped, k.permute(1, 2, 0)[:, None]) * layer.sm_scale
        if layer.logits_soft_cap is not None:
            scores = layer.logits_soft_cap * torch.tanh(scores / layer.logits_soft_cap)
        behind = torch.arange(cached, cached + new)[:, None] - torch.arange(cached + new)[None, :]
        hidden = behind < 0
        if layer.window_left >= 0:
            hidden |= behind > layer.window_left
        scores.masked_fill_(hidden, -math.inf)
        lse = torch.logsumexp(scores, dim=-1)
        if sinks is not None:
            lse = torch.logaddexp(lse, sinks.view(layer.num_kv_heads, layer.group_size, 1))
        out = torch.matmul(torch.exp(scores - lse[..., None]), v.permute(1, 0, 2)[:, None])
        outs.append(out.permute(2, 0, 1, 3).reshape(new, layer.num_qo_heads, layer.head_dim))
        lses.append(lse.permute(2, 0, 1).reshape(new, layer.num_qo_heads))
    return torch.cat(outs).to(q.dtype).float(), torch.cat(lses)


def parts(whole: torch.Tensor, counts: list[int]) -> list[torch.Tensor]:
    """Return ``whole`` in parts of so many rows."""
    starts = accumulate(counts, initial=0)
    return [whole[start : start + count] for start, count in zip(starts, counts, strict=False)]
