"""transformers' two callers of flash-attn, with that library's documented function in its place: contract evidence.

``_flash_attention_forward`` is what every model with ``flash_attention_2`` calls, ``paged_attention_forward`` that of
continuous batching. Both turn a model's ``sliding_window`` (W keys, so ``window_left + 1``) into flash-attn's window.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch

from attnconf.backends.protocol import Promises
from attnconf.precision import NumericsProfile
from ci.backtest.adapters import documented_flash
from ci.backtest.adapters.calling import takes
from ci.backtest.adapters.kernel import KernelBackend, attend_dense
from ci.backtest.loading import load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from attnconf.cases.inputs.batch import Batch
    from attnconf.cases.shape import KernelShape

PROMISES = Promises(reclaimed_v=frozenset(), empty_kv=False, empty_q=False, batch_invariant=False, hint_invariant=False)


def _no(*_args: object, **_kwargs: object) -> bool:
    return False


class _Logger:
    def __getattr__(self, _: str) -> Any:  # noqa: ANN401 - any method of a logger
        return lambda *_args, **_kwargs: None


_UTILS = dict.fromkeys(
    (
        "is_flash_attn_2_available",
        "is_flash_attn_3_available",
        "is_flash_attn_greater_or_equal",
        "is_flash_attn_greater_or_equal_2_10",
        "is_torch_npu_available",
        "is_torch_xpu_available",
    ),
    _no,
)
_STAND_INS: dict[str, dict[str, Any]] = {
    "transformers.utils": {**_UTILS, "logging": SimpleNamespace(get_logger=lambda _: _Logger())},
    "transformers.generation.continuous_batching": {"PagedAttentionCache": object},
    "transformers.integrations.npu_flash_attention": {"is_npu_fa2_top_left_aligned_causal_mask": _no},
}


def make(folder: Path, name: str) -> KernelBackend:
    """Return a backend of ``_flash_attention_forward``, one request a call."""
    module = load(folder, ["transformers.modeling_flash_attention_utils"], stand_ins=_STAND_INS)
    forward = vars(module)["_flash_attention_forward"]

    def answer(batch: Batch, layer: int, out: torch.Tensor) -> str:
        geometry = batch.layers[layer].geometry

        def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = forward(
                q[None],
                k[None],
                v[None],
                None,
                query_length=q.shape[0],
                is_causal=True,
                softmax_scale=geometry.sm_scale,
                sliding_window=geometry.window_left + 1 if geometry.window_left >= 0 else None,
                softcap=geometry.logits_soft_cap,
                implementation=documented_flash,
            )
            return found[0]

        attend_dense(batch, layer, out, attend)
        return "_flash_attention_forward"

    return KernelBackend(name, PROMISES, answer, _reasons, _profile, evidence="contract")


def make_paged(folder: Path, name: str) -> KernelBackend:
    """Return a backend of ``paged_attention_forward``, all requests in one call over the keys of each, packed."""
    return _paged(folder, name, narrower=0)


def make_paged_narrow(folder: Path, name: str) -> KernelBackend:
    """Return ``make_paged`` with a known fault of 4.55 and 4.56 repaired: it is told a window of one key fewer."""
    return _paged(folder, name, narrower=1)


def _paged(folder: Path, name: str, *, narrower: int) -> KernelBackend:
    module = load(folder, ["transformers.integrations.flash_paged"], stand_ins=_STAND_INS)
    forward = vars(module)["paged_attention_forward"]

    def reasons(shape: KernelShape) -> Iterator[str]:
        yield from _reasons(shape)
        if narrower and shape.window_left == 0:
            yield "a window of no key says that there is none"
        if shape.soft_cap:
            yield "paged_attention_forward passes no soft cap on"

    def answer(batch: Batch, layer: int, out: torch.Tensor) -> str:
        geometry = batch.layers[layer].geometry
        keys: list[torch.Tensor] = []
        values: list[torch.Tensor] = []

        def keep(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            keys.append(k)
            values.append(v)
            return q

        attend_dense(batch, layer, out, keep)
        packed = [torch.cat(part) for part in (keys, values)]
        if takes(forward, "block_tables"):  # until 4.57 the cache returned [1, heads, tokens, head_dim]
            packed = [part.transpose(0, 1)[None] for part in packed]
        lengths = torch.tensor([0, *batch.kv_lens], dtype=torch.int32).cumsum(0).to(torch.int32)
        window = geometry.window_left + 1 - narrower if geometry.window_left >= 0 else None
        module = SimpleNamespace(layer_idx=0, scaling=geometry.sm_scale, sliding_window=window)
        names = {"cumulative_seqlens_q": "cumulative_seqlens_k"}
        names = names if takes(forward, "cumulative_seqlens_q") else {"cu_seq_lens_q": "cu_seq_lens_k"}
        ((q_name, k_name),) = names.items()
        found, _ = forward(
            module,
            batch.layers[layer].q.transpose(0, 1)[None],
            packed[0],
            packed[1],
            cache=SimpleNamespace(update=lambda *_args, **_kwargs: packed),
            max_seqlen_q=batch.max_q_len,
            max_seqlen_k=max(batch.kv_lens),
            implementation=_Implementation,
            **{q_name: batch.qo_indptr, k_name: lengths},
        )
        out.copy_(found)
        return "paged_attention_forward"

    return KernelBackend(name, PROMISES, answer, reasons, _profile, evidence="contract")


class _Implementation:
    """What a kernel of the hub has; releases of one year pass sinks, or their absence, as ``s_aux``."""

    @staticmethod
    def flash_attn_varlen_func(*args: Any, s_aux: None = None, **kwargs: Any) -> torch.Tensor:  # noqa: ANN401
        """Call the documented function."""
        del s_aux
        return documented_flash.flash_attn_varlen_func(*args, **kwargs)


def _reasons(shape: KernelShape) -> Iterator[str]:
    if shape.sinks:
        yield "flash-attn 2 has no sinks"
    if shape.kv_dtype != shape.q_dtype:
        yield f"flash-attn takes {shape.q_dtype} KV beside {shape.q_dtype} queries, not {shape.kv_dtype}"


def _profile(shape: KernelShape) -> NumericsProfile:
    del shape
    return NumericsProfile()
