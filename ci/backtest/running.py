"""Entries of the table, run: each side in a process of its own, with a limit of time."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ci.backtest.outcome import Find, Outcome, Side
from ci.backtest.releases import STORE, place, wheel_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ci.backtest.table import Entry

_WALL = 6
"""A side is ended after so many times its CPU seconds, since a machine is shared, and ``_START`` more."""

_START = 240

_PLACE = re.compile(r" \(/[^)]*\)$")
"""The place on this machine at the end of an ImportError's text."""

_FIXED = 0.25
"""The fixed release is asked for this share of the time, behind the cases that the other one failed."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How entries are run: the suite's ``profile`` and ``seed``, and the CPU ``seconds`` of the bad side."""

    profile: str = "gate"
    seed: int = 0
    seconds: float = 60.0
    store: Path = STORE


def run_all(
    entries: Iterable[Entry], plan: Plan, jobs: int, machine: str, done: Callable[[Outcome], None]
) -> tuple[Outcome, ...]:
    """Run ``entries``, ``jobs`` at a time, and return what came of each, in their order; ``done`` hears of it at once.

    Those of another machine are not run.
    """

    def one(entry: Entry) -> Outcome:
        found = run_entry(entry, plan) if entry.machine == machine else _elsewhere(entry)
        done(found)
        return found

    with ThreadPoolExecutor(jobs) as pool:
        return tuple(pool.map(one, entries))


def run_entry(entry: Entry, plan: Plan) -> Outcome:
    """Ask the release that has the bug until its clause fails, and then the one that has not."""
    absent = [one for one in (entry.broken, entry.fixed) if not wheel_digest(place(entry.package, one, plan.store))]
    if absent:
        why = f"{entry.package} {absent[0]} is not prepared"
        return Outcome(id=entry.id, verdict="not_runnable", why=why)
    old = _side(entry, entry.broken, plan, until_found=True)
    if isinstance(old, str):
        return Outcome(id=entry.id, verdict="not_runnable", why=f"{entry.broken}: {old}")
    broken, find, _ = old
    cases = [] if find is None else [find.first, find.case]
    new = _side(entry, entry.fixed, plan, cases=cases)
    if isinstance(new, str):
        return Outcome(id=entry.id, verdict="not_runnable", why=f"{entry.fixed}: {new}", broken=broken, find=find)
    fixed, _, passes = new
    if find is not None:
        find = find.model_copy(update={"passes": all(passes)})
    if not (broken.layers and fixed.layers):
        side = fixed if broken.layers else broken
        why = f"{side.release} executed none of the {side.cases} cases that were asked"
        return Outcome(id=entry.id, verdict="not_runnable", why=why, broken=broken, fixed=fixed, find=find)
    verdict, why = _judge(find)
    return Outcome(id=entry.id, verdict=verdict, why=why, broken=broken, fixed=fixed, find=find)


def _judge(find: Find | None) -> tuple[Any, str]:
    if find is None:
        return "missed", ""
    return ("found", "") if find.passes else ("missed", "the fixed release fails the same case")


def _elsewhere(entry: Entry) -> Outcome:
    return Outcome(id=entry.id, verdict="not_run", why=f"it needs {entry.machine}")


def _side(
    entry: Entry, release: str, plan: Plan, *, until_found: bool = False, cases: list[dict[str, Any]] | None = None
) -> tuple[Side, Find | None, list[bool]] | str:
    """Return what came of one release, or why there was nothing."""
    order = {
        "entry": entry.to_data(),
        "release": release,
        "store": str(plan.store),
        "profile": plan.profile,
        "seed": plan.seed,
        "seconds": plan.seconds if until_found else plan.seconds * _FIXED,
        "until_found": until_found,
        "cases": cases or [],
    }
    with tempfile.TemporaryDirectory() as work:
        job, result = Path(work, "job.json"), Path(work, "result.json")
        job.write_text(json.dumps(order), encoding="utf-8")
        limit = _WALL * plan.seconds + _START
        command = [sys.executable, "-m", "ci.backtest.side", str(job), str(result)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit)  # noqa: S603
        except subprocess.TimeoutExpired:
            return f"ended after {limit:.0f} s without an answer"
        if not result.is_file():
            said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
            return f"its process ended with {done.returncode}: {_PLACE.sub('', said)[:300]}"
        answer = json.loads(result.read_text(encoding="utf-8"))
    find = answer["find"] and Find.from_data(answer["find"], release)
    return Side.from_data(answer["side"], release), find, answer["passes"]
