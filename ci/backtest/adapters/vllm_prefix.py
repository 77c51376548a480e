"""vLLM's kernels over its older cache: ``context_attention_fwd``, and later ``chunked_prefill_paged_decode``.

Keys lie as [pages, num_kv_heads, head_dim / x, page_size, x], and values as [pages, num_kv_heads, head_dim,
page_size]; x elements take 16 bytes. The first kernel reads prefixes from there and gets new tokens apart; the second
function calls it, and decodes by a kernel of its own. Releases before 0.7.3 have no argument for the scale, and take
head_dim ** -0.5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from attnconf.backends.protocol import REQUIRED, Promises
from attnconf.precision import NumericsProfile
from ci.backtest.adapters.calling import call
from ci.backtest.adapters.kernel import KernelBackend, interpreted
from ci.backtest.adapters.vllm_parts import STAND_INS, modules, new_tokens, tables
from ci.backtest.loading import load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from attnconf.cases.inputs.batch import Batch
    from attnconf.cases.shape import KernelShape

_BYTES = 16
_MULTIPLE = 16
PROMISES = Promises(
    reclaimed_v=REQUIRED,
    empty_kv=False,
    empty_q=False,
    batch_invariant=False,
    hint_invariant=False,
    least_window=1,
)
"""Values behind the window are read and weighed with 0 in every release: NaN of a page given back is not borne."""


def make_prefill(folder: Path, name: str) -> KernelBackend:
    """Return a backend of ``context_attention_fwd`` alone, which serves extends; the scale is the release's own."""
    return _prefill(folder, name, dtypes=("float16", "float32"), scaled=False)


def make_scaled(folder: Path, name: str) -> KernelBackend:
    """Return ``make_prefill`` in float16 with a known fault repaired: queries carry the scale that is left out."""
    return _prefill(folder, name, dtypes=("float16",), scaled=True)


def make_scaled_float32(folder: Path, name: str) -> KernelBackend:
    """Return ``make_scaled`` in float32."""
    return _prefill(folder, name, dtypes=("float32",), scaled=True)


def make_chunked(folder: Path, name: str) -> KernelBackend:
    """Return a backend of ``chunked_prefill_paged_decode``, for every mode."""
    places = modules("chunked_prefill_paged_decode")
    module = load(folder, places, also=modules("prefix_prefill"), stand_ins=STAND_INS)
    function = vars(module)["chunked_prefill_paged_decode"]

    def answer(batch: Batch, layer: int, out: torch.Tensor) -> str:
        call(function, _known(batch, layer, out))
        return "chunked_prefill_paged_decode"

    return KernelBackend(name, PROMISES, answer, _reasons(), _profile)


def _prefill(folder: Path, name: str, *, dtypes: tuple[str, ...], scaled: bool) -> KernelBackend:
    places = [*modules("prefix_prefill"), "vllm.model_executor.layers.triton_kernel.prefix_prefill"]
    function = vars(load(folder, places, stand_ins=STAND_INS))["context_attention_fwd"]
    usual = _reasons()

    def reasons(shape: KernelShape) -> Iterator[str]:
        yield from usual(shape)
        if shape.mode == "decode":
            yield "a kernel of prefills"
        if shape.q_dtype not in dtypes:
            yield f"{shape.q_dtype} is left out: releases up to 0.5.3 have another known fault there"

    def answer(batch: Batch, layer: int, out: torch.Tensor) -> str:
        known = _known(batch, layer, out)
        if scaled:
            geometry = batch.layers[layer].geometry
            known["q"] = (known["q"].float() * geometry.sm_scale * geometry.head_dim**0.5).to(out.dtype)
        call(function, known)
        return "context_attention_fwd"

    return KernelBackend(name, PROMISES, answer, reasons, _rounded_query if scaled else _profile)


def _profile(shape: KernelShape) -> NumericsProfile:
    return NumericsProfile(p=shape.q_dtype)


def _rounded_query(shape: KernelShape) -> NumericsProfile:
    return NumericsProfile(p=shape.q_dtype, query=shape.q_dtype)


def _reasons() -> Callable[[KernelShape], Iterator[str]]:
    def reasons(shape: KernelShape) -> Iterator[str]:
        yield from interpreted(shape)
        if shape.soft_cap:
            yield "this kernel has no soft cap"
        if shape.sinks:
            yield "the kernel loads a sink in a way that the interpreter does not know, and older releases have none"
        if shape.page_size % _MULTIPLE or shape.page_size & (shape.page_size - 1):
            yield f"vLLM's pages are powers of two from {_MULTIPLE} on, not {shape.page_size}"
        if shape.head_dim % _BYTES:
            yield f"the cache has keys in parts of {_BYTES} bytes; head_dim {shape.head_dim} is not made of them"

    return reasons


def _known(batch: Batch, layer: int, out: torch.Tensor) -> dict[str, Any]:
    inputs = batch.layers[layer]
    geometry = inputs.geometry
    k_cache, v_cache = _caches(batch, inputs.cache)
    k, v = new_tokens(batch, layer)
    table = tables(batch, layer)
    prefixes = [kv_len - q_len for kv_len, q_len in zip(batch.kv_lens, batch.q_lens, strict=True)]
    one = torch.ones(1)
    both = {
        ("q", "query"): inputs.q,
        ("k", "key"): k,
        ("v", "value"): v,
        ("o", "output"): out,
        ("k_cache", "key_cache"): k_cache,
        ("v_cache", "value_cache"): v_cache,
        ("b_loc", "block_table"): table,
        ("b_start_loc", "query_start_loc"): batch.qo_indptr,
        ("b_seq_len", "seq_lens"): batch.seq_lens,
        ("max_input_len", "max_query_len"): batch.max_q_len,
        ("k_scale", "v_scale"): one,
    }
    known = {name: value for names, value in both.items() for name in names}
    return known | {
        "kv_cache_dtype": "auto",
        "b_ctx_len": torch.tensor(prefixes, dtype=torch.int32),
        "max_seq_len": batch.max_seq_len,
        "sliding_window": geometry.window_left + 1 if geometry.window_left >= 0 else None,
        "sm_scale": geometry.sm_scale,
    }


def _caches(batch: Batch, index: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a cache as vLLM lays it out: a copy, dead slots included."""
    cache = batch.caches[index]
    k, v = (view.transpose(1, 2) if batch.kv_layout == "NHD" else view for view in (cache.k, cache.v))
    x = _BYTES // k.element_size()
    keys = k.unflatten(-1, (k.shape[-1] // x, x)).permute(0, 1, 3, 2, 4).contiguous()
    return keys, v.transpose(2, 3).contiguous()
