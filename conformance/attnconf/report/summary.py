"""The summary: a document as Markdown, for the step summary of a CI.

GitHub takes at most 1 MiB a step and shows nothing of a longer one; so the parts come by their weight, what is not met
first, and what does not fit is counted instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnconf.escape import fenced, foreign_command, html, markdown
from attnconf.gate.played import played_lines
from attnconf.report.document import cell_name
from attnconf.report.matrix import MODES
from attnconf.report.speed_table import speed_markdown
from attnconf.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from attnconf.report.bugs import Bug
    from attnconf.report.document import Backend, Document, Site
    from attnconf.report.gaps import Gap
    from attnconf.report.matrix import Square
    from attnconf.report.speed_rows import SpeedReport

MOST_BYTES = 2**20
_RESERVE = 200
_MOST_REASONS = 8
_LONGEST_TEXT = 20_000
_MARKS = {"met": "\u2705", "not met": "\u274c", "open": "\u26aa"}


def summarise(document: Document, most_bytes: int = MOST_BYTES, speeds: Sequence[SpeedReport] = ()) -> str:
    """Return the document as Markdown of at most ``most_bytes`` bytes in UTF-8, with what was timed."""
    parts, room, left = [], most_bytes - _RESERVE, 0
    for part in _parts(document, speeds):
        size = len(part.encode()) + 1
        if left or size > room:
            left += 1
        else:
            parts.append(part)
            room -= size
    if left:
        parts.append(f"\n\u2026 and {left:,} more parts that do not fit into a step summary; the receipts have them.")
    return "\n".join(parts) + "\n"


def _parts(document: Document, speeds: Sequence[SpeedReport]) -> Iterator[str]:
    yield f"## {_MARKS[document.status]} {markdown(document.headline)}\n\n{document.counts}.\n"
    yield from _section("Not met", (line for gap in document.gaps for line in _gap(gap)))
    yield from _section("Failures", (_bug(bug) for site in document.sites for bug in site.bugs))
    yield from _section("Broken, without a kept case", (_broken(site) for site in document.sites if site.unexplained))
    compared = document.changes.lines if document.changes is not None else []
    yield from _section("Since the older receipts", (f"- {markdown(line)}" for line in compared))
    yield from speed_markdown(speeds)
    for heading, gaps in document.excused:
        yield from _section(heading, (line for gap in gaps for line in _gap(gap)))
    notes = (f"- {markdown(one.note)}" for _, one in document.policy_statuses if one.note)
    yield from _section("Not judged", notes)
    owed = dict.fromkeys(sentence for _, one in document.policy_statuses for sentence in one.elsewhere)
    yield from _section("Needed from elsewhere", (f"- {markdown(sentence)}" for sentence in owed))
    for site in document.sites:
        yield from _section(site.title, (_backend(site, one) for one in site.backends))
        yield "\n".join(_runs(site))


def _section(title: str, parts: Iterable[str]) -> Iterator[str]:
    for index, part in enumerate(parts):
        yield part if index else f"### {markdown(title)}\n\n{part}"
    yield ""


def _gap(gap: Gap) -> Iterator[str]:
    yield f"- {markdown(gap.sentence)}"
    yield from (f"  - {markdown(model)}: {markdown(cells)}" for model, cells in gap.by_model.items())


def _bug(bug: Bug) -> str:
    failed = bug.smallest
    count = f"{counted(len(bug.cases), 'case')}, " if len(bug.cases) > 1 else ""
    size = f", {bug.size}" if bug.size else ""
    name = html(f"{bug.title}: {count}{bug.where}{size}")
    text = failed.text if len(failed.text) <= _LONGEST_TEXT else f"{failed.text[:_LONGEST_TEXT]}\u2026"
    body = fenced(f"{text}\n\ncase:   {failed.case!r}\nreplay: {foreign_command(failed.replay)}")
    return f"<details><summary>{name}</summary>\n\n{body}\n\n</details>\n"


def _broken(site: Site) -> str:
    lines = [
        f"- {markdown(cell_name(cell))}: {cell.broken} broken of {cell.executed} judged;"
        f" {markdown('; '.join(cell.reasons) or 'no reason kept')}"
        for cell in site.unexplained
    ]
    return "\n".join(lines)


def _backend(site: Site, backend: Backend) -> str:
    reasons = [f"- {counted(count, 'layer')} {markdown(reason)}" for reason, count in backend.reasons[:_MOST_REASONS]]
    rest = len(backend.reasons) - _MOST_REASONS
    reasons += [f"- {counted(rest, 'other reason')}"] if rest > 0 else []
    by = f" (provided by {markdown(' and by '.join(backend.providers))})" if backend.providers else ""
    name = f"**{markdown(backend.name)}**{by}"
    if backend.is_asleep:
        return "\n".join([f"{name} did not run", "", *reasons, ""])
    lines = [
        f"{name}: {counted(backend.executed, 'layer')} judged, {backend.broken:,} broken",
        "",
        f"| model | layers | {' | '.join(MODES)} |",
        f"|---|---|{'--:|' * len(MODES)}",
    ]
    for row in site.matrix.rows:
        squares = [site.matrix.squares.get((row, (backend.name, mode))) for mode in MODES]
        if any(squares):
            lines.append(f"| {markdown(row[0])} | {row[1]} | {' | '.join(map(_square, squares))} |")
    return "\n".join([*lines, "", *reasons, ""])


def _square(square: Square | None) -> str:
    if square is None:
        return ""
    if square.kind == "broken":
        return f"**{square.broken} BAD** {square.units}".rstrip()
    if square.executed:
        return f"{square.count} {square.units}".rstrip()
    return "not run" if square.kind == "not_run" else "unsup."


def _runs(site: Site) -> Iterator[str]:
    yield f"{', '.join(f'{markdown(name)} {markdown(version)}' for name, version in site.versions)}\n"
    for name, receipt in site.runs.items():
        commit = markdown(receipt.git_sha or "outside a repository")
        ref = receipt.policy
        policy = "" if ref is None else f", policy {markdown(ref.name)} {markdown(ref.digest[:12])}"
        ended = "" if receipt.exit_status is None else f", exit status {receipt.exit_status}"
        yield (
            f"- {markdown(name)}: attnconf {markdown(receipt.attnconf)}, commit {commit}, profile"
            f" {markdown(receipt.profile)}, seed {receipt.seed}{policy}, {markdown(receipt.started)},"
            f" {receipt.seconds:.0f} s{ended}"
        )
        yield from (f"  - {markdown(line)}" for line in played_lines(receipt.played))
