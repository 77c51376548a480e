"""Cells: the counts that evidence consists of, and how results and receipts add up to them."""

from __future__ import annotations

import math
from itertools import zip_longest
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field, model_validator

from attnconf.backends.protocol import CONTRACT, EvidenceKind, shown_name
from attnconf.cases.case import Mode
from attnconf.cases.dtypes import Dtypes, KVDtype, OutDtype, QDtype
from attnconf.cases.geometry import CellKind
from attnconf.cases.models import credited_model
from attnconf.judging.result import Outcome
from attnconf.judging.units import EDGES, Units, unit_bin
from attnconf.values import Value
from attnconf.wording import counted, cut

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from attnconf.judging.result import CaseResult, LayerResult

Count = Annotated[int, Field(ge=0, strict=True)]

_LONGEST_REASON = 600


class CellKey(Value):
    """What a cell counts; ``model`` is the geometry's name with its shard suffix, as in ``gemma4-e2b@tp4``.

    ``evidence`` says whether the kernels of ``backend`` ran, or its documented contract in their place. ``out_dtype``
    is None where the answer has the query's dtype.
    """

    backend: str
    evidence: EvidenceKind = "kernel"
    model: str
    layer_kind: CellKind
    mode: Mode
    q_dtype: QDtype
    kv_dtype: KVDtype
    out_dtype: OutDtype | None = None

    @property
    def key(self) -> tuple[str, ...]:
        """The identity of the cell, which also orders cells."""
        return (self.shown_backend, self.model, self.layer_kind, self.mode, *self.dtypes)

    @property
    def dtypes(self) -> Dtypes:
        """The dtypes of queries, KV and answer."""
        return Dtypes(self.q_dtype, self.kv_dtype, self.out_dtype or self.q_dtype)

    @property
    def shown_backend(self) -> str:
        """The backend as a reader sees it."""
        return shown_name(self.backend, self.evidence)


class Cell(CellKey):
    """How the layers of one kind, in one mode and dtype of one model, ended on one backend.

    Every count is of layers of cases. ``executed`` is what was judged: ``passed`` + ``failed`` + ``contract_only``.
    ``features`` are those whose absence would have moved the answer of an executed layer by ten units or more.
    ``effective`` counts those layers by feature; it is empty in receipts that are older than this count.
    ``worst_units`` is the largest error in units of the bound, ``histogram`` counts the layers by their own largest one
    in the bins of ``EDGES`` and one above them; it is empty in receipts of the first schema. ``reasons`` counts
    ``"outcome: reason"`` of the layers that were not executed.
    """

    features: tuple[str, ...]
    executed: Count
    passed: Count
    failed: Count
    unsupported: Count
    refused: Count
    crashed: Count
    oom: Count
    not_run: Count
    contract_only: Count
    worst_units: Units
    reasons: dict[str, Count]
    histogram: tuple[Count, ...] = ()
    effective: dict[str, Count] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.executed != self.passed + self.failed + self.contract_only:
            message = f"executed is {self.executed}, but passed + failed + contract_only is not"
            raise ValueError(message)
        if self.backend.endswith(CONTRACT):
            message = f"backend ends in {CONTRACT}, which evidence says"
            raise ValueError(message)
        other = self.contract_only if self.evidence == "kernel" else self.passed
        if other:
            verb = "is" if other == 1 else "are"
            what = "contract_only" if self.evidence == "kernel" else "passed"
            message = f"evidence is {self.evidence}, but {counted(other, 'layer')} {verb} counted as {what}"
            raise ValueError(message)
        if self.worst_units is not None and math.isnan(self.worst_units):
            message = 'worst_units is NaN; an output that is not finite is "inf"'
            raise ValueError(message)
        if self.histogram and (len(self.histogram) != len(EDGES) + 1 or sum(self.histogram) > self.executed):
            message = f"histogram has no {len(EDGES) + 1} bins, or counts more than the {self.executed} executed layers"
            raise ValueError(message)
        if list(self.features) != sorted(set(self.features)):
            message = "features are not sorted and distinct"
            raise ValueError(message)
        if self.effective and set(self.effective) != set(self.features):
            message = "effective counts other features than those of features"
            raise ValueError(message)
        if any(count > self.executed for count in self.effective.values()):
            message = f"effective counts more layers than the {self.executed} executed"
            raise ValueError(message)
        return self

    @property
    def broken(self) -> int:
        """Layers that ended in a failing outcome."""
        return self.failed + self.refused + self.crashed + self.oom

    @property
    def is_vacuous(self) -> bool:
        """Whether layers were judged, and no feature mattered in any: no mistake would have shown."""
        return self.executed > 0 and not self.features and not self.broken

    def effect_of(self, feature: str) -> int:
        """Return in how many layers ``feature`` mattered; 1 where it did and nobody counted."""
        if feature in self.effective:
            return self.effective[feature]
        return int(feature in self.features and self.executed > 0)

    def __add__(self, other: Cell) -> Cell:
        """Return both counts as one cell. Raises ``ValueError`` when they count different things."""
        if self.key != other.key:
            message = f"cells of different keys do not add: {self.key} and {other.key}"
            raise ValueError(message)
        reasons = {
            reason: self.reasons.get(reason, 0) + other.reasons.get(reason, 0)
            for reason in sorted({*self.reasons, *other.reasons})
        }
        features = tuple(sorted({*self.features, *other.features}))
        units = [cell.worst_units for cell in (self, other) if cell.worst_units is not None]
        return self.model_copy(
            update={
                "features": features,
                "worst_units": max(units, default=None),
                "reasons": reasons,
                "histogram": tuple(a + b for a, b in zip_longest(self.histogram, other.histogram, fillvalue=0)),
                "effective": {name: self.effect_of(name) + other.effect_of(name) for name in features},
                **{name: getattr(self, name) + getattr(other, name) for name in _COUNTS},
            }
        )


_COUNTS = ("executed", *(outcome.value for outcome in Outcome))


def merge_cells(a: Iterable[Cell], b: Iterable[Cell]) -> list[Cell]:
    """Return the cells of both, those of one key added, sorted by key: commutative and associative."""
    merged: dict[tuple[str, ...], Cell] = {}
    for cells in (a, b):
        for cell in cells:
            seen = merged.get(cell.key)
            merged[cell.key] = cell if seen is None else seen + cell
    return [merged[key] for key in sorted(merged)]


def tally(results: Iterable[CaseResult]) -> list[Cell]:
    """Count results: one cell for each backend, model, layer kind, mode and dtypes that occur, sorted by key."""
    return merge_cells(_cells(results), ())


def _cells(results: Iterable[CaseResult]) -> Iterator[Cell]:
    for result in results:
        case = result.case
        model = credited_model(case)
        for layer in result.layers:
            yield _cell(
                layer,
                backend=result.backend,
                evidence=result.evidence,
                model=model,
                layer_kind=case.layers[layer.layer].cell_kind,
                mode=case.mode,
                q_dtype=case.q_dtype,
                kv_dtype=case.kv_dtype,
                out_dtype=case.out_dtype,
            )


def _cell(layer: LayerResult, **key: Any) -> Cell:  # noqa: ANN401 - the fields of CellKey, which validates them
    executed = layer.outcome.is_executed
    counts: dict[str, Any] = {name: int(name == layer.outcome.value) for name in _COUNTS}
    counts["executed"] = int(executed)
    units = layer.worst_units
    features = tuple(sorted(set(layer.effective))) if executed else ()
    return Cell(
        **key,
        **counts,
        features=features,
        effective=dict.fromkeys(features, 1),
        worst_units=math.inf if units is not None and math.isnan(units) else units,
        reasons={} if executed else {_reason(layer): 1},
        histogram=() if units is None or not executed else _single(unit_bin(units)),
    )


def _single(index: int) -> tuple[int, ...]:
    return tuple(int(index == i) for i in range(len(EDGES) + 1))


def _reason(layer: LayerResult) -> str:
    line = (layer.reason.splitlines() or ["no reason given"])[0]
    return f"{layer.outcome.value}: {cut(line, _LONGEST_REASON)}"
