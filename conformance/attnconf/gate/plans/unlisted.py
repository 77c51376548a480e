"""Unlisted: required cells whose kernel is in no list of precompiled kernels, so that no machine can execute them.

Asked for the platform's release, before anybody rents a GPU. Where the list is unknown, nothing is said.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

from attnconf.backends.flashinfer.trtllm_gen import shapes
from attnconf.cases.models import load_model
from attnconf.cases.shape import KernelShape

if TYPE_CHECKING:
    from collections.abc import Iterator

    from attnconf.cases.case import KVDtype, Mode, QDtype
    from attnconf.cases.geometry import LayerGeometry
    from attnconf.platforms import Platform
    from attnconf.policy.requirements import Dtypes, RequiredCell

Pair = tuple["QDtype", "KVDtype"]

_LISTED = frozenset({"trtllm_mha"})
"""Backends whose kernels on the SM100 family are those of the list, with the dtypes of the case."""

_PAGE_SIZES = (16, 32, 64, 128, 256, 512, 1024)
_Q_LENS: dict[Mode, tuple[int, ...]] = {"decode": (1,), "verify": (2, 3, 4, 8), "extend": (24,), "mixed": (24,)}
_DTYPES: dict[Dtypes, tuple[Pair, ...]] = {
    "float32": (("float32", "float32"),),
    "float16": (("float16", "float16"),),
    "bfloat16": (("bfloat16", "bfloat16"),),
    "float16+float8_e4m3fn": (("float16", "float8_e4m3fn"),),
    "bfloat16+float8_e4m3fn": (("bfloat16", "float8_e4m3fn"),),
}
_ANY = tuple(pair for pairs in _DTYPES.values() for pair in pairs)


def why_unlisted(cell: RequiredCell, platform: Platform) -> str:
    """Return why no launch of ``cell`` has a kernel, with the first missing key; empty where one has, or may."""
    if cell.backend not in _LISTED or cell.unsupported or not shapes.is_known(platform):
        return ""
    first = ""
    for shape in _shapes(cell):
        reason = shapes.why_absent(shape, platform)
        if reason is None:
            return ""
        first = first or reason
    return first


def _shapes(cell: RequiredCell) -> Iterator[KernelShape]:
    """Yield every shape that a case of ``cell`` can have, as far as the list tells shapes apart."""
    layers = [layer for layer in load_model(cell.model).case_layers() if layer.cell_kind == cell.layer_kind]
    pairs = _ANY if cell.dtypes == "any" else _DTYPES[cell.dtypes]
    for layer, pair, page_size, q_len in product(layers, pairs, _PAGE_SIZES, _Q_LENS[cell.mode]):
        yield _shape(cell, layer, pair, page_size, q_len)


def _shape(cell: RequiredCell, layer: LayerGeometry, dtypes: Pair, page_size: int, q_len: int) -> KernelShape:
    return KernelShape(
        mode=cell.mode,
        q_dtype=dtypes[0],
        kv_dtype=dtypes[1],
        head_dim=layer.head_dim,
        num_qo_heads=layer.num_qo_heads,
        num_kv_heads=layer.num_kv_heads,
        page_size=page_size,
        kv_layout="HND",
        storage="apart",
        max_q_len=q_len,
        windowed=layer.window_left >= 0,
        soft_cap=False,
        sinks=layer.sinks,
        window_left=layer.window_left,
    )
