"""Annotations: what is wrong for GitHub, the worst first, within GitHub's limit.

Of one step GitHub shows ten annotations of each level and drops the others in silence; so the tenth line counts those
that it stands for.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from attnconf.escape import foreign_command
from attnconf.report.document import cell_name
from attnconf.wording import cut

if TYPE_CHECKING:
    from attnconf.report.document import Document

MOST = 10
_LONGEST = 1000
_TOO_LONG = "# the receipt has the command that repeats it"


def errors(document: Document) -> list[tuple[str, str]]:
    """Return at most ten titles and texts: broken layers by the size of their error, then what is not met."""
    found = [(title, text) for _, title, text in sorted(_broken(document), key=lambda one: one[0])]
    found += [("attnconf: not met", cut(gap.text, _LONGEST)) for gap in document.gaps]
    if not found and document.status == "not met":
        found = [("attnconf: not met", document.headline)]
    if len(found) > MOST:
        rest = len(found) - MOST + 1
        found = [*found[: MOST - 1], ("attnconf", f"{rest:,} more errors; the step summary and the receipts have them")]
    return found


def _broken(document: Document) -> list[tuple[tuple[float, str], str, str]]:
    """Return failures with what orders them: no finite answer, or none at all, is the worst."""
    found = []
    for site in document.sites:
        for bug in site.bugs:
            units = math.inf if bug.worst_units is None else bug.worst_units
            what = f"{bug.title} on {site.title}: {bug.where}{', ' * bool(bug.size)}{bug.size}"
            command = foreign_command(bug.smallest.replay)
            text = f"{cut(what, _LONGEST)}\n{command if len(command) <= _LONGEST else _TOO_LONG}"
            found.append(((-units, text), bug.title, text))
        for cell in site.unexplained:
            units = math.inf if cell.worst_units is None else cell.worst_units
            why = "; ".join(cell.reasons)
            text = f"{cell_name(cell)}: {cell.broken} of its layers broken on {site.title}{': ' * bool(why)}{why}"
            found.append(((-units, text), cell.shown_backend, cut(text, _LONGEST)))
    return found
