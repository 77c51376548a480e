"""The documented contracts of the three functions in plain PyTorch, executed from bound arguments alone.

Sources: the docstrings of ``trtllm_batch_decode_with_kv_cache`` (decode.py), ``trtllm_batch_context_with_kv_cache``
and ``trtllm_fmha_v2_prefill`` (prefill.py) and ``xqa`` (xqa.py) of FlashInfer 0.6.10.post1, 0.6.13 and 0.7.2.post1.
Where they are silent, attention is causal with the last query at the last key (documented for ``causal`` since 0.6.13
only), the LSE is in base two (documented in 0.7.2.post1, for the function's own LSE), and a sink is part of the LSE.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from attnconf.backends.flashinfer.trtllm_mha.blocks import gathered
from attnconf.backends.flashinfer.trtllm_mha.dispatch import SCALE_TOKENS
from attnconf.backends.packed import unpacked
from attnconf.errors import AttnconfError

if TYPE_CHECKING:
    from collections.abc import Mapping

_MASK_WORD_BITS = 16


class ContractViolationError(AttnconfError):
    """An argument that the function's documentation does not allow. Names the function and the parameter."""

    def __init__(self, function: str, parameter: str, problem: str) -> None:
        """Compose the sentence."""
        self.function = function
        self.parameter = parameter
        super().__init__(f"{function}: {parameter} {problem}")


@dataclass(frozen=True)
class _Reading:
    """One call as values: ``k`` and ``v`` [num_pages, num_kv_heads, page_size, head_dim], one length per request.

    Of NVFP4 these are bytes, and ``blocks`` the scales of keys and of values, as they are passed.
    """

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    tables: torch.Tensor
    q_starts: list[int]
    kv_lens: list[int]
    bmm1_scale: float
    bmm2_scale: float
    window_left: int
    soft_cap: float | None
    sinks: torch.Tensor | None
    mask: torch.Tensor | None
    blocks: tuple[torch.Tensor | None, torch.Tensor | None] = (None, None)


def execute(function: str, arguments: Mapping[str, Any]) -> None:
    """Write ``out``, and ``lse`` if it was passed, as documented for ``function``.

    ``arguments`` maps every parameter to its value. Raises ``ContractViolationError``.
    """
    reading = _read(function, arguments)
    out = arguments["out"]
    lse = arguments.get("lse")
    _demand(out.shape == reading.q.shape, function, "out", f"has shape {tuple(out.shape)}, not the query's")
    if lse is not None:
        allowed = lse.shape == out.shape[:2] and lse.dtype is torch.float32
        _demand(allowed, function, "lse", "is not [num_tokens, num_qo_heads] float32")
        _demand(arguments.get("backend") != "xqa", function, "lse", "is not supported by backend xqa")
    for request in range(len(reading.kv_lens)):
        rows = slice(reading.q_starts[request], reading.q_starts[request + 1])
        if rows.start == rows.stop:
            continue
        part, stats = _attend(reading, request, reading.q[rows])
        out[rows] = part.to(out.dtype)
        if lse is not None:
            lse[rows] = stats * math.log2(math.e)


def _read(function: str, arguments: Mapping[str, Any]) -> _Reading:
    if function == "trtllm_fmha_v2_prefill":
        q, stacked = arguments["qkv"]
        layout = arguments["input_layout"].removeprefix("Q_PAGED_KV_")
        _demand(stacked.dim() == 5 and stacked.shape[1] == 2, function, "qkv", "is not (Q, [num_pages, 2, ...])")  # noqa: PLR2004 - K and V
        _demand(stacked.is_contiguous(), function, "qkv", "is strided, and the function takes no strides")
        k, v = stacked.unbind(1)
        window_left = arguments["window_left"] if arguments["mask_mode"] == "sliding_window" else -1
        soft_cap, mask = arguments["logits_soft_cap_scale"], None
    else:
        q, (k, v) = arguments["query"], arguments["kv_cache"]
        layout, window_left = arguments["kv_layout"], arguments["window_left"]
        soft_cap, mask = None, arguments.get("mask")
    _demand(layout in {"NHD", "HND"}, function, "kv_layout", f"is {layout!r}, not NHD or HND")
    _demand(
        k.shape == v.shape and k.dtype == v.dtype, function, "kv_cache", "has keys and values of unlike shape or dtype"
    )
    _demand(
        k.stride() == v.stride() and k.stride(-1) == 1,
        function,
        "kv_cache",
        "has unlike strides, or head_dim not 1 apart",
    )
    if layout == "NHD":
        k, v = k.transpose(1, 2), v.transpose(1, 2)
    _demand(q.is_contiguous(), function, "query", "is strided, and the function passes no strides of it on")
    blocks, width = _blocks(function, arguments, k, layout), k.shape[3] * (2 if k.dtype is torch.uint8 else 1)
    _demand(q.shape[2] == width, function, "kv_cache", f"has head_dim {width} under a query of {q.shape[2]}")
    _demand(q.shape[1] % k.shape[1] == 0, function, "kv_cache", f"has {k.shape[1]} heads under a query of {q.shape[1]}")
    tables, sinks = arguments["block_tables"], arguments["sinks"]
    two_dimensional = tables.dim() == 2 and tables.is_contiguous()  # noqa: PLR2004 - requests and pages
    _demand(
        tables.dtype is torch.int32 and two_dimensional,
        function,
        "block_tables",
        "is not a contiguous 2-D int32 tensor",
    )
    if sinks is not None:
        allowed = sinks.shape == q.shape[1:2] and sinks.dtype is torch.float32
        _demand(allowed, function, "sinks", "is not [num_qo_heads] float32")
    workspace = arguments["workspace_buffer"]
    _demand(workspace.dtype is torch.uint8 and workspace.dim() == 1, function, "workspace_buffer", "is not 1-D uint8")
    kv_lens = _kv_lens(function, arguments, tables)
    q_starts = _q_starts(function, arguments, q.shape[0], len(kv_lens))
    return _Reading(
        q, k, v, tables, q_starts, kv_lens,
        float(arguments["bmm1_scale"]), float(arguments["bmm2_scale"]), window_left, soft_cap, sinks,
        _mask(function, arguments, mask, len(kv_lens)), blocks,
    )  # fmt: skip


def _blocks(
    function: str, arguments: Mapping[str, Any], k: torch.Tensor, layout: str
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Return the scales of blocks of keys and of values, which belong to uint8 caches alone."""
    given = arguments.get("kv_cache_sf")
    _demand((given is None) == (k.dtype is not torch.uint8), function, "kv_cache_sf", "belongs to uint8 caches alone")
    if given is None:
        return None, None
    pages, heads, size, width = k.shape
    shape = (pages, heads, size, width // 8)
    _demand(layout == "HND", function, "kv_layout", "of an NVFP4 cache is NHD, which copies all of it at each call")
    _demand(
        size % SCALE_TOKENS == 0 == width % 32, function, "kv_cache", f"has pages of {size} tokens of {width} bytes"
    )
    for scales in given:
        allowed = scales.dtype is torch.float8_e4m3fn and scales.shape == shape
        _demand(allowed, function, "kv_cache_sf", f"is not {shape} float8_e4m3fn")
        in_rows = scales.stride()[2:] == (shape[3], 1)
        _demand(in_rows, function, "kv_cache_sf", "has something between the tokens of a page and head")
    eight_bits = {arguments["query"].dtype, arguments["out"].dtype} == {torch.float8_e4m3fn}
    _demand(eight_bits, function, "query", "and out are not float8_e4m3fn, as in every kernel over NVFP4")
    return given[0], given[1]


def _kv_lens(function: str, arguments: Mapping[str, Any], tables: torch.Tensor) -> list[int]:
    lens = arguments["seq_lens"]
    _demand(lens.dtype in {torch.int32, torch.uint32} and lens.dim() == 1, function, "seq_lens", "is not 1-D, 32-bit")
    kv_lens = [int(length) for length in lens.tolist()]
    _demand(len(kv_lens) == tables.shape[0], function, "seq_lens", "has not one entry a row of block_tables")
    hint = "max_seq_len" if "max_seq_len" in arguments else "max_kv_len"
    _demand(
        arguments[hint] >= max(kv_lens), function, hint, f"is {arguments[hint]}, below a sequence of {max(kv_lens)}"
    )
    return kv_lens


def _q_starts(function: str, arguments: Mapping[str, Any], tokens: int, rows: int) -> list[int]:
    if "batch_size" not in arguments:
        q_len = arguments["q_len_per_req"]
        _demand(
            tokens == rows * q_len, function, "q_len_per_req", f"is {q_len}, but {rows} requests bring {tokens} tokens"
        )
        return [q_len * row for row in range(rows + 1)]
    _demand(arguments["batch_size"] == rows, function, "batch_size", f"is {arguments['batch_size']}, not {rows}")
    starts = _cumulative(function, arguments, "cum_seq_lens_q", rows)
    kv_starts = _cumulative(function, arguments, "cum_seq_lens_kv", rows)
    lens = [int(length) for length in arguments["seq_lens"].tolist()]
    _demand(
        starts[-1] == tokens, function, "cum_seq_lens_q", f"ends at {starts[-1]}, but the query has {tokens} tokens"
    )
    agrees = all(kv_starts[row + 1] - kv_starts[row] == lens[row] for row in range(rows))
    _demand(agrees, function, "cum_seq_lens_kv", "is not the running sum of seq_lens")
    longest = max(starts[row + 1] - starts[row] for row in range(rows))
    _demand(arguments["max_q_len"] >= longest, function, "max_q_len", f"is below a request of {longest} tokens")
    return starts


def _cumulative(function: str, arguments: Mapping[str, Any], name: str, rows: int) -> list[int]:
    value = arguments[name]
    _demand(value.dtype is torch.int32 and value.shape == (rows + 1,), function, name, "is not [batch_size + 1] int32")
    return [int(entry) for entry in value.tolist()]


def _mask(function: str, arguments: Mapping[str, Any], mask: torch.Tensor | None, rows: int) -> torch.Tensor | None:
    if arguments.get("backend") != "xqa" or arguments["q_len_per_req"] == 1:
        _demand(mask is None, function, "mask", "belongs to XQA with q_len_per_req > 1")
        return None
    q_len = arguments["q_len_per_req"]
    _demand(mask is not None, function, "mask", "is needed by XQA with q_len_per_req > 1")
    if mask is None:
        return None
    shape = (rows, q_len, (q_len + 31) // 32 * 2)
    _demand(mask.dtype is torch.uint16 and mask.shape == shape, function, "mask", f"is not {shape} uint16")
    return mask


def _attend(reading: _Reading, request: int, q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return one request's output [tokens, heads, head_dim] and natural LSE [tokens, heads], both float32."""
    length, tokens = reading.kv_lens[request], q.shape[0]
    group = q.shape[1] // reading.k.shape[1]
    positions = length - tokens + torch.arange(tokens, device=q.device)
    first = 0 if reading.window_left < 0 else max(0, length - tokens - reading.window_left)
    keys = torch.arange(first, length, device=q.device)
    k = _gather(reading, reading.k, request, keys, reading.blocks[0]).repeat_interleave(group, dim=1)
    v = _gather(reading, reading.v, request, keys, reading.blocks[1], by_four=True).repeat_interleave(group, dim=1)
    seen = keys[None, :] <= positions[:, None]
    if reading.mask is not None:
        seen = _draft_visible(reading.mask[request], keys, length - tokens)
    if reading.window_left >= 0:
        seen = seen & (keys[None, :] >= positions[:, None] - reading.window_left)
    scores = torch.einsum("thd,khd->htk", q.float(), k) * reading.bmm1_scale
    if reading.soft_cap:
        scores = reading.soft_cap * torch.tanh(scores / reading.soft_cap)
    scores = scores.masked_fill(~seen[None], -torch.inf)
    logits = scores
    if reading.sinks is not None:
        sinks = reading.sinks.float()[:, None, None].expand(-1, tokens, 1)
        logits = torch.cat([scores, sinks], dim=-1)
    lse = torch.logsumexp(logits, dim=-1)
    weights = torch.exp(scores - lse[..., None])
    out = torch.einsum("htk,khd->thd", weights, v) * reading.bmm2_scale
    return out, lse.T


def _gather(  # noqa: PLR0913 - a call, what is read of it, and how
    reading: _Reading,
    paged: torch.Tensor,
    request: int,
    keys: torch.Tensor,
    blocks: torch.Tensor | None,
    *,
    by_four: bool = False,
) -> torch.Tensor:
    size = paged.shape[2]
    pages, slots = reading.tables[request].long()[keys // size], keys % size
    found = paged[pages, :, slots]
    return found.float() if blocks is None else unpacked(found, gathered(blocks, pages, slots, by_four=by_four))


def _draft_visible(mask: torch.Tensor, keys: torch.Tensor, cached: int) -> torch.Tensor:
    """Return a mask [tokens, keys] of all cached keys and of the new keys whose bit is set."""
    words = mask.to(torch.int32)
    column = (keys - cached).clamp(min=0)
    bits = words[:, column // _MASK_WORD_BITS] >> (column % _MASK_WORD_BITS)
    return (keys < cached)[None, :] | (bits & 1).bool()


def _demand(holds: bool, function: str, parameter: str, problem: str) -> None:  # noqa: FBT001 - the condition itself
    if not holds:
        raise ContractViolationError(function, parameter, problem)
