"""The power of cases as text: for each layer a table of mistakes by request, in units of the bound."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnconf.errors import printable
from attnconf.judging.power import BELOW, NO_DIFFERENCE, NO_ROW
from attnconf.report.failure import units_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from attnconf.judging.power import CasePower, Exposure, LayerPower

_NAME, _FEATURE, _UNITS = 22, 15, 10


def power_lines(power: CasePower) -> Iterator[str]:
    """Yield what one case exposes and what it does not. An effect that would not show stands in parentheses."""
    yield f"case {power.case_id} ({printable(power.name)})"
    for layer in power.layers:
        yield from _layer(layer, power.backend or "a kernel")


def _layer(layer: LayerPower, who: str) -> Iterator[str]:
    if layer.unsupported:
        yield f"  layer {layer.layer} {layer.layer_kind}: {who} declares it unsupported: {layer.unsupported}"
        return
    yield f"  layer {layer.layer} {layer.layer_kind}, in units of the bound of {who} with {layer.profile}"
    yield f"    effective: {', '.join(layer.effective) or 'nothing'}"
    blind = [feature for feature in layer.features if feature not in layer.effective]
    if blind:
        yield f"    claimed, but not effective: {', '.join(blind)}"
    if layer.weakest is not None:
        weakest = layer.weakest
        yield f"    weakest claim: {weakest.mistake} ({weakest.feature}), {_units(weakest)}"
    heads = "".join(f"req. {one.request}".rjust(_UNITS) for one in layer.requests)
    yield f"    {'mistake'.ljust(_NAME)}{'feature'.ljust(_FEATURE)}{heads}"
    hidden: dict[str, list[str]] = {}
    for index, best in enumerate(layer.strongest):
        if best.hidden:
            hidden.setdefault(best.hidden, []).append(best.mistake)
        if best.units is not None:
            cells = "".join(_units(one.exposures[index]).rjust(_UNITS) for one in layer.requests)
            yield f"    {best.mistake.ljust(_NAME)}{_claim(best).ljust(_FEATURE)}{cells}"
    for why, names in sorted(hidden.items(), key=lambda item: item[0] != BELOW):
        yield f"    not exposed, {_WHY.get(why, why)}: {', '.join(names)}"


_WHY = {BELOW: BELOW, NO_DIFFERENCE: "not applicable", NO_ROW: "no request has a query row"}


def _claim(exposure: Exposure) -> str:
    return exposure.feature if exposure.claimed else f"({exposure.feature})"


def _units(exposure: Exposure) -> str:
    if exposure.units is None:
        return "-"
    text = units_text(exposure.units)
    return f"({text})" if exposure.hidden else text
