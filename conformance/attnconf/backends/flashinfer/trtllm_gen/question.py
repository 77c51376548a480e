"""Question: what a launch tells the selector, for paged grouped-query attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnconf.backends.flashinfer.trtllm_gen.traits import Mask

if TYPE_CHECKING:
    from attnconf.cases.shape import KernelShape

UNLIMITED = 2**31 - 1
"""What FlashInfer's launcher passes as the window of a layer that has none."""

DTYPES = {"float16": "FP16", "bfloat16": "BF16", "float8_e4m3fn": "E4M3"}
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


def question_of(shape: KernelShape, multiprocessors: int) -> Question | None:
    """Return what a launch for ``shape`` asks, None for a dtype of which there are no kernels.

    The output has the query's dtype. A shape without lengths asks the shortest launch: one request of ``max_q_len`` keys.
    """
    if shape.q_dtype not in DTYPES or shape.kv_dtype not in DTYPES:
        return None
    return Question(
        context=shape.mode in {"extend", "mixed"},
        q_dtype=DTYPES[shape.q_dtype],
        kv_dtype=DTYPES[shape.kv_dtype],
        o_dtype=DTYPES[shape.q_dtype],
        num_qo_heads=shape.num_qo_heads,
        num_kv_heads=shape.num_kv_heads,
        head_dim=shape.head_dim,
        page_size=shape.page_size,
        num_requests=shape.num_requests,
        max_q_len=shape.max_q_len,
        max_kv_len=shape.max_kv_len,
        window_left=shape.window_left,
        multiprocessors=multiprocessors,
    )
