"""``attnconf mutants``: hunt the shipped mutants, and say which clause caught each."""

from __future__ import annotations

import json
import os
import statistics
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnconf.clauses import cite
from attnconf.cli.arguments import Commands, add_engine, check_least, open_engine
from attnconf.cli.statuses import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_NOTHING_EXECUTED
from attnconf.files import refuse_unwritable, write_text
from attnconf.wording import counted

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from attnconf.cli.console import Console
    from attnconf.mutants.mutant import Mutant
    from attnconf.running.campaigns.hunt import Catch, Orders
    from attnconf.running.processes.engine import Engine


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("mutants", help="backends that are known to be wrong: what the suite catches of them")
    parser.add_argument("--profile", choices=("smoke", "gate"), default="gate", help="whose cases are drawn (gate)")
    parser.add_argument("--only", action="append", default=[], metavar="ID", help="this mutant only (repeatable)")
    parser.add_argument(
        "--model", action="append", default=[], metavar="M", help="of this model, config.json or free (repeatable)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="draw other cases (0)")
    add_engine(parser, jobs=_processors(), told="one a processor")
    parser.add_argument("--shrink", action="store_true", help="find the smallest case of each; --json does so, too")
    parser.add_argument("--json", metavar="FILE", help="write the result as JSON, with the smallest case of each")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Hunt the mutants that were asked for; return 1 if one escapes, and 3 if none could be hunted.

    A Ctrl-C ends the hunts, and those that are done count.
    """
    from attnconf.cases.models import FREE_MODEL, load_model
    from attnconf.mutants.registry import MUTANTS, mutant_named
    from attnconf.running.campaigns.hunt import Orders

    check_least(arguments, seed=0)
    if arguments.json is not None:
        refuse_unwritable(Path(arguments.json))
    for model in arguments.model:
        if model != FREE_MODEL:
            load_model(model)  # an unknown one is refused before a process is started
    asked = tuple(mutant_named(name) for name in dict.fromkeys(arguments.only)) or MUTANTS
    orders = Orders(
        profile=arguments.profile,
        models=tuple(arguments.model),
        seed=arguments.seed,
        shrink=arguments.shrink or arguments.json is not None,
    )
    came: dict[int, Catch] = {}
    interrupted = False
    with open_engine(arguments) as engine:
        try:
            for number, catch in _hunted(orders, asked, engine):
                came[number] = catch
                console.say(_line(asked[number], catch))
                if arguments.shrink and catch.case is not None:
                    console.say(f"        {catch.case!r}")
        except KeyboardInterrupt:
            interrupted = True
            console.say(f"interrupted: {len(asked) - len(came)} of {counted(len(asked), 'mutant')} were not hunted")
        found = [(asked[number], came[number]) for number in sorted(came)]
        hunted = [catch for _, catch in found if not catch.not_run]
        console.say(_summary(hunted))
        if arguments.json is not None:  # before the processes are ended, which takes seconds on a GPU
            data = report_data(found) | {"interrupted": interrupted}
            write_text(Path(arguments.json), json.dumps(data, indent=1) + "\n")
    if interrupted:
        return EXIT_INTERRUPTED
    if not hunted:
        return EXIT_NOTHING_EXECUTED
    return 0 if all(catch.caught for catch in hunted) else EXIT_FAILED


def report_data(found: Sequence[tuple[Mutant, Catch]]) -> dict[str, Any]:
    """Return the result as plain JSON data; what could not be hunted here is in ``not_run`` and counts nowhere."""
    hunted = [(mutant, catch) for mutant, catch in found if not catch.not_run]
    return {
        "caught": sum(catch.caught for _, catch in hunted),
        "total": len(hunted),
        "mutants": [
            {
                "id": mutant.id,
                "bug": mutant.bug,
                "clause": mutant.clause,
                "caught": catch.caught,
                "cases": catch.cases,
                "seconds": round(catch.seconds, 2),
                "summary": mutant.summary,
                "check": catch.check,
                "first_clause": catch.first,
                "case": None if catch.case is None else catch.case.to_data(),
                "lost": catch.lost,
            }
            for mutant, catch in hunted
        ],
        "not_run": [{"id": mutant.id, "reason": catch.not_run} for mutant, catch in found if catch.not_run],
    }


def _hunted(orders: Orders, asked: Sequence[Mutant], engine: Engine) -> Iterator[tuple[int, Catch]]:
    """Yield each mutant's number and catch as it comes; one whose process died is lost, and not caught."""
    from attnconf.running.campaigns.hunt import Catch, hunt_named

    hunt = partial(hunt_named, orders)
    names = [mutant.id for mutant in asked]
    if engine.is_here and 1 in (engine.size, len(names)):
        yield from enumerate(map(hunt, names))
        return
    for number, found in engine.map(hunt, names):
        mutant = asked[number]
        lost = Catch(id=mutant.id, bug=mutant.bug, clause=mutant.clause)
        yield number, found if isinstance(found, Catch) else replace(lost, lost=str(found))


def _line(mutant: Mutant, catch: Catch) -> str:
    head = f"{mutant.id:30} {cite(mutant.clause):30}"
    if catch.not_run:
        return f"not run {head} {catch.not_run}"
    if catch.lost:
        return f"LOST    {head} {catch.lost}"
    effort = f"{catch.cases:4} cases {catch.seconds:6.1f} s"
    if catch.caught:
        first = "" if catch.first in {None, mutant.clause} else f" (clause {catch.first} first)"
        return f"caught  {head} {catch.check:16} {effort}  {mutant.bug}: {mutant.summary}{first}"
    instead = "caught by nothing" if catch.first is None else f"caught by clause {catch.first} instead"
    return f"MISSED  {head} {instead:16} {effort}  {mutant.bug}: {mutant.summary}"


def _summary(hunted: Sequence[Catch]) -> str:
    caught = [catch for catch in hunted if catch.caught]
    median = f", median {statistics.median(catch.cases for catch in caught):g} cases" if caught else ""
    at_once = sum(catch.first == catch.clause for catch in hunted)
    share = f"; their clause cited first in {100 * at_once / len(hunted):.0f} %" if caught else ""
    return f"{len(caught)} of {len(hunted)} mutants caught by their clause{median}{share}"


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
