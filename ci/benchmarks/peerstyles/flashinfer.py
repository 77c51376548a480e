"""FlashInfer's tests of paged attention, flashinfer-ai/flashinfer at fb28d7242b3506a2348265962041acc1fb56cca4.

Left out: what attnconf has no word for (fp8 queries, nvfp4, RoPE inside the kernel, masks that are not causal).
"""

from __future__ import annotations

from ci.benchmarks.peerstyles import flashinfer_own, flashinfer_trtllm

GRIDS = (*flashinfer_trtllm.GRIDS, *flashinfer_own.GRIDS)
