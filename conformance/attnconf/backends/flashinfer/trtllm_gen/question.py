"""Question: what a launch tells the selector, for paged grouped-query attention."""

from __future__ import annotations

from dataclasses import dataclass

from attnconf.backends.flashinfer.trtllm_gen.traits import Mask

UNLIMITED = 2**31 - 1
"""What FlashInfer's launcher passes as the window of a layer that has none."""

DTYPES = {"float16": "FP16", "bfloat16": "BF16", "float8_e4m3fn": "E4M3", "nvfp4": "E2M1"}
"""FlashInfer's ``Data_type`` of the dtypes that a case or a grid has."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """One launch. ``q_dtype``, ``kv_dtype`` and ``o_dtype`` are FlashInfer's names (``BF16``, ``FP16``, ``E4M3``).

    ``context``: through the prefill function. ``max_q_len`` and ``max_kv_len`` are the host hints, in tokens;
    ``window_left`` is as in attnconf, -1 without a window. ``multiprocessors`` is the number of SMs of the GPU.
    """

    context: bool
    q_dtype: str
    kv_dtype: str
    o_dtype: str
    num_qo_heads: int
    num_kv_heads: int
    head_dim: int
    page_size: int
    num_requests: int
    max_q_len: int
    max_kv_len: int
    window_left: int
    multiprocessors: int
    causal: bool = True

    @property
    def group_size(self) -> int:
        """Query heads per KV head."""
        return self.num_qo_heads // self.num_kv_heads

    @property
    def window(self) -> int:
        """``mAttentionWindowSize``: the keys that a row sees, its own among them."""
        return UNLIMITED if self.window_left < 0 else self.window_left + 1

    @property
    def mask(self) -> Mask:
        """The mask with which the launcher begins."""
        return Mask.CAUSAL if self.causal or not self.context else Mask.DENSE
