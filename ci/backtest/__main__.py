"""Backtest the suite on released packages: ``python -m ci.backtest prepare``, ``run`` and ``show``."""

from __future__ import annotations

import argparse
import json
import platform as python_platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from attnconf.errors import AttnconfError
from attnconf.files import write_text
from ci.backtest.outcome import Backtest, Outcome
from ci.backtest.page import headline, page
from ci.backtest.releases import prepare
from ci.backtest.running import Plan, run_all
from ci.backtest.table import read_table

if TYPE_CHECKING:
    from ci.backtest.table import Entry, Table

RESULT = Path("fixtures/evidence/backtest/result.json")
RESULTS = (RESULT, RESULT.with_name("result-sm90.json"))
_PACKAGES = ("torch", "triton", "numpy", "attnconf")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return 1 where a wheel lacks, an entry cannot run for a new reason, or a page is old."""
    given = _parser().parse_args(arguments)
    try:
        status: int = given.command(given, read_table())
    except AttnconfError as error:
        print(error, file=sys.stderr)
        return 2
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ci.backtest", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    prepared = commands.add_parser("prepare", help="fetch and unpack the releases")
    run = commands.add_parser("run", help="ask the suite of both releases of every entry")
    show = commands.add_parser("show", help="print the figures; write or check the page of a result")
    for one in (prepared, run):
        one.add_argument("--only", action="append", default=[], metavar="ID", help="this entry only (repeatable)")
        one.add_argument("--machine", default="cpu", choices=("cpu", "sm90"), help="the entries of this machine (cpu)")
    run.add_argument("--jobs", type=int, default=2, help="entries at a time (2)")
    run.add_argument("--seconds", type=float, default=Plan.seconds, help="CPU seconds of the bad release (60)")
    run.add_argument("--profile", default=Plan.profile, help="the suite's profile (gate)")
    run.add_argument("--seed", type=int, default=Plan.seed, help="draw other cases (0)")
    run.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="write the result; one that is there keeps its other entries, if it was run as this one",
    )
    show.add_argument("--of", type=Path, nargs="+", default=RESULTS, metavar="FILE", help="results, one a machine")
    show.add_argument("--page", type=Path, metavar="FILE", help="write the page")
    show.add_argument("--picture", type=Path, metavar="FILE", help="draw the picture (needs matplotlib)")
    show.add_argument("--check", type=Path, metavar="PAGE", help="compare this page with the one that would be written")
    prepared.set_defaults(command=_prepare)
    run.set_defaults(command=_run)
    show.set_defaults(command=_show)
    return parser


def _asked(given: argparse.Namespace, table: Table) -> tuple[Entry, ...]:
    return tuple(one for one in table.entries if one.id in given.only) if given.only else table.entries


def _prepare(given: argparse.Namespace, table: Table) -> int:
    lacking = 0
    for entry in (one for one in _asked(given, table) if one.machine == given.machine):
        for release in (entry.broken, entry.fixed):
            try:
                whole = entry.whole or entry.machine != "cpu"
                print(prepare(entry.package, release, whole=whole, beside=entry.beside), flush=True)
            except AttnconfError as error:
                lacking += 1
                print(error, file=sys.stderr)
    return 1 if lacking else 0


def _run(given: argparse.Namespace, table: Table) -> int:
    plan = Plan(profile=given.profile, seed=given.seed, seconds=given.seconds)
    order = [entry.id for entry in table.entries]
    commit = _commit()
    versions = {"python": python_platform.python_version(), **{name: version(name) for name in _PACKAGES}}
    result = Backtest(
        profile=plan.profile,
        seed=plan.seed,
        seconds=plan.seconds,
        machine=given.machine,
        versions=versions,
        outcomes=(),
    )
    if given.json is not None:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        if given.json.is_file():
            result = result.keeping(Backtest.read(given.json), order)

    def show(one: Outcome) -> None:
        print(f"{one.id}: {one.verdict}{f' ({one.why})' if one.why else ''}", flush=True)

    outcomes = run_all(_asked(given, table), plan, given.jobs, given.machine, show)
    ran = tuple(one.model_copy(update={"commit": commit}) for one in outcomes if one.verdict != "not_run")
    elsewhere = tuple(one for one in outcomes if one.verdict == "not_run")
    result = result.model_copy(update={"outcomes": ran + elsewhere}).keeping(result, order)
    if given.json is not None:
        write_text(given.json, json.dumps(result.to_data(), indent=1) + "\n")
    print(headline(table, result))
    known = {entry.id for entry in table.entries if entry.gap}
    return 1 if any(one.verdict == "not_runnable" and one.id not in known for one in outcomes) else 0


def _commit() -> str:
    """Return the commit of this checkout, whose draws were asked; empty outside of one."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - a fixed command
    return done.stdout.strip()


def _show(given: argparse.Namespace, table: Table) -> int:
    results = [Backtest.read(file) for file in given.of]
    text = page(table, *results)
    print(headline(table, *results))
    if given.page is not None:
        given.page.write_text(text, encoding="utf-8")
    if given.picture is not None:
        from ci.backtest.picture import draw

        draw(table, results, given.picture)
    if given.check is not None and given.check.read_text(encoding="utf-8") != text:
        print(f"{given.check} is not the page of this result", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
