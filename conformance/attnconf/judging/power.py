"""Power: the mistakes that a case would expose, in units of the bound, and why it would not expose the others."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from attnconf.backends.protocol import declared
from attnconf.cases.shape import kernel_shape
from attnconf.judging.effects import effect, effective_features
from attnconf.judging.mistakes import MISTAKES
from attnconf.judging.surroundings import Surroundings
from attnconf.judging.units import Units
from attnconf.precision import EFFECTIVE_UNITS, NumericsProfile, usual_profile
from attnconf.values import Value

if TYPE_CHECKING:
    from attnconf.backends.protocol import Declares
    from attnconf.judging.mistakes import Mistake
    from attnconf.judging.posed import PosedCase
    from attnconf.platforms import Platform

NO_ROW = "no query row"
NO_DIFFERENCE = "makes no difference here"
NO_LSE = "the backend returns no LSE"
BELOW = f"below {EFFECTIVE_UNITS:.0f} units"


class Exposure(Value):
    """How far one mistake would move the answer of one request, in units of the bound.

    ``units`` is None where the mistake does not apply. ``hidden`` says why it would not show; it is empty if it would.
    ``claimed``: the feature is covered only where this mistake shows.
    """

    mistake: str
    feature: str
    clause: int
    claimed: bool
    units: Units = None
    hidden: str = ""


class RequestPower(Value):
    """Every known mistake on one request of a layer, in the order of the catalogue."""

    request: int
    exposures: tuple[Exposure, ...]


class LayerPower(Value):
    """The power of one layer of a case, for a kernel of ``profile``.

    ``features`` are the features with a claimed mistake that makes a difference to some request; ``effective`` are
    those whose claimed mistakes all show. ``weakest`` is the claimed mistake with the smallest maximum over the
    requests, None without any. A layer that the backend declares unsupported has that reason, and no requests.
    """

    layer: int
    layer_kind: str
    profile: str
    features: tuple[str, ...] = ()
    effective: tuple[str, ...] = ()
    weakest: Exposure | None = None
    requests: tuple[RequestPower, ...] = ()
    unsupported: str = ""

    @property
    def strongest(self) -> tuple[Exposure, ...]:
        """Each mistake on the request where it shows most, in the order of the catalogue."""
        columns = zip(*(request.exposures for request in self.requests), strict=True)
        return tuple(max(column, key=_size) for column in columns)


class CasePower(Value):
    """The power of one case. ``backend`` is empty for a generic kernel with P in the query's dtype."""

    schema_id: Literal["attnconf.power/1"] = Field(default="attnconf.power/1", alias="schema")
    name: str
    case_id: str
    backend: str
    layers: tuple[LayerPower, ...]


def layer_power(
    posed: PosedCase, layer: int, profile: NumericsProfile | None = None, *, lse: bool = True
) -> LayerPower:
    """Return which mistakes ``layer`` of a case exposes in a kernel of ``profile`` (P in the query's dtype).

    With ``lse`` false the kernel returns no LSE. Each mistake is evaluated over all rows in float64, so a long case
    takes as many attentions as there are mistakes.
    """
    kernel = profile or usual_profile(posed.case.q_dtype)
    requests = tuple(
        RequestPower(request=index, exposures=_exposures(posed, layer, index, kernel, lse=lse))
        for index in range(len(posed.case.requests))
    )
    found = LayerPower(
        layer=layer,
        layer_kind=posed.case.layers[layer].cell_kind,
        profile=kernel.text,
        requests=requests,
    )
    claimed = [one for one in found.strongest if one.claimed and one.units is not None]
    return found.model_copy(
        update={
            "features": tuple(sorted({one.feature for one in claimed})),
            "effective": effective_features({one.mistake: _size(one) for one in claimed}),
            "weakest": min(claimed, key=_size, default=None),
        }
    )


def case_power(name: str, posed: PosedCase, on: tuple[Declares, Platform] | None = None) -> CasePower:
    """Return the power of a case in units of the bound of a backend on a platform. No kernel runs."""
    layers = range(len(posed.case.layers))
    if on is None:
        powers = tuple(layer_power(posed, layer) for layer in layers)
    else:
        powers = tuple(_on_backend(posed, layer, *on) for layer in layers)
    shown = "" if on is None else on[0].name
    return CasePower(name=name, case_id=posed.case.id, backend=shown, layers=powers)


def _on_backend(posed: PosedCase, layer: int, backend: Declares, platform: Platform) -> LayerPower:
    shape = kernel_shape(posed.case, layer)
    surroundings = Surroundings()
    with surroundings.of_torch():
        refusal = declared(backend, shape, platform)
    if refusal is not None:
        kind = posed.case.layers[layer].cell_kind
        return LayerPower(layer=layer, layer_kind=kind, profile="", unsupported=refusal.reason)
    with surroundings.of_torch():
        profile = backend.numerics(shape)
    return layer_power(posed, layer, profile, lse=backend.promises.lse is not None)


def _exposures(
    posed: PosedCase, layer: int, request: int, profile: NumericsProfile, *, lse: bool
) -> tuple[Exposure, ...]:
    scene = posed.scene(layer, request)
    expected = posed.answer(layer, request, profile)
    found = []
    for mistake in MISTAKES:
        if expected.answer.out.numel() == 0:
            found.append(_exposure(mistake, None, NO_ROW))
        elif mistake.feature == "lse" and not lse:
            found.append(_exposure(mistake, None, NO_LSE))
        else:
            mistaken = mistake.apply(scene)
            units = None if mistaken is None else effect(mistaken, expected)
            hidden = NO_DIFFERENCE if units is None else (BELOW if units < EFFECTIVE_UNITS else "")
            found.append(_exposure(mistake, units, hidden))
    return tuple(found)


def _exposure(mistake: Mistake, units: float | None, hidden: str) -> Exposure:
    return Exposure(
        mistake=mistake.name,
        feature=mistake.feature,
        clause=mistake.clause,
        claimed=mistake.claimed,
        units=units,
        hidden=hidden,
    )


def _size(exposure: Exposure) -> float:
    return -math.inf if exposure.units is None else exposure.units
