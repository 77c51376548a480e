"""The result of a backtest as a Markdown page, misses first; and its one sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnconf.clauses import cite
from attnconf.escape import markdown
from attnconf.wording import counted
from ci.backtest.outcome import joined

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ci.backtest.outcome import Backtest, Outcome
    from ci.backtest.table import Entry, Table

_COMMANDS = """\
```
make backtest
python -m ci.backtest show
```"""

_ORDER = ("missed", "not_runnable", "found", "not_run")


def headline(table: Table, *results: Backtest) -> str:
    """Return what came of it in one sentence; ``results`` are those of different machines."""
    outcomes = joined(results)
    ran = [entry for entry in table.entries if _ran(outcomes.get(entry.id))]
    found = [entry for entry in ran if outcomes[entry.id].verdict == "found"]
    projects = len({entry.project for entry in ran})
    return (
        f"Of {counted(len(ran), 'released bug')} of {counted(projects, 'project')} that ran both ways, the suite finds "
        f"{len(found)} by its own cases; {len(table.entries) - len(ran)} more did not run"
    )


def page(table: Table, *results: Backtest) -> str:
    """Return the whole page; ``results`` are those of different machines."""
    outcomes = joined(results)
    entries = {entry.id: entry for entry in table.entries}
    ordered = sorted(outcomes.values(), key=lambda one: _ORDER.index(one.verdict))
    parts = [
        "# Released bugs, and whether the suite finds them",
        f"{headline(table, *results)}.",
        _first_try(table, outcomes),
        "\n".join(map(_conditions, results)),
        (
            "The first command runs all of the machine `cpu`, and [ci/README.md](../../../ci/README.md) has those for "
            "another; the second prints this sentence:"
        ),
        _COMMANDS,
        "![What each bug took](backtest.png)",
        "## How a bug was chosen",
        " ".join(table.chosen.split()),
        "## What found means",
        _FOUND,
    ]
    for verdict, title in _TITLES.items():
        lines = [_row(entries[one.id], one) for one in ordered if one.verdict == verdict and one.id in entries]
        if lines:
            parts += [f"## {title}", "\n".join([*_HEADS[verdict], *lines])]
    explained = list(_fixed_sides(entries, ordered))
    parts += ["## What fails on the fixed releases, too", "\n".join(explained) if explained else "Nothing."]
    return "\n\n".join(parts) + "\n"


def _first_try(table: Table, outcomes: dict[str, Outcome]) -> str:
    ran = [entry for entry in table.entries if _ran(outcomes.get(entry.id))]
    found = sum(not entry.missed_first for entry in ran)
    return (
        f"At its first try, before the kind of any gap was closed, it found {found} of these {len(ran)}; the others"
        " say so below."
    )


def _conditions(result: Backtest) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    commits = " and ".join(sorted({one.commit for one in result.outcomes if one.commit}))
    name = "result.json" if result.machine == "cpu" else f"result-{result.machine}.json"
    return (
        f"- [{result.machine}]({name}): the profile {result.profile}, seed {result.seed}, {result.seconds:g} CPU"
        f" seconds for the bad release, on {versions}, with the draws of {commits}."
    )


_FOUND = """\
Both releases are asked the same: the cases that the suite draws for the kernel's own shapes, first those that bring
most new pairs of traits for their cost. Each case's own run is judged, and then the cases come again with the checks
that run a release again, as the suite gives them. The bad release is asked until a clause of the entry fails. The find
is shrunk, and the fixed release must pass both the first and the smallest case (where it is known to have another
fault, no clause of the entry may fail); then it is asked the suite's cases for a quarter of the time. No entry has a
case of its own. An adapter calls the release's own function; for transformers the documented function of flash-attn
stands in for that library, which has no kernels here. Where a release next to the bug has another fault, the adapter
leaves its shapes out or repairs it, and its docstring says so."""

_TITLES = {
    "missed": "Missed",
    "not_runnable": "Could not run here",
    "found": "Found",
    "not_run": "Not run: another machine",
}
_HEADS = {
    "missed": ("| bug | releases | asked | kind of gap |", "|---|---|---|---|"),
    "not_runnable": ("| bug | releases | why |", "|---|---|---|"),
    "found": (
        "| bug | releases | clause, check | found after | smallest case | fixed release |",
        "|---|---|---|---|---|---|",
    ),
    "not_run": ("| bug | releases | adapter | what must fail |", "|---|---|---|---|"),
}


def _row(entry: Entry, one: Outcome) -> str:
    first = "; missed at the first try" if entry.missed_first else ""
    cells = [f"{markdown(entry.bug)} ({_thread(entry)}){first}", f"{entry.package} {entry.broken} → {entry.fixed}"]
    if one.verdict == "missed":
        cells += [_asked(one), markdown("; ".join(filter(None, (one.why, entry.gap))) or "not known yet")]
    elif one.verdict == "not_runnable":
        cells += [markdown(one.why)]
    elif one.verdict == "not_run":
        must = ", ".join(cite(number) for number in entry.clauses)
        cells += [entry.adapter, markdown("; ".join(filter(None, (must, entry.gap))))]
    else:
        cells += _found(one)
    return f"| {' | '.join(cells)} |"


def _found(one: Outcome) -> list[str]:
    find, fixed = one.find, one.fixed
    if find is None or fixed is None:
        return ["", "", "", ""]
    units = "" if find.units is None else f", {find.units:.3g} units"
    case = find.case
    shape = f"{case['mode']}, {counted(len(case['requests']), 'request')}, {counted(len(case['layers']), 'layer')}"
    return [
        f"{cite(find.clause)}, {find.check}{units}",
        f"{counted(find.cases, 'case')}, {find.seconds:.1f} s",
        shape,
        f"{fixed.cases - fixed.failing} of {counted(fixed.cases, 'case')} pass",
    ]


def _asked(one: Outcome) -> str:
    side = one.broken
    return "" if side is None else f"{counted(side.cases, 'case')} of {side.drawn}, {side.seconds:.0f} s"


def _fixed_sides(entries: dict[str, Entry], outcomes: list[Outcome]) -> Iterator[str]:
    for one in outcomes:
        if one.fixed is not None and one.fixed.failing and one.id in entries:
            broken = ", ".join(f"{cite(int(number))} in {count}" for number, count in one.fixed.broken.items())
            why = entries[one.id].known or "not explained yet"
            yield f"- {one.id}: {one.fixed.failing} of {counted(one.fixed.cases, 'case')} ({broken}): {markdown(why)}."


def _thread(entry: Entry) -> str:
    return f"{entry.project}{entry.number}"


def _ran(one: Outcome | None) -> bool:
    return one is not None and one.verdict in {"found", "missed"}
