"""How K and V of one cache share memory: base buffers, and the strided views that a backend receives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from attnconf.cases.inputs.guards import between_guards
from attnconf.cases.inputs.pages import PAGE_PADDING

if TYPE_CHECKING:
    import torch

    from attnconf.cases.case import KVLayout, Storage

Inner: TypeAlias = tuple[int, int, int]
"""The shape of a page of keys or of values: [page_size, num_kv_heads, D] in layout NHD."""


@dataclass(frozen=True)
class Store:
    """The base buffers of one cache: one for K and one for V, or the same one twice.

    ``k_inner`` and ``v_inner`` are the shapes of a page of each; they differ in the last dimension alone.
    """

    k_base: torch.Tensor
    v_base: torch.Tensor
    pages: int
    k_inner: Inner
    v_inner: Inner
    storage: Storage

    @property
    def joint(self) -> bool:
        """Whether K and V lie in one allocation."""
        return self.storage in {"interleaved", "sliced"}

    @property
    def padded(self) -> bool:
        """Whether something lies between pages."""
        return self.storage in {"padded", "unlike"}

    def views(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return K and V as views [pages, ...] of the base buffers, with pages of their inner shapes."""
        if self.storage == "sliced":
            dim = self.k_inner[2]
            return self.k_base[..., :dim], self.k_base[..., dim:]
        if self.storage == "interleaved":
            return self._within(self.k_base, self.k_inner, 0), self._within(
                self.k_base, self.v_inner, _size(self.k_inner)
            )
        return self._within(self.k_base, self.k_inner, 0), self._within(self.v_base, self.v_inner, 0)

    def _within(self, base: torch.Tensor, inner: Inner, start: int) -> torch.Tensor:
        """Return pages of shape ``inner`` that begin ``start`` elements behind those of ``base``."""
        if base.numel() == self.pages * _size(inner):  # nothing else is there
            return base.view(self.pages, *inner)
        return base.view(self.pages, -1)[:, start : start + _size(inner)].view(self.pages, *inner)


def allocate(  # noqa: PLR0913 - the numbers of a paged cache, and where it lies
    pages: int,
    page_size: int,
    num_kv_heads: int,
    widths: tuple[int, int],
    layout: KVLayout,
    storage: Storage,
    dtype: torch.dtype,
    device: torch.device,
) -> Store:
    """Allocate the base buffers of one cache on ``device``, uninitialised, between guards.

    ``widths`` are the numbers of a key and of a value.
    """
    outer = (page_size, num_kv_heads) if layout == "NHD" else (num_kv_heads, page_size)
    k_inner, v_inner = ((*outer, width) for width in widths)
    if storage in {"interleaved", "sliced"}:
        joint = (*outer, sum(widths)) if storage == "sliced" else (_size(k_inner) + _size(v_inner),)
        base = between_guards((pages, *joint), dtype, device)
        return Store(base, base, pages, k_inner, v_inner, storage)
    padding = (PAGE_PADDING if storage in {"padded", "unlike"} else 0, PAGE_PADDING if storage == "padded" else 0)
    k_base, v_base = (
        between_guards((pages, _size(inner) + behind), dtype, device)
        for inner, behind in zip((k_inner, v_inner), padding, strict=True)
    )
    return Store(k_base, v_base, pages, k_inner, v_inner, storage)


def _size(inner: Inner) -> int:
    return inner[0] * inner[1] * inner[2]


def by_token(view: torch.Tensor, layout: KVLayout) -> torch.Tensor:
    """Return a cache view as [pages, page_size, num_kv_heads, head_dim], whatever its layout."""
    return view if layout == "NHD" else view.transpose(1, 2)
