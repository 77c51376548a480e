"""Asked: what a profile counts for one backend, beside what the backend executed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from attnconf.gate.cells import Count
from attnconf.values import Value
from attnconf.wording import counted

if TYPE_CHECKING:
    from collections.abc import Mapping


class Asked(Value):
    """What drawn cases ask of one backend.

    ``layers`` is how many layers the profile counts, of the kinds, modes and dtypes that the backend supports;
    ``own`` how many cases the backend got beside the shared ones; ``unreached`` says why layers are missing, with their
    number: what it declares unsupported as a whole, or what further draws did not bring.
    """

    layers: Count
    own: Count = 0
    unreached: dict[str, Count] = Field(default_factory=dict)

    def __add__(self, other: Asked) -> Asked:
        """Return both counts as one."""
        names = sorted({*self.unreached, *other.unreached})
        return Asked(
            layers=self.layers + other.layers,
            own=self.own + other.own,
            unreached={name: self.unreached.get(name, 0) + other.unreached.get(name, 0) for name in names},
        )


def asked_lines(asked: Mapping[str, Asked], executed: Mapping[str, int]) -> list[str]:
    """Return a line for each backend that is asked anything: what, and what it ``executed`` of drawn cases."""
    lines = []
    for name, one in sorted(asked.items()):
        if not (one.layers or one.unreached):
            continue
        share = f" ({100 * executed.get(name, 0) // one.layers} %)" if one.layers else ""
        own = f", with {counted(one.own, 'case')} of its own" if one.own else ""
        missing = sum(one.unreached.values())
        rest = f"; {counted(missing, 'layer')} out of its reach" if missing else ""
        lines.append(
            f"{name}: {counted(one.layers, 'layer')} asked, {executed.get(name, 0):,} executed{share}{own}{rest}"
        )
    return lines
