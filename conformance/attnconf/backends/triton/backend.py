"""The adapter: from a batch to launches of the kernels."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from attnconf.backends.protocol import Evidence, Promises, Unsupported
from attnconf.backends.triton.tuning import MAX_BLOCK, padded
from attnconf.errors import BackendUnavailableError
from attnconf.numerics import NumericsProfile
from attnconf.shape import KernelShape

if TYPE_CHECKING:
    import torch

    from attnconf.backends.protocol import Prepared
    from attnconf.batch import Batch
    from attnconf.platforms import Platform

MAX_HEAD_DIM = 512
REMEDY = 'pip install "attnconf[triton]"'
FP8_SM = (8, 9)
"""The first compute capability that converts e4m3 in hardware; Triton compiles it for no earlier one."""


def require_triton() -> None:
    """Raise ``BackendUnavailableError`` with the remedy when triton cannot be imported. Imports it not."""
    if importlib.util.find_spec("triton") is None:
        message = f"backend triton needs the package triton, which is not installed here; {REMEDY}"
        raise BackendUnavailableError(message)


class TritonBackend:
    """Paged attention in Triton on ``platform``; promises every optional clause."""

    name = "triton"
    evidence: Evidence = "kernel"
    promises = Promises(lse="natural", cuda_graph=True)

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def supports(self, shape: KernelShape, platform: Platform) -> Unsupported | None:
        """Return None, or why this shape cannot run there."""
        if "triton" not in platform.packages:
            return Unsupported(f"triton is not installed; {REMEDY}")
        if shape.head_dim > MAX_HEAD_DIM:
            return Unsupported(f"head_dim {shape.head_dim} is above {MAX_HEAD_DIM}")
        if padded(shape.group_size) * padded(shape.head_dim) > MAX_BLOCK:
            return Unsupported(
                f"{shape.group_size} query heads per KV head at head_dim {shape.head_dim} do not fit one block of rows"
            )
        if shape.kv_dtype == "float8_e4m3fn" and platform.sm is not None and platform.sm < FP8_SM:
            return Unsupported(f"Triton compiles float8_e4m3fn from SM 8.9 on, and this is SM {platform.sm_text}")
        return None

    def numerics(self, shape: KernelShape) -> NumericsProfile:
        """P is rounded to q's dtype before the product with V; everything else is float32.

        float8_e4m3fn keys and values become q's dtype exactly, and their scales are applied in float32.
        """
        return NumericsProfile(p=shape.q_dtype, accumulator="float32", partials="float32")

    def prepare(self, batch: Batch) -> Prepared:
        """Plan the launches of every layer that can run; the others refuse when they are run."""
        refusals = {index: self.supports(_shape(batch, index), self._platform) for index in range(len(batch.layers))}
        from attnconf.backends.triton.launch import Launches

        return Launches(batch, {index: refusal.reason for index, refusal in refusals.items() if refusal is not None})


def _shape(batch: Batch, index: int) -> KernelShape:
    """Return the shape of one layer of ``batch``; a redirected layer's KV is of its owner's shape."""
    layer = batch.layers[index]
    geometry = layer.geometry
    return KernelShape(
        mode=batch.mode,
        q_dtype=_name(layer.q.dtype),  # type: ignore[arg-type]
        kv_dtype=_name(batch.caches[layer.cache].k.dtype),  # type: ignore[arg-type]
        head_dim=geometry.head_dim,
        num_qo_heads=geometry.num_qo_heads,
        num_kv_heads=geometry.num_kv_heads,
        page_size=batch.page_size,
        kv_layout=batch.kv_layout,
        storage=batch.storage,
        max_q_len=batch.max_q_len,
        has_prefix=any(kv > q for q, kv in zip(batch.q_lens, batch.kv_lens, strict=True)),
        windowed=geometry.window_left >= 0,
        soft_cap=geometry.logits_soft_cap is not None,
        sinks=layer.sinks is not None,
    )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
