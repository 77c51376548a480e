"""The suite's spaces: for each family of tests and each model, the cases to draw from."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from attnconf.cases.drawing.covering import covering_shapes, model_shapes
from attnconf.cases.drawing.layers import free_layers, model_layers
from attnconf.cases.drawing.space import DTYPES, MODEL_DTYPES, MODES, PAGE_SIZES, RARE_FORMATS, VERIFY_LENS, Space, over
from attnconf.cases.models import CPU_QUERY_HEADS, FREE_MODEL, load_model
from attnconf.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnconf.cases.dtypes import Dtypes, KVDtype
    from attnconf.cases.geometry import ModelGeometry

Family = Literal["decode", "extend", "mixed", "verify", "windows", "shared_kv", "hybrid_pools", "free"]
FAMILIES: tuple[Family, ...] = get_args(Family)

ENGINE_PAGE_SIZES = (16, 32, 64, 128)
FEW_PAGE_SIZES = (16, 64)
BUILT_VERIFY_LENS = (2, 5, 8, 16)
"""Query lengths of mode verify where each of them costs a build: the shortest, usual ones, and two tiles of them."""
_LONG_REQUESTS = 2


def geometry_for(model: ModelGeometry, *, accelerated: bool) -> ModelGeometry:
    """Return the whole model for a GPU, and for a CPU a slice of its heads, in which each group is whole.

    Head dimensions, windows and redirection stay as they are, too.
    """
    return model if accelerated else model.slice(CPU_QUERY_HEADS)


def applies(family: Family, model: str) -> bool:
    """Return whether ``model`` has what ``family`` is about."""
    if family == "free" or model == FREE_MODEL:
        return family == "free" and model == FREE_MODEL
    layers = load_model(model).case_layers()
    if family in {"windows", "hybrid_pools"}:
        return any(layer.kind == "sliding" for layer in layers)
    if family == "shared_kv":
        return any(layer.kv_owner is not None for layer in layers)
    return True


def pairs_of(families: Sequence[str], models: Sequence[str]) -> tuple[tuple[Family, str], ...]:
    """Return the pairs of ``families`` and ``models`` that there are.

    Without a family that is every one that a model has, and without a model ``free`` stands for it. Raises
    ``InvalidInputError`` for an unknown one, and for one that none of the others goes with.
    """
    models = models or [FREE_MODEL]
    for name in families:
        _check_family(name)
    pairs = [(family, model) for model in models for family in FAMILIES if applies(family, model)]
    found = tuple(pair for pair in pairs if not families or pair[0] in families)
    for name in families:
        if all(family != name for family, _ in found):
            source, given = "--family", f"{name} of {', '.join(models)}"
            fitting = dict.fromkeys(family for family, _ in pairs)
            raise InvalidInputError(source, given=given, allowed=", ".join(fitting))
    return found


def space_of(  # noqa: PLR0913 - what is asked, where, and at which cost
    family: Family,
    model: str,
    *,
    accelerated: bool,
    max_kv_len: int,
    long_kv_len: int = 0,
    few_builds: bool = False,
    kv_dtype: KVDtype | None = None,
) -> Space:
    """Return the cases of ``family`` for ``model``: short ones, or with ``long_kv_len`` those of so many keys.

    On a GPU, where shapes are compiled, ``few_builds`` asks fewer of them. With a ``kv_dtype`` all have such KV. Raises
    ``InvalidInputError`` for an unknown family or model, and for a ``kv_dtype`` in which no model is served.
    """
    space = _space_of(
        family, model, accelerated=accelerated, max_kv_len=max_kv_len, few_builds=few_builds, kv_dtype=kv_dtype
    )
    if not long_kv_len:
        return space
    return replace(space, long_kv_len=long_kv_len, max_requests=min(space.max_requests, _LONG_REQUESTS))


def _space_of(  # noqa: PLR0913 - as above
    family: Family, model: str, *, accelerated: bool, max_kv_len: int, few_builds: bool, kv_dtype: KVDtype | None
) -> Space:
    _check_family(family)
    stored = _stored(DTYPES if family == "free" else MODEL_DTYPES, kv_dtype, model)
    if family == "free":
        if accelerated:
            return Space(
                name="free",
                layers=free_layers(),
                **stored,
                shapes=covering_shapes(few=few_builds, kv_dtype=kv_dtype),
                max_kv_len=max_kv_len,
                verify_lens=BUILT_VERIFY_LENS,
                extremes=True,
            )
        return Space(name="free", layers=free_layers(), **stored, max_kv_len=min(max_kv_len, 300), extremes=True)
    geometry = geometry_for(load_model(model), accelerated=accelerated)
    layers = geometry.case_layers()
    own = family == "windows"
    built = FEW_PAGE_SIZES if few_builds else ENGINE_PAGE_SIZES
    if own:
        layers = tuple(layer for layer in layers if layer.kind == "sliding" and layer.kv_owner is None)
    return Space(
        name=family,
        layers=model_layers(layers),
        model=geometry.name,
        modes=tuple(mode for mode in MODES if mode == family) or MODES,
        **stored,
        page_sizes=PAGE_SIZES if own else ENGINE_PAGE_SIZES,
        max_requests=2 if own else 3,
        max_kv_len=max_kv_len,
        hybrid={"hybrid_pools": True, "windows": False}.get(family),
        shapes=model_shapes(layers, built, stored["dtypes"]) if accelerated else None,
        verify_lens=BUILT_VERIFY_LENS if accelerated else VERIFY_LENS,
    )


def _stored(dtypes: tuple[Dtypes, ...], kv_dtype: KVDtype | None, model: str) -> dict[str, Any]:
    """Return the dtypes of a space, and the formats that stand in for 8-bit KV in it."""
    if kv_dtype is None:
        return {"dtypes": dtypes, "formats": RARE_FORMATS}
    found = over(kv_dtype, dtypes)
    if not found:
        allowed = ", ".join(dict.fromkeys([*(one.kv for one in dtypes), *RARE_FORMATS]))
        source = f"the kv_dtype of {model}"
        raise InvalidInputError(source, given=kv_dtype, allowed=allowed)
    return {"dtypes": found, "formats": ()}


def _check_family(name: str) -> None:
    if name not in FAMILIES:
        source = "family"
        raise InvalidInputError(source, given=repr(name), allowed=", ".join(FAMILIES))
