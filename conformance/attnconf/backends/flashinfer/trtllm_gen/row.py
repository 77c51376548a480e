"""Row: one kernel of FlashInfer's list, as far as the selection of paged grouped-query attention reads it."""

from __future__ import annotations

from typing import NamedTuple

from attnconf.backends.flashinfer.trtllm_gen.traits import Key

_DYNAMIC_PAGE = 128
"""The page size under which the kernels are listed that take any page size from 128 on."""


class Row(NamedTuple):
    """One kernel. Dtypes are ``Data_type`` without its prefix, ``sm`` is ``kSM_*`` without its own.

    ``step_q`` and ``step_kv`` are the query rows and the keys that a CTA takes at a time; ``shared_memory`` is bytes.
    """

    name: str
    sm: str
    q_dtype: str
    k_dtype: str
    v_dtype: str
    o_dtype: str
    tile_q: int
    tile_kv: int
    step_q: int
    step_kv: int
    head_dim_per_cta: int
    head_dim: int
    page_size: int
    mask: int
    kernel_type: int
    scheduler: int
    split: int
    groups_heads: bool
    groups_tokens_heads: bool
    shared_memory: int

    @property
    def dtypes(self) -> tuple[str, str, str, str]:
        """The dtypes of Q, K, V and O."""
        return (self.q_dtype, self.k_dtype, self.v_dtype, self.o_dtype)

    @property
    def dynamic_page(self) -> bool:
        """Whether it takes any page size from 128 on; FlashInfer, too, reads that out of the name."""
        return self.page_size == _DYNAMIC_PAGE and "P128" not in self.name

    @property
    def key(self) -> Key:
        """What the selector finds it by."""
        return Key(
            self.mask,
            self.kernel_type,
            self.scheduler,
            self.split,
            self.head_dim_per_cta,
            self.head_dim,
            self.tile_q,
            self.tile_kv,
            self.page_size,
            self.dynamic_page,
        )
