"""A backend that comes from its own package: PyTorch's attention over keys and values gathered from their pages."""

from dataclasses import dataclass

import torch
from torch.nn.functional import scaled_dot_product_attention

from attnconf import (
    Batch,
    EvidenceKind,
    KernelShape,
    NumericsProfile,
    Platform,
    Promises,
    Unsupported,
    UnsupportedError,
    batch_shape,
    block_tables_for,
)


def make(platform: Platform) -> "Dense":
    """Return the backend: the entry point names this. Raise ``BackendUnavailableError`` for what a platform lacks."""
    return Dense(platform)


class Dense:
    """Everything is float32, and a request is one call."""

    name = "dense"  # the entry point's: evidence counts under it
    evidence: EvidenceKind = "kernel"
    promises = Promises(empty_kv=False)  # no row without a key, and no LSE

    def __init__(self, platform: Platform) -> None:
        self.platform = platform

    def supports(self, shape: KernelShape, platform: Platform) -> Unsupported | None:
        """Declare what the suite must not ask; it holds ``run`` to refusing just that."""
        missing = {"GPU kernel": platform.sm is not None, "soft cap": shape.soft_cap, "sinks": shape.sinks}
        missing |= {"spans": shape.spans, "chunks": shape.chunked, "trees": shape.tree}
        missing |= {"rows that see those behind them": shape.bidirectional, "scales of each head": shape.head_scales}
        missing |= {"scales of blocks": shape.kv_dtype == "nvfp4"}
        return next((Unsupported(f"dense has no {what}") for what, asked in missing.items() if asked), None)

    def numerics(self, shape: KernelShape) -> NumericsProfile:
        """Return what the error bound is made of: P and all sums are float32."""
        del shape
        return NumericsProfile()

    def prepare(self, batch: Batch) -> "Run":
        """Build a batch's metadata once: there is none."""
        return Run(self, batch)


@dataclass(frozen=True)
class Run:
    """A batch whose layers are run one by one."""

    backend: Dense
    batch: Batch

    def run(self, layer: int, out: torch.Tensor, lse: torch.Tensor | None) -> str:
        """Write every row of ``out``, and return the name of the kernel that ran."""
        del lse  # not promised, so None
        refused = self.backend.supports(batch_shape(self.batch, layer), self.backend.platform)
        if refused is not None:
            raise UnsupportedError(refused.reason)
        rows = torch.split(self.batch.layers[layer].q[: self.batch.num_rows].float(), list(self.batch.q_lens))
        tables = block_tables_for(self.batch, layer).long()
        out[: self.batch.num_rows].copy_(
            torch.cat([self.attend(layer, *one) for one in zip(rows, tables, self.batch.kv_lens, strict=True)])
        )
        return "scaled_dot_product_attention[float32]"

    def attend(self, layer: int, q: torch.Tensor, table: torch.Tensor, kv_len: int) -> torch.Tensor:
        """Return the rows of one request, whose query tokens are its last keys."""
        inputs, size = self.batch.layers[layer], self.batch.page_size
        geometry, cache = inputs.geometry, self.batch.caches[inputs.cache]
        owner = self.batch.layers[inputs.cache].geometry  # another layer, where KV is shared
        window = geometry.window_left if geometry.window_left >= 0 else kv_len
        keys = torch.arange(max(0, kv_len - len(q) - window), kv_len)  # what no row sees may be gone
        behind = torch.arange(kv_len - len(q), kv_len)[:, None] - keys
        k, v = (part if self.batch.kv_layout == "NHD" else part.transpose(1, 2) for part in (cache.k, cache.v))
        k, v = (part[table[keys // size], keys % size].float() for part in (k, v))
        query, k, v = (part.transpose(0, 1)[None] for part in (q, k, v))
        seen, scale = (behind >= 0) & (behind <= window), geometry.sm_scale * inputs.q_scale * owner.k_scale
        answer = scaled_dot_product_attention(query, k, v, seen, scale=scale, enable_gqa=True)
        return answer[0].transpose(0, 1) * (owner.v_scale / inputs.out_scale)
