"""``attnconf power``: which mistakes recorded cases would expose, and by how many units.

The text has a table of mistakes by request for each layer, in units of the bound.
"""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from attnconf.cli.arguments import Commands, make_session
from attnconf.files import refuse_unwritable, write_text

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from attnconf.cli.console import Console
    from attnconf.judging.power import CasePower, Exposure, LayerPower

_NAME, _FEATURE, _UNITS = 22, 15, 10
"""Widths of the table's columns."""


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("power", help="which mistakes a recorded case would expose, and by how many units")
    parser.add_argument("path", metavar="CASE.json", help="a saved case, a file of vectors, or a folder of either")
    parser.add_argument(
        "--backend", metavar="B", help="in units of this backend's bound (a kernel with P in q's dtype)"
    )
    parser.add_argument("--json", metavar="FILE", help="write every figure as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Print the power of each case. Raises ``InvalidInputError`` for what is no case, or too large a one."""
    import torch

    from attnconf.cases.vectors import empty_files, read_cases
    from attnconf.judging.posed import PosedCase
    from attnconf.judging.power import case_power
    from attnconf.running.processes.settled import settle

    cases = read_cases(Path(arguments.path))
    if arguments.json is not None:
        refuse_unwritable(Path(arguments.json))
    for file in empty_files(Path(arguments.path)):
        console.complain(f"attnconf: {file} is empty, and left out")
    session = make_session()
    for name, case in cases.items():
        session.refuse_too_large(case, name, on_cpu=True)
    settle()
    powers = []
    with closing(session):
        on = None if arguments.backend is None else (session.asked(arguments.backend), session.platform)
        for name, case in cases.items():
            powers.append(case_power(name, PosedCase(case, torch.device("cpu")), on))
            for line in power_lines(powers[-1]):
                console.say(line)
    if arguments.json is not None:
        write_text(Path(arguments.json), json.dumps([one.to_data() for one in powers], indent=1) + "\n")
    return 0


def power_lines(power: CasePower) -> Iterator[str]:
    """Yield what one case exposes and what it does not. An effect that would not show stands in parentheses."""
    yield f"case {power.case_id} ({power.name})"
    for layer in power.layers:
        yield from _layer(layer, power.backend or "a kernel")


def _layer(layer: LayerPower, who: str) -> Iterator[str]:
    from attnconf.judging.power import BELOW, NO_DIFFERENCE, NO_ROW

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
    words = {NO_DIFFERENCE: "not applicable", NO_ROW: "no request has a query row"}
    for why, names in sorted(hidden.items(), key=lambda item: item[0] != BELOW):
        yield f"    not exposed, {words.get(why, why)}: {', '.join(names)}"


def _claim(exposure: Exposure) -> str:
    return exposure.feature if exposure.claimed else f"({exposure.feature})"


def _units(exposure: Exposure) -> str:
    from attnconf.judging.units import units_text

    if exposure.units is None:
        return "-"
    text = units_text(exposure.units)
    return f"({text})" if exposure.hidden else text
