"""vLLM's ``unified_attention``, the kernel of its Triton backend for every mode, over pages with any strides."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton

from attnconf.backends.protocol import Promises
from ci.backtest.adapters.calling import call, takes
from ci.backtest.adapters.kernel import KernelBackend, interpreted, rounded_p
from ci.backtest.adapters.vllm_parts import STAND_INS, modules, tables
from ci.backtest.loading import load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from attnconf.cases.inputs.batch import Batch
    from attnconf.cases.shape import KernelShape

_MULTIPLE = 16
_SEGMENTS = 16
_BLOCKS_IN_FLIGHT = 128
"""``MIN_LAUNCH_GRID_SIZE_2D`` and ``NUM_PAR_SOFTMAX_SEGMENTS`` of vLLM's metadata builder (0.12)."""

PROMISES = Promises(empty_kv=False, empty_q=False, batch_invariant=False, hint_invariant=False)


def make(folder: Path, name: str) -> KernelBackend:
    """Return a backend around the kernel of the release that is unpacked in ``folder``."""
    places = modules("triton_unified_attention")
    module = load(folder, places, also=modules("triton_attention_helpers"), stand_ins=STAND_INS)
    unified = vars(module)["unified_attention"]

    def reasons(shape: KernelShape) -> Iterator[str]:
        yield from interpreted(shape)
        if shape.page_size % _MULTIPLE or shape.page_size & (shape.page_size - 1):
            yield f"vLLM's pages are powers of two from {_MULTIPLE} on, not {shape.page_size}"
        if shape.sinks and not takes(unified, "sinks"):
            yield "this release has no sinks in this kernel"

    def answer(batch: Batch, layer: int, out: torch.Tensor) -> str:
        inputs = batch.layers[layer]
        geometry = inputs.geometry
        cache = batch.caches[inputs.cache]
        k, v = (view if batch.kv_layout == "NHD" else view.transpose(1, 2) for view in (cache.k, cache.v))
        heads = geometry.num_qo_heads
        most = max(1, _BLOCKS_IN_FLIGHT // geometry.num_kv_heads)
        known = {
            "q": inputs.q,
            "k": k,
            "v": v,
            "out": out,
            "cu_seqlens_q": batch.qo_indptr,
            "max_seqlen_q": batch.max_q_len,
            "seqused_k": batch.seq_lens,
            "max_seqlen_k": batch.max_seq_len,
            "avg_seqlen_q": sum(batch.q_lens) / len(batch.q_lens),
            "avg_seqlen_k": sum(batch.kv_lens) / len(batch.kv_lens),
            "softmax_scale": geometry.sm_scale,
            "causal": True,
            "window_size": (geometry.window_left, 0) if geometry.window_left >= 0 else (-1, -1),
            "block_table": tables(batch, layer),
            "softcap": geometry.logits_soft_cap or 0.0,
            "sinks": inputs.sinks,
            "seq_threshold_3D": most,
            "num_par_softmax_segments": _SEGMENTS,
            "softmax_segm_output": torch.empty(most, heads, _SEGMENTS, triton.next_power_of_2(geometry.head_dim)),
            "softmax_segm_max": torch.empty(most, heads, _SEGMENTS),
            "softmax_segm_expsum": torch.empty(most, heads, _SEGMENTS),
        }
        call(unified, known | dict.fromkeys(("q_descale", "k_descale", "v_descale")))
        return "unified_attention"

    return KernelBackend(name, PROMISES, answer, reasons, rounded_p)
