"""Questions: which layers of which cases are timed, for which candidate over which baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnconf.cases.case import Case, Layer, Paging
from attnconf.cases.models import load_model
from attnconf.running.bench.sizes import sized_requests

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from attnconf.cases.case import Mode, Storage
    from attnconf.cases.dtypes import KVDtype, QDtype
    from attnconf.cases.geometry import ModelGeometry

_PAGE_SIZE = 64


@dataclass(frozen=True)
class Place:
    """A kind of layer of a model in a mode, whatever the size."""

    model: str
    layer_kind: str
    mode: Mode


@dataclass(frozen=True)
class Question:
    """One layer of one case, the size of which ``load`` says in words, asked of ``candidate`` and ``baseline``."""

    case: Case
    layer: int
    load: str
    candidate: str
    baseline: str

    @property
    def text(self) -> str:
        """The question in words."""
        kind = self.case.layers[self.layer].cell_kind
        return f"{self.candidate} over {self.baseline}, {self.case.model} {kind} {self.case.mode}, {self.load}"


@dataclass(frozen=True)
class Shape:
    """What cases have beside their model and size: dtypes, degree of tensor parallelism, tokens of a page.

    ``storage`` interleaved lays the values of a page behind its keys: a layout that every kernel here reads as it is.
    Where K and V are apart, FMHA v2 copies pages, and its time has the copy in it, as its name says.
    """

    q_dtype: QDtype = "bfloat16"
    kv_dtype: KVDtype = "bfloat16"
    tp: int = 1
    page_size: int = _PAGE_SIZE
    storage: Storage = "interleaved"


def ask(  # noqa: PLR0913 - who, what, how large
    places: Sequence[Place], candidate: str, baselines: Sequence[str], shape: Shape, *, few: bool, seed: int
) -> list[Question]:
    """Return every question about ``places``: the sizes of each, the same case for all baselines.

    Raises ``InvalidInputError`` for a model that is not known, and ``ValueError`` for heads that ``tp`` does not
    divide.
    """
    found = []
    for place in places:
        model = load_model(place.model).shard(shape.tp)
        for case, layer, load in _cases(place, model, shape, few=few, seed=seed):
            found += [Question(case, layer, load, candidate, baseline) for baseline in baselines]
    return found


def _cases(
    place: Place, model: ModelGeometry, shape: Shape, *, few: bool, seed: int
) -> Iterator[tuple[Case, int, str]]:
    """Yield a case of the first layer of the place's kind, which is alone but for the owner of its KV."""
    layers = model.case_layers()
    chosen = next((one for one in layers if one.cell_kind == place.layer_kind), None)
    if chosen is None:
        return
    kept = [chosen] if chosen.kv_owner is None else [layers[chosen.kv_owner], chosen.model_copy(update={"kv_owner": 0})]
    for load, requests in sized_requests(place.mode, layers, few=few, seed=seed):
        case = Case(
            model=model.name,
            mode=place.mode,
            q_dtype=shape.q_dtype,
            kv_dtype=shape.kv_dtype,
            layers=tuple(Layer.model_validate(one.model_dump()) for one in kept),
            requests=requests,
            paging=Paging(page_size=shape.page_size, layout="HND", storage=shape.storage),
            seed=seed,
        )
        yield case, len(kept) - 1, load
