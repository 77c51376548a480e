"""vLLM's ``decode_attention_fwd`` (triton_decode_attention.py): split decoding over pages, for MLA and for GQA."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from attnconf.backends.protocol import Promises
from ci.backtest.adapters.calling import call
from ci.backtest.adapters.kernel import KernelBackend, interpreted, rounded_p
from ci.backtest.adapters.vllm_parts import STAND_INS, modules, tables
from ci.backtest.loading import load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from attnconf.cases.inputs.batch import Batch
    from attnconf.cases.shape import KernelShape

_SPLITS = 4
"""The splits of vLLM's TritonMLA backend."""

PROMISES = Promises(empty_kv=False, empty_q=False, batch_invariant=False, hint_invariant=False)


def make(folder: Path, name: str) -> KernelBackend:
    """Return a backend around the kernel of the release that is unpacked in ``folder``."""
    function = vars(load(folder, modules("triton_decode_attention"), stand_ins=STAND_INS))["decode_attention_fwd"]

    def reasons(shape: KernelShape) -> Iterator[str]:
        yield from interpreted(shape)
        if shape.mode != "decode":
            yield "a kernel of decodes"
        if shape.windowed or shape.sinks:
            yield "this kernel has no windows and no sinks"
        if shape.kv_layout != "NHD":
            yield "the kernel wants the page's tokens before its heads"

    def answer(batch: Batch, layer: int, out: torch.Tensor) -> str:
        inputs = batch.layers[layer]
        geometry = inputs.geometry
        cache = batch.caches[inputs.cache]
        rows, heads = len(batch.kv_lens), geometry.num_qo_heads
        known = {
            "q": inputs.q,
            "k_buffer": cache.k,
            "v_buffer": cache.v,
            "o": out,
            "lse": torch.empty(rows, heads),
            "req_to_token": tables(batch, layer),
            "b_seq_len": batch.seq_lens,
            "attn_logits": torch.empty(rows, heads, _SPLITS, geometry.head_dim + 1),
            "num_kv_splits": _SPLITS,
            "sm_scale": geometry.sm_scale,
            "page_size": batch.page_size,
            "logit_cap": geometry.logits_soft_cap or 0.0,
        }
        call(function, known)
        return "decode_attention_fwd"

    return KernelBackend(name, PROMISES, answer, reasons, rounded_p)
