"""What judging kinds of cases costs, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnconf.speeds.measured import Measured


def speed_lines(found: Sequence[Measured]) -> list[str]:
    """Return the measurements as a table of at most 100 columns."""
    lines = [f"{'kind of case':<38}{'model':<12}{'wall':>8}{'busy':>8}{'floor':>8}{'factor':>8}{'layers':>8}"]
    for one in found:
        busy = "-" if one.busy is None else f"{one.busy:.3g}"
        factor = "-" if one.factor is None else f"{one.factor:.3g}"
        lines.append(
            f"{one.kind:<38}{one.model:<12}{one.wall:>8.3g}{busy:>8}{one.floor:>8.3g}{factor:>8}{one.layers:>8}"
        )
    return lines
