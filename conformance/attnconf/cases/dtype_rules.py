"""Which dtypes a case may have beside each other, and which widths must fit them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnconf.cases.dtypes import BLOCK, E5M2, FINITE_ALONE, FP8, NVFP4, QUANTISED

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from attnconf.cases.dtypes import Dtypes, KVDtype, OutDtype
    from attnconf.cases.geometry import LayerGeometry

_UNDER_FP8 = frozenset({FP8, NVFP4})
"""The formats of KV under which queries and answers may have 8 bits."""


def check_dtypes(dtypes: Dtypes, out_dtype: OutDtype | None) -> None:
    """Raise ``ValueError`` where ``dtypes`` do not go together, of which ``out_dtype`` is what the case says itself."""
    quantised, narrow = dtypes.kv in QUANTISED, dtypes.kv in _UNDER_FP8
    if dtypes.q == FP8:
        if not narrow:
            raise ValueError(f"q_dtype {FP8} needs kv_dtype {FP8} or {NVFP4}, not {dtypes.kv}")
        if out_dtype is None or out_dtype == "float32":
            raise ValueError(f"q_dtype {FP8} needs an out_dtype of float16, bfloat16 or {FP8}")
    elif not quantised and dtypes.kv != dtypes.q:
        raise ValueError(f"kv_dtype {dtypes.kv} must be the q_dtype {dtypes.q}, {FP8}, {E5M2} or {NVFP4}")
    elif quantised and dtypes.q == "float32":
        bits = "16 or 8" if narrow else "16"
        raise ValueError(f"kv_dtype {dtypes.kv} needs a q_dtype of {bits} bits")
    elif dtypes.out not in {dtypes.q, *([FP8] if narrow else [])}:
        only = f"the q_dtype {dtypes.q}, since KV is not {FP8} or {NVFP4}"
        raise ValueError(f"out_dtype {out_dtype} must be {f'{dtypes.q} or {FP8}' if narrow else only}")
    if out_dtype is not None and out_dtype == dtypes.q != FP8:
        raise ValueError(f"out_dtype {out_dtype} is that of the query: it is left out")


def check_stored(kv_dtype: KVDtype, layers: Sequence[LayerGeometry], poison: Collection[str]) -> None:
    """Raise ``ValueError`` where keys or values are no whole number of blocks, or the dtype lacks a ``poison``."""
    if kv_dtype in FINITE_ALONE and "inf" in poison:
        raise ValueError(f"{kv_dtype} has no infinity to poison with")
    if kv_dtype != NVFP4:
        return
    for index, layer in enumerate(layers):
        for name, width in (("head_dim", layer.head_dim), ("head_dim_v", layer.value_dim)):
            if width % BLOCK:
                raise ValueError(f"layer {index}: kv_dtype {NVFP4} needs a {name} that {BLOCK} divides, not {width}")
