"""Gaps: what a policy lacks or lets pass, with the cells of which the same is true together: a report stays short."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from attnconf.gate.verdict import Excused, Unmet


@dataclass(frozen=True)
class Gap:
    """One sentence, and the cells that it is true of: (model, layer kind, mode), none for what is no cell's."""

    sentence: str
    cells: tuple[tuple[str, str, str], ...] = ()

    @property
    def count(self) -> int:
        """How many requirements this is."""
        return max(1, len(self.cells))

    @property
    def by_model(self) -> dict[str, str]:
        """The cells of each model in words."""
        found: dict[str, list[str]] = {}
        for model, kind, mode in self.cells:
            found.setdefault(model, []).append(f"{kind} {mode}")
        return {model: ", ".join(cells) for model, cells in found.items()}

    @property
    def text(self) -> str:
        """All of it in one line."""
        cells = "; ".join(f"{model}: {cells}" for model, cells in self.by_model.items())
        return f"{self.sentence}: {cells}" if cells else self.sentence


def gaps_of(found: Iterable[Unmet | Excused], where: str = "") -> tuple[Gap, ...]:
    """Return the gaps, in the order in which they are first met; ``where`` names the platform in front of each."""
    grouped: dict[tuple[str, str], list[Unmet | Excused]] = {}
    for one in found:
        lack = one.sentence if one.cell is None else one.sentence.removeprefix(one.cell.text)
        grouped.setdefault((one.backend, lack), []).append(one)
    gaps = []
    for (backend, lack), members in grouped.items():
        cells = [one.cell for one in members if one.cell is not None]
        if len(cells) > 1:
            named = tuple((cell.model, cell.layer_kind, cell.mode) for cell in cells)
            gaps.append(Gap(f"{where}{len(cells)} {backend} cells{lack.replace(' is ', ' are ', 1)}", named))
        else:
            gaps.append(Gap(where + members[0].sentence))
    return tuple(gaps)
