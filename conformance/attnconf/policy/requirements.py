"""Requirements: the cells that must be proven before a backend may be a default."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from attnconf.cases.case import Mode
from attnconf.cases.features import Feature
from attnconf.cases.geometry import CellKind
from attnconf.cases.models import is_known, load_model, shipped_models
from attnconf.fields import quote
from attnconf.values import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from attnconf.policy.question import Side

Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[\w.@:-]+$")]
MOST = 200
"""The most items of a list that a policy's author writes."""

Names = Annotated[tuple[Name, ...], Field(min_length=1, max_length=MOST)]
AtLeast = Annotated[int, Field(ge=1, le=10**6, strict=True)]
Sentence = Annotated[str, Field(min_length=1, max_length=500, pattern=r"\S")]
Dtypes = Literal[
    "any",
    "float32",
    "float16",
    "bfloat16",
    "float16+float8_e4m3fn",
    "bfloat16+float8_e4m3fn",
    "float16+float8_e5m2",
    "bfloat16+float8_e5m2",
    "float16+nvfp4",
    "bfloat16+nvfp4",
    "float16+nvfp4->float8_e4m3fn",
    "bfloat16+nvfp4->float8_e4m3fn",
    "float8_e4m3fn+nvfp4",
    "float8_e4m3fn+nvfp4->float16",
    "float8_e4m3fn+nvfp4->bfloat16",
    "float16+float8_e4m3fn->float8_e4m3fn",
    "bfloat16+float8_e4m3fn->float8_e4m3fn",
    "float8_e4m3fn->float16",
    "float8_e4m3fn->bfloat16",
    "float8_e4m3fn",
]
"""The dtypes of a cell, as in ``cases.dtypes``: one for queries and KV, or ``queries+KV``, and ``->answer`` where that
is another than the query's; ``any`` counts the cells of all dtypes together."""


_IMAGE_MODES: tuple[Mode, ...] = ("extend", "mixed")
"""The modes in which the tokens of an image are new."""


def side_of(mode: Mode) -> Side:
    """Return the side that runs a mode: the decode backend runs decode steps, the prefill backend all others."""
    return "decode" if mode == "decode" else "prefill"


class RequiredCell(Value):
    """One cell that must be proven, on any shard of its model.

    At least ``executed`` of its layers must have passed, and each feature of ``effective`` must have mattered in at
    least ``effective_cases`` of them. ``unsupported`` is the reason why the backend may declare the cell unsupported
    instead; it is empty if the backend may not.
    """

    backend: str
    model: str
    layer_kind: CellKind
    mode: Mode
    dtypes: Dtypes = "any"
    executed: int
    effective: tuple[str, ...]  # any name, unlike in a policy: the plan of another version may have others
    effective_cases: int = 1
    unsupported: str = ""

    @property
    def id(self) -> str:
        """The name of the cell without its demands: ``triton/gemma4-12b/full/decode/any``."""
        return f"{self.backend}/{self.model}/{self.layer_kind}/{self.mode}/{self.dtypes}"

    @property
    def text(self) -> str:
        """The cell in words."""
        dtypes = "" if self.dtypes == "any" else f" {self.dtypes}"
        return f"{self.backend} {self.model} {self.layer_kind} {self.mode}{dtypes}"

    def with_spans(self) -> RequiredCell:
        """Return the cell with spans among its effective features, where its layers follow them.

        New tokens alone make spans: a decode is causal whatever the images, and a verify step has none.
        """
        follows = any(layer.spans for layer in load_model(self.model).layers if layer.cell_kind == self.layer_kind)
        if not follows or self.mode not in _IMAGE_MODES:
            return self
        return self.model_copy(update={"effective": tuple(dict.fromkeys((*self.effective, "spans")))})

    def with_trees(self) -> RequiredCell:
        """Return the cell with trees among its effective features, where it is one of verify steps."""
        if self.mode != "verify":
            return self
        return self.model_copy(update={"effective": tuple(dict.fromkeys((*self.effective, "tree")))})

    def strictest(self, other: RequiredCell) -> RequiredCell:
        """Return the cell with the stricter of both demands."""
        return self.model_copy(
            update={
                "executed": max(self.executed, other.executed),
                "effective": tuple(dict.fromkeys((*self.effective, *other.effective))),
                "effective_cases": max(self.effective_cases, other.effective_cases),
                "unsupported": self.unsupported if other.unsupported else "",
            }
        )


class Selection(Value):
    """Some cells of a requirement; an empty list selects all."""

    models: tuple[Name, ...] = ()
    layer_kinds: tuple[CellKind, ...] = ()
    modes: tuple[Mode, ...] = ()
    dtypes: tuple[Dtypes, ...] = ()

    def has(self, cell: RequiredCell) -> bool:
        """Return whether it selects ``cell``."""
        pairs = (
            (self.models, cell.model),
            (self.layer_kinds, cell.layer_kind),
            (self.modes, cell.mode),
            (self.dtypes, cell.dtypes),
        )
        return all(not chosen or value in chosen for chosen, value in pairs)


class AllowedUnsupported(Selection):
    """The cells that a backend may declare unsupported, and why that does no harm."""

    backends: tuple[Name, ...] = ()
    reason: Sentence


class Requirement(Value):
    """The cells that must be proven for the backend of these ``architectures``, whichever backend it is.

    It applies to the choices of its ``rules``, or of all rules without any. With an ``engine`` it requires that
    engine's own backend, ``sglang:triton`` for ``triton``: the kernels with the engine's metadata. There is a cell for
    every model, mode and dtype, and for each of the ``layer_kinds`` that the model has. ``executed``, ``effective`` (by
    layer kind) and ``effective_cases`` are as in ``RequiredCell``; ``allow_unsupported`` lists the cells that the
    backend may declare unsupported instead.
    """

    architectures: Names
    rules: tuple[Name, ...] = ()
    engine: Name | None = None
    models: Names
    layer_kinds: Annotated[tuple[CellKind, ...], Field(min_length=1)]
    modes: Annotated[tuple[Mode, ...], Field(min_length=1)]
    dtypes: Annotated[tuple[Dtypes, ...], Field(min_length=1)] = ("any",)
    executed: AtLeast = 1
    effective: dict[CellKind, tuple[Feature, ...]] = Field(default_factory=dict)
    effective_cases: AtLeast = 1
    allow_unsupported: Annotated[tuple[AllowedUnsupported, ...], Field(max_length=MOST)] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        unknown = [name for name in self.models if not is_known(name)]
        if unknown:
            known = f"{', '.join(shipped_models())}, or paths of a config.json beside the policy"
            raise ValueError(f"models of {known}, not {quote(unknown[0])}")
        return self

    @property
    def size(self) -> int:
        """The most cells that it can ask for, over all of its architectures."""
        sides = (self.architectures, self.models, self.layer_kinds, self.modes, self.dtypes)
        return math.prod(len(side) for side in sides)

    def cells(self, *, prefill: str, decode: str) -> Iterator[RequiredCell]:
        """Yield the cells for these backends, or for the engine's backends of these names."""
        owner = "" if self.engine is None else f"{self.engine}:"
        for model in self.models:
            kinds = load_model(model).cell_kinds
            for kind in (kind for kind in self.layer_kinds if kind in kinds):
                for mode in self.modes:
                    for dtypes in self.dtypes:
                        cell = RequiredCell(
                            backend=owner + (decode if side_of(mode) == "decode" else prefill),
                            model=model,
                            layer_kind=kind,
                            mode=mode,
                            dtypes=dtypes,
                            executed=self.executed,
                            effective=self.effective.get(kind, ()),
                            effective_cases=self.effective_cases,
                        )
                        yield cell.model_copy(update={"unsupported": self._why_unsupported(cell)})

    def _why_unsupported(self, cell: RequiredCell) -> str:
        allowed = (
            one
            for one in self.allow_unsupported
            if one.has(cell) and (not one.backends or cell.backend in one.backends)
        )
        return next((one.reason for one in allowed), "")


def merged(cells: Iterable[RequiredCell]) -> tuple[RequiredCell, ...]:
    """Return one cell per id with the strictest demands, in order of appearance."""
    found: dict[str, RequiredCell] = {}
    for cell in cells:
        found[cell.id] = found[cell.id].strictest(cell) if cell.id in found else cell
    return tuple(found.values())


def grouped(cells: Iterable[RequiredCell]) -> list[str]:
    """Return one line per backend and model, with its layer kinds and modes."""
    groups: dict[tuple[str, str], list[RequiredCell]] = {}
    for cell in cells:
        groups.setdefault((cell.backend, cell.model), []).append(cell)
    return [
        f"{backend} {model}: {', '.join(dict.fromkeys(cell.layer_kind for cell in some))}"
        f" in {', '.join(dict.fromkeys(cell.mode for cell in some))}"
        for (backend, model), some in groups.items()
    ]
