"""Rules: how the selectors of FlashInfer's releases differ, for paged grouped-query attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DynamicPages = Literal["never", "grouped", "always"]
"""From which page size on the kernels for any page size are asked for: for no shape, from 128 on for those whose group
is above 1, or from 128 on for all."""


@dataclass(frozen=True)
class Rules:
    """One generation of ``fmhaKernels.cuh``, whose ``digest`` is the SHA-256 of that file in the wheel.

    ``syncs_wide_heads``: above head_dim 256 the kernels that keep A and B are asked for as they are listed, with half a
    head a CTA and a reduction kernel of their own (flashinfer#3393). ``limits_memory``: kernels that need more shared
    memory than a block may have are not loaded.
    """

    digest: str
    dynamic_pages: DynamicPages = "never"
    syncs_wide_heads: bool = False
    limits_memory: bool = False


V0_6_10 = Rules("03586a7bbd587c1d1ac38cb4c90292507f37622b40db84d95abd05150dd1762a")
V0_6_11 = Rules("abdb2d11c7fc852664fce5c180cfba26b7fe442f48d9118df03bffa91de37062")
V0_6_12 = Rules("728a29df0f717990ed8b7987600c84e2f2c836200c882b733bdf79e29416d0b0", dynamic_pages="grouped")
V0_6_14 = Rules(
    "ba4b9f3082dc472fe857a551063e90fe6d18eea3aca34be74f432c0d49c9f12f",
    dynamic_pages="grouped",
    syncs_wide_heads=True,
)
V0_6_16 = Rules(
    "667e1311ed1d7085f2142fcc7bfa0464cdca05c26ae5ab7cbf04d330a8328bec",
    dynamic_pages="always",
    syncs_wide_heads=True,
    limits_memory=True,
)
