"""The wrappers' scratch memory: one workspace per device, large enough for the largest batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from attnconf.cases.inputs.batch import Batch

_LEAST_WORKSPACE = 128 * 1024 * 1024
_LONG_TILE, _LARGE_HEAD_TILE, _LARGE_HEAD = 128, 64, 256
_CTAS_PER_SM = 2

_workspaces: dict[str, torch.Tensor] = {}


def workspace(batch: Batch) -> torch.Tensor:
    """Return the float workspace for ``batch``: 1-D uint8, kept per device and grown when a batch needs more.

    Kernels of one stream use it one after the other. Its contents are not needed after a run.
    """
    key = str(batch.device)
    needed = workspace_bytes(batch, _multiprocessors(batch.device))
    if key not in _workspaces or _workspaces[key].numel() < needed:
        _workspaces[key] = torch.zeros(needed, dtype=torch.uint8, device=batch.device)
    return _workspaces[key]


def workspace_bytes(batch: Batch, multiprocessors: int) -> int:
    """Return an upper limit of the bytes of the split-KV partial results of ``batch``.

    Source: PrefillPlan in attention/scheduler.cuh. It reserves, for each query head, float32 rows of head_dim values
    and one log-sum-exp for at most ``2 * multiprocessors / num_kv_heads`` tiles of 128 rows (64 from head_dim 256 on).
    """
    most = _LEAST_WORKSPACE
    for layer in batch.layers:
        geometry = layer.geometry
        tile = _LARGE_HEAD_TILE if geometry.head_dim >= _LARGE_HEAD else _LONG_TILE
        tiles = _CTAS_PER_SM * multiprocessors * geometry.group_size
        most = max(most, tiles * tile * 4 * (geometry.head_dim + 1) + 1024)
    return most


def _multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1
