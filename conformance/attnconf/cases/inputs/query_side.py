"""Queries and block tables as engines have them: slices of larger tensors, with rows behind those of the requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from attnconf.cases.inputs.guards import guarded
from attnconf.cases.inputs.poison import bits
from attnconf.oracle.packed import scaled

if TYPE_CHECKING:
    from attnconf.cases.case import Case
    from attnconf.cases.inputs.logical import LogicalLayer


def with_slack(case: Case, q: torch.Tensor) -> torch.Tensor:
    """Return ``q`` [rows, num_qo_heads, D] with the slack rows of ``case`` behind it.

    They hold the negatives of the queries, in turn: what an earlier step may have left, and none of this one's rows.
    """
    slack = case.query.slack_rows
    if not slack:
        return q
    behind = q[torch.arange(slack, device=q.device) % q.shape[0]]
    return torch.cat([bits(q), bits((-behind.float()).to(q.dtype))]).view(q.dtype)  # torch negates no 8 bits


def packed_rows(case: Case, index: int, own: LogicalLayer, q: torch.Tensor) -> torch.Tensor:
    """Return the packed tensor of layer ``index``, [rows, columns], whose first part is q.

    Its columns are num_qo_heads * D of q, num_kv_heads * D of the keys and num_kv_heads * value_dim of the values.
    ``own`` has the stored keys and values; those of the new tokens are beside their queries, in the queries' dtype.
    Rows that are no query token of a request have zeros there.
    """
    layer = case.layers[index]
    width = layer.num_qo_heads * layer.head_dim
    parts = ((own.k, layer.k_scales or layer.k_scale), (own.v, layer.v_scales or layer.v_scale))
    columns = width + layer.num_kv_heads * (layer.head_dim + layer.value_dim)
    packed = torch.zeros((q.shape[0], columns), dtype=q.dtype, device=q.device)
    packed[:, :width] = q.flatten(1)
    tokens = new_tokens(case).to(q.device)
    start = width
    for (stored, scale), own_width in zip(parts, (layer.head_dim, layer.value_dim), strict=True):
        stop = start + layer.num_kv_heads * own_width
        packed[: len(tokens), start:stop] = scaled(stored[tokens], scale).float().flatten(1).to(q.dtype)
        start = stop
    return packed


def new_tokens(case: Case) -> torch.Tensor:
    """Return the query tokens of ``case`` among all tokens of the batch, [query tokens] int64, in order."""
    found, start = [], 0
    for request in case.requests:
        found.append(torch.arange(start + request.prefix_len, start + request.kv_len))
        start += request.kv_len
    return torch.cat(found)


def laid_out(case: Case, index: int, own: LogicalLayer, q: torch.Tensor) -> torch.Tensor:
    """Return ``q`` of layer ``index`` with its slack rows, in the storage that ``case`` names."""
    whole = with_slack(case, q)
    if case.query.storage == "apart":
        return guarded(whole)
    layer = case.layers[index]
    packed = guarded(packed_rows(case, index, own, whole))
    return packed[:, : layer.num_qo_heads * layer.head_dim].view(whole.shape)


def sliced_table(case: Case, table: torch.Tensor, device: torch.device | None = None) -> torch.Tensor:
    """Return the block ``table`` [rows, columns] on ``device``, as a slice of a wider one if ``case`` has it so.

    Behind its columns are the ids of its own first ones: pages of the pool, which nobody may read there.
    """
    slack = case.paging.table_slack
    columns = table.shape[1]
    wider = table[:, torch.arange(columns + slack, device=table.device) % columns] if slack else table
    return guarded(wider, device)[:, :columns]
