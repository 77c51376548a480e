"""How K and V of one cache share memory: base buffers, and the strided views that a backend receives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnconf.cases.inputs.guards import between_guards

if TYPE_CHECKING:
    import torch

    from attnconf.cases.case import KVLayout, Storage

PAGE_PADDING = 64
"""Elements after each page in storage ``padded``; they keep every row aligned to 16 bytes in all dtypes."""


@dataclass(frozen=True)
class Store:
    """The base buffers of one cache: one for K and one for V, or the same one twice."""

    k_base: torch.Tensor
    v_base: torch.Tensor
    pages: int
    inner: tuple[int, int, int]
    storage: Storage

    @property
    def joint(self) -> bool:
        """Whether K and V lie in one allocation."""
        return self.storage in {"interleaved", "sliced"}

    def views(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return K and V as [pages, *inner] views of the base buffers."""
        if self.storage == "interleaved":
            return self.k_base[:, 0], self.k_base[:, 1]
        if self.storage == "sliced":
            dim = self.inner[2]
            return self.k_base[..., :dim], self.k_base[..., dim:]
        if self.storage in {"padded", "unlike"}:
            return self._unpadded(self.k_base), self._unpadded(self.v_base)
        return self.k_base, self.v_base

    def _unpadded(self, base: torch.Tensor) -> torch.Tensor:
        used = self.inner[0] * self.inner[1] * self.inner[2]
        return base.view(self.pages, -1)[:, :used].view(self.pages, *self.inner)


def allocate(  # noqa: PLR0913 - the six numbers of a paged cache, and where it lies
    pages: int,
    page_size: int,
    num_kv_heads: int,
    head_dim: int,
    layout: KVLayout,
    storage: Storage,
    dtype: torch.dtype,
    device: torch.device,
) -> Store:
    """Allocate the base buffers of one cache on ``device``, uninitialised, between guards."""
    inner = (page_size, num_kv_heads, head_dim) if layout == "NHD" else (num_kv_heads, page_size, head_dim)
    shape: tuple[int, ...]
    if storage == "interleaved":
        shape = (pages, 2, *inner)
    elif storage == "sliced":
        shape = (pages, *inner[:2], 2 * head_dim)
    elif storage in {"padded", "unlike"}:
        shape = (pages, inner[0] * inner[1] * inner[2] + PAGE_PADDING)
    else:
        shape = (pages, *inner)
    k_base = between_guards(shape, dtype, device)
    if storage in {"interleaved", "sliced"}:
        v_base = k_base
    else:
        v_base = between_guards((pages, *inner) if storage == "unlike" else shape, dtype, device)
    return Store(k_base, v_base, pages, inner, storage)


def by_token(view: torch.Tensor, layout: KVLayout) -> torch.Tensor:
    """Return a cache view as [pages, page_size, num_kv_heads, head_dim], whatever its layout."""
    return view if layout == "NHD" else view.transpose(1, 2)
