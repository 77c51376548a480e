"""Listed: what FlashInfer's list of precompiled kernels says of cells; no evidence that any of them is right.

It is kept beside the cells of a receipt and never among them, so no proof and no count can take it for a run. A
required cell whose kernel is in no list can be executed nowhere, which is said before anybody rents a GPU.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Annotated, Literal, Self, cast

from pydantic import Field, model_validator

from attnconf.backends.flashinfer.package import library_version
from attnconf.backends.flashinfer.trtllm_gen import shapes
from attnconf.backends.flashinfer.trtllm_gen.releases import release_of
from attnconf.cases.case import Mode
from attnconf.cases.drawing.space import MODEL_DTYPES
from attnconf.cases.dtypes import FP8, Dtypes, KVDtype, OutDtype, QDtype, read_dtypes
from attnconf.cases.geometry import CellKind, LayerGeometry
from attnconf.cases.models import load_model
from attnconf.cases.shape import KernelShape
from attnconf.values import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from attnconf.platforms import Platform
    from attnconf.policy.requirements import RequiredCell

LISTED_BACKENDS = frozenset({"trtllm_mha"})
"""Backends whose kernels on the SM100 family are those of the list, with the dtypes of the case."""

_PAGE_SIZES = (16, 32, 64, 128, 256, 512, 1024)
_Q_LENS: dict[Mode, tuple[int, ...]] = {"decode": (1,), "verify": (2, 3, 4, 8), "extend": (24,), "mixed": (24,)}
_ALL_DTYPES = (*MODEL_DTYPES, Dtypes(FP8, FP8, "float16"), Dtypes(FP8, FP8, FP8))
_SM100 = (10, 0)


class ListedCell(Value):
    """What the list of one release says of the launches of one cell, over page sizes, lengths and numbers of requests.

    ``sm`` is ``"10.0"`` or ``"10.3"``, ``flashinfer`` the release, ``kernel_list`` the SHA-256 of its list. ``kernels``
    counts the distinct kernels in which they can end; where it is 0, ``missing`` says which is looked up in vain.
    """

    evidence: Literal["listed"] = "listed"
    backend: str
    model: str
    layer_kind: CellKind
    mode: Mode
    q_dtype: QDtype
    kv_dtype: KVDtype
    out_dtype: OutDtype | None = None
    sm: Annotated[str, Field(pattern=r"^10\.\d$")]
    flashinfer: str
    kernel_list: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    kernels: Annotated[int, Field(ge=0, strict=True)]
    missing: Annotated[str, Field(max_length=600)] = ""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if bool(self.kernels) is bool(self.missing):
            message = f"kernels is {self.kernels}, and missing is {'given' if self.missing else 'empty'}"
            raise ValueError(message)
        return self


def listed_cells(backends: Iterable[str], models: Iterable[str], platform: Platform) -> tuple[ListedCell, ...]:
    """Return what the list says of each cell of ``models`` for those of ``backends`` that it is about.

    Asked for the machine's own compute capability in the SM100 family, and elsewhere for SM 10.0, which the documented
    contract stands for. Empty where nothing is known of the release.
    """
    where = platform if platform.sm is not None and platform.sm[0] == _SM100[0] else _on_sm100(platform)
    version = library_version(where)
    release = None if version is None else release_of(version)
    if release is None or not shapes.is_known(where):
        return ()
    found = []
    for backend, model in product(sorted(LISTED_BACKENDS & set(backends)), models):
        layers = {(layer.cell_kind, layer.head_dim): layer for layer in load_model(model).case_layers()}
        for layer, mode, dtypes in product(layers.values(), _Q_LENS, _ALL_DTYPES):
            asked = tuple(_shapes((layer,), (dtypes,), mode))
            names = frozenset().union(*(shapes.names(shape, where) for shape in asked))
            found.append(
                ListedCell(
                    backend=backend,
                    model=model,
                    layer_kind=cast("CellKind", layer.cell_kind),
                    mode=mode,
                    q_dtype=dtypes.q,
                    kv_dtype=dtypes.kv,
                    out_dtype=None if dtypes.out == dtypes.q else dtypes.out,
                    sm=where.sm_text,
                    flashinfer=str(version),
                    kernel_list=release.kernels.header,
                    kernels=len(names),
                    missing="" if names else shapes.why_absent(asked[0], where) or "no kernel",
                )
            )
    return tuple(found)


def why_unlisted(cell: RequiredCell, platform: Platform) -> str:
    """Return why no launch of ``cell`` has a kernel, with the first missing key; empty where one has, or may."""
    if cell.backend not in LISTED_BACKENDS or cell.unsupported or not shapes.is_known(platform):
        return ""
    layers = [layer for layer in load_model(cell.model).case_layers() if layer.cell_kind == cell.layer_kind]
    first = ""
    for shape in _shapes(layers, _dtypes_of(cell.dtypes), cell.mode):
        reason = shapes.why_absent(shape, platform)
        if reason is None:
            return ""
        first = first or reason
    return first


def _on_sm100(platform: Platform) -> Platform:
    return platform.model_copy(update={"sm": _SM100, "simulated": True})


def _dtypes_of(word: str) -> tuple[Dtypes, ...]:
    """Return the dtypes that a requirement's word stands for."""
    return _ALL_DTYPES if word == "any" else (read_dtypes(word),)


def _shapes(layers: Iterable[LayerGeometry], dtypes: Iterable[Dtypes], mode: Mode) -> Iterator[KernelShape]:
    """Yield every shape that a case can have, as far as the list tells shapes apart."""
    for layer, stored, page_size, q_len in product(layers, dtypes, _PAGE_SIZES, _Q_LENS[mode]):
        yield KernelShape(
            mode=mode,
            q_dtype=stored.q,
            kv_dtype=stored.kv,
            out_dtype=stored.out,
            head_dim=layer.head_dim,
            head_dim_v=layer.value_dim,
            num_qo_heads=layer.num_qo_heads,
            num_kv_heads=layer.num_kv_heads,
            page_size=page_size,
            kv_layout="HND",
            storage="apart",
            max_q_len=q_len,
            windowed=layer.window_left >= 0,
            spans=False,
            bidirectional=layer.bidirectional and q_len > 1,
            head_scales=False,
            ragged=False,
            tree=False,
            chunked=layer.chunk_size is not None,
            soft_cap=False,
            sinks=layer.sinks,
            window_left=layer.window_left,
        )
