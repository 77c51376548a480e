"""Annotations: what is wrong as GitHub workflow commands, the worst first, within GitHub's limit.

Of one step GitHub shows ten annotations of each level and drops the others in silence; so the tenth line counts those
that it stands for.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from attnconf.clauses import cite
from attnconf.judging.units import units_text
from attnconf.report.document import cell_name
from attnconf.report.escape import readable, workflow_data, workflow_property

if TYPE_CHECKING:
    from attnconf.report.document import Document

MOST = 10
_LONGEST = 1000


def error_lines(document: Document) -> list[str]:
    """Return at most ten ``::error`` lines: broken layers by the size of their error, then what is not met."""
    found = [(title, text) for _, title, text in sorted(_broken(document), key=lambda one: one[0])]
    found += [("attnconf: not met", gap.text) for gap in document.gaps]
    if not found and document.status == "not met":
        found = [("attnconf: not met", document.headline)]
    if len(found) > MOST:
        rest = len(found) - MOST + 1
        found = [*found[: MOST - 1], ("attnconf", f"{rest:,} more errors; the step summary and the receipts have them")]
    return [
        f"::error title={workflow_property(readable(title))}::{workflow_data(_cut(readable(text)))}"
        for title, text in found
    ]


def _broken(document: Document) -> list[tuple[tuple[float, str], str, str]]:
    """Return failures with what orders them: no finite answer, or none at all, is the worst."""
    found = []
    for site in document.sites:
        for failed in site.failures:
            units = math.inf if failed.worst_units is None else failed.worst_units
            size = "" if failed.worst_units is None else f", {units_text(units)} \u00d7 the bound"
            title = f"{failed.backend}, {', '.join(cite(clause) for clause in failed.clauses)}"
            what = f"{failed.backend} fails {failed.case.model} {failed.case.mode} on {site.title}{size}"
            text = f"{what}\n{failed.replay}"
            found.append(((-units, text), title, text))
        for cell in site.unexplained:
            units = math.inf if cell.worst_units is None else cell.worst_units
            why = "; ".join(cell.reasons)
            text = f"{cell_name(cell)}: {cell.broken} of its layers broken on {site.title}{': ' * bool(why)}{why}"
            found.append(((-units, text), cell.backend, text))
    return found


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}\u2026"
