"""The terminal's view of a run: a header before it, the matrix of evidence and the verdict behind it."""

from __future__ import annotations

from collections import defaultdict
from textwrap import wrap
from typing import TYPE_CHECKING

from attnconf.cases.geometry import unsharded
from attnconf.escape import terminal
from attnconf.gate.cells import merge_cells
from attnconf.judging.units import units_column
from attnconf.report.matrix import NO_EFFECT
from attnconf.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnconf.gate.cells import Cell
    from attnconf.gate.verdict import Verdict
    from attnconf.policy.policy import Policy

_MODES = ("decode", "extend", "mixed", "verify")
_MOST_REASONS = 4
WIDTH = 100
"""Columns of a terminal that the matrix takes at most."""
_LONGEST_NAMES = (24, 18, 12)
"""Characters of a name in the matrix: fewer where it would be too wide."""
_LEFT_OUT = ".."
_INDENT = "    "
VACUOUS = "?"


def matrix_lines(cells: Sequence[Cell], cases: int | None = None) -> list[str]:
    """Return the matrix backend x (model, layer kind) x mode: layers judged, and the worst error in units.

    A trailing ``c`` marks contract evidence, and ``?`` layers in which no feature mattered, which are no evidence; a
    backend that ran nowhere is one row. The last row adds up, and says how
    many ``cases`` the layers belong to where that is known. Below stand the reasons of what was not judged.
    """
    if not cells:
        return []
    rows: list[tuple[str, ...]] = [("backend", "model", "layers", *_MODES, "worst", "effective features")]
    grouped: dict[tuple[str, str, str], list[Cell]] = defaultdict(list)
    awake = {cell.shown_backend for cell in cells if cell.executed or cell.broken or cell.unsupported}
    for cell in cells:
        row = (unsharded(cell.model), cell.layer_kind) if cell.shown_backend in awake else ("(all)", "(all)")
        grouped[cell.shown_backend, *row].append(cell)
    for (backend, model, kind), members in sorted(grouped.items()):
        counts = [_count([cell for cell in members if cell.mode == mode]) for mode in _MODES]
        units = [cell.worst_units for cell in members if cell.worst_units is not None]
        features = sorted({feature for cell in members for feature in cell.features})
        rows.append(
            (
                backend,
                model,
                kind,
                *counts,
                units_column(max(units, default=None)) or "-",
                ",".join(features) or "none",
            )
        )
    executed = sum(cell.executed for cell in cells)
    contract = sum(cell.contract_only for cell in cells)
    broken = sum(cell.broken for cell in cells)
    of_cases = "" if cases is None else f"{counted(cases, 'case')} executed, "
    judged = f"{of_cases}{counted(executed, 'layer')} judged ({contract:,} of them by contract only)"
    lines = [*_table(rows), f"{judged}, {broken:,} broken"]
    if any(cell.is_vacuous for cell in cells):
        lines += _folded(f"{VACUOUS}: {NO_EFFECT}")
    return [*lines, *_reason_lines(cells)]


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the rows in columns; where one would be too long, the last column stands on lines of its own below."""
    lines: list[str] = []
    for longest in _LONGEST_NAMES:
        columns = [[_name(text, longest) for text in row[:-1]] for row in rows]
        widths = [max(map(len, column)) for column in zip(*columns, strict=True)]
        lines = [" ".join(map(str.ljust, row, widths)) for row in columns]
        if len(lines[0]) <= WIDTH:
            break
    pairs = [(line, row[-1]) for line, row in zip(lines, rows, strict=True)]
    if all(len(line) + 1 + len(last) <= WIDTH for line, last in pairs):
        return [f"{line} {last}" for line, last in pairs]
    return [part for line, last in pairs for part in (line.rstrip(), *_folded(_INDENT + last.replace(",", ", ")))]


def _name(text: str, longest: int) -> str:
    """Return a name for a column; of a long one the middle is left out, for names differ at both ends."""
    half = (longest - len(_LEFT_OUT)) // 2
    return text if len(text) <= longest else f"{text[:half]}{_LEFT_OUT}{text[-half:]}"


def _folded(line: str) -> list[str]:
    """Return ``line`` in lines of at most ``WIDTH`` characters; a longer word, such as a path, stays whole.

    Each is escaped by itself: a word that a CI obeys at the start of a line may have stood in the middle of one.
    """
    parts = wrap(
        line.strip(),
        WIDTH,
        initial_indent=_INDENT if line.startswith(_INDENT) else "",
        subsequent_indent=_INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [terminal(part) for part in parts]


def _count(cells: Sequence[Cell]) -> str:
    executed = sum(cell.executed for cell in cells)
    broken = sum(cell.broken for cell in cells)
    if not cells:
        return "-"
    if not executed and not broken:
        return "not_run" if any(cell.not_run for cell in cells) else "unsup."
    mark = "c" if any(cell.contract_only for cell in cells) else ""
    if not broken and all(cell.is_vacuous for cell in cells if cell.executed):
        mark += VACUOUS
    return f"{executed}{mark}" + (f" BAD {broken}" if broken else "")


def _reason_lines(cells: Sequence[Cell]) -> list[str]:
    by_backend: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for cell in merge_cells(cells, ()):
        for reason, count in cell.reasons.items():
            by_backend[cell.shown_backend][reason] += count
    lines = []
    for backend, reasons in sorted(by_backend.items()):
        ranked = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
        for reason, count in ranked[:_MOST_REASONS]:
            lines += _folded(f"{backend}: {counted(count, 'layer')} {reason}")
        rest = sum(count for _, count in ranked[_MOST_REASONS:])
        if rest:
            others = counted(len(ranked) - _MOST_REASONS, "other reason")
            lines.append(f"{backend}: {counted(rest, 'layer')} for {others} (see the receipt)")
    return lines


def verdict_lines(policy: Policy | None, verdict: Verdict | None) -> list[str]:
    """Return whether the policy's defaults are proven here, what is excused or only claimed, what others still owe."""
    if policy is None or verdict is None:
        return []
    met = "is met on this platform" if verdict.is_met else f"is NOT met: {counted(len(verdict.unmet), 'requirement')}"
    return [
        f"policy {policy.name} {met}",
        *(f"waived: {one.sentence}" for one in verdict.waived),
        *(f"unsupported: {one.sentence}" for one in verdict.unsupported),
        *(f"note: {note}" for note in verdict.notes),
        *verdict.claims,
        *(f"elsewhere: {other.sentence}" for other in verdict.elsewhere),
    ]
