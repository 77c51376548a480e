"""ONNX Runtime's own CPU kernels: ``GroupQueryAttention`` of its domain, and ONNX's ``Attention``.

Each request is a call, as of a batch of one. ``GroupQueryAttention`` gets new tokens behind a cache that it appends to,
and says a window as the number of keys, the row's own included, which is what ONNX Runtime means since 1.24.
"""

from __future__ import annotations

import importlib
import sys
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from attnconf.backends.protocol import Promises
from attnconf.precision import NumericsProfile
from ci.backtest.adapters.kernel import KernelBackend, attend_dense
from ci.backtest.adapters.onnx_model import FLOAT, INT32, INT64, one_operator
from ci.backtest.adapters.onnx_reference import masked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from attnconf.cases.geometry import LayerGeometry
    from attnconf.cases.inputs.batch import Batch
    from attnconf.cases.shape import KernelShape

    Arrays = dict[str, np.ndarray]
    Ask = Callable[[LayerGeometry, np.ndarray, np.ndarray, np.ndarray], np.ndarray]

_ALIGNED = 8
"""``GroupQueryAttention`` takes head dims that are multiples of 8."""

_SPARE = 3
"""Slots of a static cache behind its last key."""

_OPSET = {"GroupQueryAttention": 21, "masked": 23, "static": 24}
"""The first version of ONNX's operators that has what is asked: a release refuses one that is newer than it."""

PROMISES = Promises(reclaimed_v=frozenset(), empty_kv=False, empty_q=False, batch_invariant=False, hint_invariant=False)


def make_grouped(folder: Path, name: str) -> KernelBackend:
    """Return a backend of ``GroupQueryAttention``, which has windows of its own."""
    session = _runtime(folder)

    def ask(geometry: LayerGeometry, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
        heads, kv_heads = geometry.num_qo_heads, geometry.num_kv_heads
        keys, new = k.shape[2], q.shape[2]
        past = keys - new
        inputs = {
            "query": _packed(q),
            "key": _packed(k[:, :, past:]),
            "value": _packed(v[:, :, past:]),
            "past_key": k[:, :, :past],
            "past_value": v[:, :, :past],
            "seqlens_k": np.array([keys - 1], dtype=np.int32),
            "total_sequence_length": np.array([keys], dtype=np.int32),
        }
        kinds = tuple((one, INT32 if one in {"seqlens_k", "total_sequence_length"} else FLOAT) for one in inputs)
        outputs = tuple((one, FLOAT) for one in ("output", "present_key", "present_value"))
        attributes = {"num_heads": heads, "kv_num_heads": kv_heads, "scale": float(geometry.sm_scale)}
        if geometry.window_left >= 0:
            attributes["local_window_size"] = geometry.window_left + 1
        if geometry.logits_soft_cap:
            attributes["softcap"] = float(geometry.logits_soft_cap)
        asked = session("GroupQueryAttention", _OPSET["GroupQueryAttention"], kinds, outputs, tuple(attributes.items()))
        return _rows(asked.run(["output"], _contiguous(inputs))[0], heads)

    return _backend(name, ask, aligned=True, windows=True)


def make_masked(folder: Path, name: str) -> KernelBackend:
    """Return a backend of ``Attention`` over all keys, with an additive mask that has the window in it."""
    session = _runtime(folder)

    def ask(geometry: LayerGeometry, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
        arrays = masked(geometry, q, k, v)
        kinds = tuple((one, FLOAT) for one in arrays)
        asked = session("Attention", _OPSET["masked"], kinds, (("Y", FLOAT),), tuple(_attributes(geometry).items()))
        return np.asarray(asked.run(["Y"], _contiguous(arrays))[0])[0].transpose(1, 0, 2)

    return _backend(name, ask, aligned=False, windows=True)


def make_static(folder: Path, name: str) -> KernelBackend:
    """Return a backend of ``Attention`` over a cache longer than its keys, their number, and ``is_causal``."""
    session = _runtime(folder)

    def ask(geometry: LayerGeometry, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
        longer = [np.pad(part, [(0, 0), (0, 0), (0, _SPARE), (0, 0)]) for part in (k, v)]
        arrays = {"Q": q, "K": longer[0], "V": longer[1], "nonpad_kv_seqlen": np.array([k.shape[2]], dtype=np.int64)}
        kinds = (("Q", FLOAT), ("K", FLOAT), ("V", FLOAT), ("", 0), ("", 0), ("", 0), ("nonpad_kv_seqlen", INT64))
        attributes = {"is_causal": 1, **_attributes(geometry)}
        asked = session("Attention", _OPSET["static"], kinds, (("Y", FLOAT),), tuple(attributes.items()))
        return np.asarray(asked.run(["Y"], _contiguous(arrays))[0])[0].transpose(1, 0, 2)

    return _backend(name, ask, aligned=False, windows=False)


def _runtime(folder: Path) -> Callable[..., Any]:
    """Import the release's own runtime, and return what makes a session of one operator, once for each kind."""
    sys.path.insert(0, str(folder))
    runtime = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong is raised, too

    @cache
    def session(operator: str, opset: int, inputs: Any, outputs: Any, attributes: Any) -> Any:  # noqa: ANN401 - tuples
        domain = "" if operator == "Attention" else "com.microsoft"
        model = one_operator(operator, {"": opset, "com.microsoft": 1}, domain, inputs, outputs, dict(attributes))
        return runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    return session


def _backend(name: str, ask: Ask, *, aligned: bool, windows: bool) -> KernelBackend:
    def reasons(shape: KernelShape) -> Iterator[str]:
        if shape.q_dtype != "float32" or shape.kv_dtype != shape.q_dtype:
            yield "float32 is asked, the dtype of ONNX Runtime's kernels on a CPU"
        if shape.sinks:
            yield "the adapter passes no sinks"
        if aligned and shape.head_dim % _ALIGNED:
            yield f"head_dim {shape.head_dim} is no multiple of {_ALIGNED}"
        if shape.windowed and not windows:
            yield "the operator has no windows but by a mask"

    def answer(batch: Batch, layer: int, out: torch.Tensor) -> str:
        geometry = batch.layers[layer].geometry

        def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            found = ask(geometry, *(part.transpose(0, 1)[None].numpy() for part in (q, k, v)))
            return torch.from_numpy(np.ascontiguousarray(found))

        attend_dense(batch, layer, out, attend)
        return "onnxruntime"

    return KernelBackend(name, PROMISES, answer, reasons, lambda _: NumericsProfile())


def _attributes(geometry: LayerGeometry) -> dict[str, float]:
    return {"scale": float(geometry.sm_scale), "softcap": float(geometry.logits_soft_cap or 0.0)}


def _packed(heads: np.ndarray) -> np.ndarray:
    """Return [1, heads, tokens, head_dim] as [1, tokens, heads * head_dim]."""
    tokens = heads.transpose(0, 2, 1, 3)
    return tokens.reshape(*tokens.shape[:2], -1)


def _rows(packed: np.ndarray, heads: int) -> np.ndarray:
    return packed[0].reshape(packed.shape[1], heads, -1)


def _contiguous(arrays: Arrays) -> Arrays:
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}
