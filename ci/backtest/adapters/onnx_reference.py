"""The function of ONNX's operator Attention in the package's own reference: NumPy, by which other kernels are judged.

An engine may call it in several ways, each with a path of its own: new tokens behind past keys, a static cache longer
than its keys, heads side by side in one dimension, and a mask instead of the causal flag.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from attnconf.backends.protocol import Promises
from attnconf.precision import NumericsProfile
from ci.backtest.adapters.kernel import KernelBackend, attend_dense
from ci.backtest.loading import load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from attnconf.cases.geometry import LayerGeometry
    from attnconf.cases.inputs.batch import Batch
    from attnconf.cases.shape import KernelShape

    Arrays = dict[str, Any]
    Arrange = Callable[[LayerGeometry, np.ndarray, np.ndarray, np.ndarray], Arrays]

_SPARE = 3
"""Slots of a static cache behind its last key."""

_NAMES = {"onnx.reference.op_run": {"OpRun": object}, "onnx.reference.ops": {}, "onnx.helper": {}}
PROMISES = Promises(reclaimed_v=frozenset(), empty_kv=False, empty_q=False, batch_invariant=False, hint_invariant=False)


def make_past(folder: Path, name: str) -> KernelBackend:
    """Return a backend that passes earlier keys as ``past_key``, and ``is_causal``."""

    def arrange(_: LayerGeometry, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> Arrays:
        past = k.shape[2] - q.shape[2]
        parts = {"K": k[:, :, past:], "V": v[:, :, past:], "past_key": k[:, :, :past], "past_value": v[:, :, :past]}
        return {**parts, "Q": q, "is_causal": True}

    return _backend(folder, name, arrange, windows=False)


def make_masked(folder: Path, name: str) -> KernelBackend:
    """Return a backend that passes all keys, and an additive mask with the window in it."""
    return _backend(folder, name, masked, windows=True)


def make_packed(folder: Path, name: str) -> KernelBackend:
    """Return ``make_masked`` with the heads side by side: [batch, tokens, heads * head_dim].

    Groups of query heads and soft caps are left out: they are other known faults of the releases around this one.
    """

    def arrange(geometry: LayerGeometry, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> Arrays:
        found = masked(geometry, q, k, v)
        for part in ("Q", "K", "V"):
            tokens = found[part].transpose(0, 2, 1, 3)
            found[part] = tokens.reshape(*tokens.shape[:2], -1)
        return {**found, "q_num_heads": geometry.num_qo_heads, "kv_num_heads": geometry.num_kv_heads}

    return _backend(folder, name, arrange, windows=True, others=False)


def make_static(folder: Path, name: str) -> KernelBackend:
    """Return a backend that passes a cache longer than its keys, their number, and ``is_causal``."""

    def arrange(_: LayerGeometry, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> Arrays:
        longer = [np.pad(part, [(0, 0), (0, 0), (0, _SPARE), (0, 0)]) for part in (k, v)]
        number = np.array([k.shape[2]], dtype=np.int64)
        return {"Q": q, "K": longer[0], "V": longer[1], "nonpad_kv_seqlen": number, "is_causal": True}

    return _backend(folder, name, arrange, windows=False)


def make_boolean(folder: Path, name: str) -> KernelBackend:
    """Return ``make_past`` with a boolean mask beside ``is_causal``: the window, or nothing hidden."""

    def arrange(geometry: LayerGeometry, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> Arrays:
        past = k.shape[2] - q.shape[2]
        parts = {"K": k[:, :, past:], "V": v[:, :, past:], "past_key": k[:, :, :past], "past_value": v[:, :, :past]}
        return {**parts, "Q": q, "is_causal": True, "attn_mask": ~_behind(geometry, q.shape[2], k.shape[2])}

    return _backend(folder, name, arrange, windows=True)


def masked(geometry: LayerGeometry, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> Arrays:
    """Return the operator's inputs over all keys, [1, heads, tokens, head_dim], with causality and window as a mask."""
    queries, keys = q.shape[2], k.shape[2]
    ahead = np.arange(keys)[None, :] > np.arange(keys - queries, keys)[:, None]
    hidden = ahead | _behind(geometry, queries, keys)
    return {"Q": q, "K": k, "V": v, "attn_mask": np.where(hidden, -np.inf, 0.0).astype(q.dtype)}


def _behind(geometry: LayerGeometry, queries: int, keys: int) -> np.ndarray:
    """Return which keys lie behind the window of each query, [queries, keys]."""
    if geometry.window_left < 0:
        return np.zeros((queries, keys), dtype=bool)
    oldest = np.arange(keys - queries, keys)[:, None] - geometry.window_left
    found: np.ndarray = np.arange(keys)[None, :] < oldest
    return found


def _backend(folder: Path, name: str, arrange: Arrange, *, windows: bool, others: bool = True) -> KernelBackend:
    stand_ins = {"onnx": {"TensorProto": SimpleNamespace(FLOAT=1), "helper": SimpleNamespace()}, **_NAMES}
    stand_ins["onnx.reference.ops.op_matmul"] = {"numpy_matmul": np.matmul}
    module = load(folder, ["onnx.reference.ops.op_attention"], stand_ins=stand_ins)
    compute = vars(module)["_compute_attention"]

    def reasons(shape: KernelShape) -> Iterator[str]:
        if shape.q_dtype != "float32" or shape.kv_dtype != shape.q_dtype:
            yield "NumPy has no bfloat16 and no 8 bits, and sums float16 in float16; float32 is asked"
        if shape.sinks:
            yield "the operator has no sinks"
        if (shape.group_size > 1 or shape.soft_cap) and not others:
            yield "groups of query heads and soft caps are left out: other known faults"
        if shape.windowed and not windows:
            yield "the operator has no windows but by a mask"

    def answer(batch: Batch, layer: int, out: torch.Tensor) -> str:
        geometry = batch.layers[layer].geometry

        def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            arrays = arrange(geometry, *(part.transpose(0, 1)[None].numpy() for part in (q, k, v)))
            with np.errstate(all="ignore"):
                found = compute(
                    **arrays, scale=geometry.sm_scale, softcap=geometry.logits_soft_cap, qk_matmul_output_mode=0
                )[0]
            rows = found[0].transpose(1, 0, 2) if found.ndim == q.ndim + 1 else found[0].reshape(q.shape)
            return torch.from_numpy(np.ascontiguousarray(rows))

        attend_dense(batch, layer, out, attend)
        return "Attention"

    return KernelBackend(name, PROMISES, answer, reasons, lambda _: NumericsProfile())
