"""Small cases that prove mutants wrong: in float32, which has the tightest bounds, with windows that mask keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnconf.cases.case import Case, Layer, Paging, Poison
from attnconf.cases.request import Request

if TYPE_CHECKING:
    from attnconf.cases.case import Mode

FULL = Layer(kind="full", num_qo_heads=6, num_kv_heads=2, head_dim=64, sm_scale=0.2)
SLIDING = FULL.model_copy(update={"kind": "sliding", "window_left": 20})
CAPPED = FULL.model_copy(update={"logits_soft_cap": 5.0})
SINKS = FULL.model_copy(update={"sinks": True})
SCALED = FULL.model_copy(update={"k_scale": 0.5, "v_scale": 1.5})
"""A layer for ``quantised`` cases."""

SHARED = FULL.model_copy(update={"kv_owner": 0, "sm_scale": 0.125})
"""A layer that reads layer 0's keys and values."""

PAGED = Paging(page_size=8)
HYBRID = Paging(page_size=8, hybrid=True)
RECLAIMED = Paging(page_size=8, hybrid=True, reclaimed=True)
HOSTILE = Poison(k="nan", v="nan")

_REQUESTS: dict[Mode, tuple[Request, ...]] = {
    "decode": (Request(prefix_len=44), Request(prefix_len=18), Request(prefix_len=63)),
    "extend": (Request(prefix_len=45, new_tokens=7), Request(new_tokens=12)),
    "mixed": (Request(prefix_len=50), Request(prefix_len=33, new_tokens=6), Request(prefix_len=9, new_tokens=0)),
    "verify": (Request(prefix_len=44, new_tokens=4), Request(prefix_len=20, new_tokens=4)),
}


def ask(mode: Mode, *layers: Layer, **fields: object) -> Case:
    """Return a case of ``mode`` over ``layers``: several requests, pages of 8 tokens, float32; ``fields`` change it."""
    given = {"q_dtype": "float32", "kv_dtype": "float32", "requests": _REQUESTS[mode], "paging": PAGED, **fields}
    return Case.model_validate({"mode": mode, "layers": layers or (FULL,), **given})


def quantised(mode: Mode, *layers: Layer, **fields: object) -> Case:
    """Return such a case over 8-bit keys and values, whose scales are those of ``layers``."""
    given = {"q_dtype": "bfloat16", "kv_dtype": "float8_e4m3fn", **fields}
    return ask(mode, *(layers or (SCALED,)), **given)


def served(mode: Mode, *layers: Layer, **fields: object) -> Case:
    """Return such a case in the dtypes and page sizes of serving engines: bfloat16, pages of 16 tokens."""
    given = {"q_dtype": "bfloat16", "kv_dtype": "bfloat16", "paging": Paging(page_size=16, layout="HND"), **fields}
    return ask(mode, *layers, **given)
