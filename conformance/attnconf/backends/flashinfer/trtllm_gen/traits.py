"""The traits by which FlashInfer's selector tells kernels apart, as fmhaRunnerParams.h numbers them."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class Mask(IntEnum):
    """``TrtllmGenAttentionMaskType``; ``WINDOW`` is its SlidingOrChunkedCausal."""

    DENSE = 0
    CAUSAL = 1
    WINDOW = 2


class KernelType(IntEnum):
    """``FmhaKernelType``: prefill, and the two ways in which decode feeds the tensor cores."""

    CONTEXT = 0
    SWAPS = 2
    KEEPS = 3


class Scheduler(IntEnum):
    """``TileScheduler``."""

    STATIC = 0
    PERSISTENT = 1


class Split(IntEnum):
    """``MultiCtasKvMode``: how the partial results of keys that are split over CTAs are added up."""

    NONE = 0
    GLOBAL = 1
    SEPARATE = 2
    CLUSTER = 3


class Key(NamedTuple):
    """What the selector looks up for paged grouped-query attention: the part of FlashInfer's hash that varies there."""

    mask: int
    kernel_type: int
    scheduler: int
    split: int
    head_dim_per_cta: int
    head_dim: int
    tile_q: int
    tile_kv: int
    page_size: int
    dynamic_page: bool

    @property
    def text(self) -> str:
        """The key in the words of FlashInfer's own error, so that it can be searched for."""
        return (
            f"qkvLayout=2, maskType={int(self.mask)}, kernelType={int(self.kernel_type)},"
            f" tileScheduler={int(self.scheduler)}, multiCtasKvMode={int(self.split)},"
            f" headDimPerCtaV={self.head_dim_per_cta}, headDimQk={self.head_dim}, headDimV={self.head_dim},"
            f" tileSizeQ={self.tile_q}, tileSizeKv={self.tile_kv}, numTokensPerPage={self.page_size},"
            f" dynamicNumTokensPerPage={int(self.dynamic_page)}"
        )
