"""Dumps as FlashInfer's ``api_logging.py`` writes them: metadata.jsonl beside inputs.pt or inputs.safetensors."""

from __future__ import annotations

import inspect
import itertools
import json
import struct
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_CALLS = itertools.count(1)
_SAFE = {torch.int32: "I32", torch.float16: "F16", torch.float32: "F32", torch.uint8: "U8", torch.bfloat16: "BF16"}


def decode(  # noqa: PLR0913 - FlashInfer's arguments
    query: Any,  # noqa: ANN401
    kv_cache: Any,  # noqa: ANN401
    workspace_buffer: Any,  # noqa: ANN401
    block_tables: Any,  # noqa: ANN401
    seq_lens: Any,  # noqa: ANN401
    max_seq_len: int,
    bmm1_scale: float = 1.0,
    bmm2_scale: float = 1.0,
    window_left: int = -1,
    sinks: Any = None,  # noqa: ANN401
    kv_layout: str = "HND",
    q_len_per_req: int | None = 1,
    mask: Any = None,  # noqa: ANN401
) -> None:
    """Have the parameters of ``trtllm_batch_decode_with_kv_cache`` that matter here."""


def init(self: Any, float_workspace_buffer: Any, kv_layout: str = "NHD") -> None:  # noqa: ANN401
    """Have the parameters of a wrapper's ``__init__``."""


def plan_decode(  # noqa: PLR0913 - FlashInfer's arguments
    self: Any,  # noqa: ANN401
    indptr: Any,  # noqa: ANN401
    indices: Any,  # noqa: ANN401
    last_page_len: Any,  # noqa: ANN401
    num_qo_heads: int,
    num_kv_heads: int,
    head_dim: int,
    page_size: int,
    *deprecated_positional_args: Any,  # noqa: ANN401
    **kwargs: Any,  # noqa: ANN401
) -> None:
    """Have the parameters of ``BatchDecodeWithPagedKVCacheWrapper.plan``."""


def run_decode(self: Any, q: Any, paged_kv_cache: Any, *args: Any, window_left: int | None = None) -> None:  # noqa: ANN401
    """Have the parameters of ``BatchDecodeWithPagedKVCacheWrapper.run``."""


def write_dump(  # noqa: PLR0913 - a call, and how it is written
    root: Path,
    function: Callable[..., None],
    name: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any] | None = None,
    *,
    owner: int | None = None,
    safe: bool = False,
) -> Path:
    """Write the dump of one call, and return its folder."""
    call = next(_CALLS)
    folder = root / f"20261129_043316_{call:03d}_pid77_{name}_call{call:04d}"
    folder.mkdir(parents=True)
    tensors: dict[str, torch.Tensor] = {}
    metadata: dict[str, Any] = {}
    given = [(f"arg_{place}", value) for place, value in enumerate(args)]
    for key, value in [*given, *((f"kwarg_{name}", value) for name, value in (kwargs or {}).items())]:
        if isinstance(value, torch.Tensor):
            tensors[key] = value
        else:
            metadata[key] = _described(value, key, tensors)
    if safe:
        _save(tensors, folder / "inputs.safetensors")
    else:
        torch.save(tensors, folder / "inputs.pt")
    details = {
        key: {"shape": list(one.shape), "dtype": str(one.dtype), "stride": list(one.stride()), "device": "cpu"}
        for key, one in tensors.items()
    }
    record = {
        "function_name": name,
        "module": "flashinfer",
        "call_sequence": call,
        "timestamp": f"20261129_043316_{call:03d}",
        "process_id": 77,
        "input_metadata": metadata,
        "tensor_details": details,
        "function_signature": str(inspect.signature(function)),
        "execution_status": "inputs_saved",
        **({} if owner is None else {"self_id": owner}),
    }
    lines = [record, {**record, "execution_status": "completed"}]
    (folder / "metadata.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in lines))
    return folder


def _described(value: Any, key: str, tensors: dict[str, torch.Tensor]) -> Any:  # noqa: ANN401 - any argument
    if isinstance(value, torch.Tensor):
        tensors[key] = value
        form = {"shape": list(value.shape), "dtype": str(value.dtype), "stride": list(value.stride())}
        return {"type": "torch.Tensor", **form, "tensor_key": key}
    if isinstance(value, list | tuple):
        items = [_described(one, f"{key}__{place}", tensors) for place, one in enumerate(value)]
        return {"type": type(value).__name__, "length": len(items), "items": items, "truncated": False}
    if isinstance(value, torch.dtype):
        return {"type": "torch.dtype", "value": str(value)}
    if value is None or isinstance(value, int | float | str):
        return value
    return {"type": type(value).__name__, "repr": str(value)}


def _save(tensors: dict[str, torch.Tensor], path: Path) -> None:
    header: dict[str, Any] = {}
    parts: list[bytes] = []
    start = 0
    for key, one in tensors.items():
        data = one.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        stop = start + len(data)
        header[key] = {"dtype": _SAFE[one.dtype], "shape": list(one.shape), "data_offsets": [start, stop]}
        parts.append(data)
        start = stop
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(parts))
