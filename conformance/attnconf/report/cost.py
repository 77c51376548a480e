"""What judging a kind of case costs: its measurement beside its floor, and as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnconf.values import Value

if TYPE_CHECKING:
    from collections.abc import Sequence


class Measured(Value):
    """What one kind of case costs, in seconds; ``layers`` are those that were judged.

    ``busy`` is the GPU's time in kernels and copies, None on a CPU. ``kernels``, ``answers`` and ``inputs`` are the
    terms of the floor. ``outcomes`` says how its layers ended. ``size`` is its query tokens, and ``ladder`` the name of
    the growing sizes that it belongs to, empty for none.
    """

    kind: str
    size: int
    ladder: str = ""
    model: str
    backend: str
    layers: int
    outcomes: tuple[str, ...]
    runs: int
    wall: float
    busy: float | None
    kernels: float
    answers: float
    inputs: float

    @property
    def floor(self) -> float:
        """The least time that a judge of the case needs."""
        return self.kernels + self.answers + self.inputs

    @property
    def factor(self) -> float | None:
        """Wall over floor; None where nothing was judged."""
        return self.wall / self.floor if self.layers and self.floor else None


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
