"""``attnconf report``: what receipts prove, as a page, a step summary, annotations."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from attnconf.cli.arguments import Commands, read_sound_policy
from attnconf.errors import InvalidInputError
from attnconf.files import read_text, write_text

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from attnconf.cli.console import Console
    from attnconf.gate.receipt import Receipt
    from attnconf.gate.speeds.speed_receipt import SpeedReceipt
    from attnconf.report.document import Document


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("report", help="what receipts prove: a page, a step summary, annotations")
    parser.add_argument("receipts", nargs="*", metavar="RECEIPT.json")
    parser.add_argument("--speed", action="append", default=[], metavar="SPEED.json", help="what attnconf bench wrote")
    parser.add_argument("--policy", metavar="NAME|FILE", help="judge by this policy, not by the one of the receipts")
    parser.add_argument("--plan", metavar="FILE", help="what attnconf plan -o wrote: a job owes its own cells alone")
    parser.add_argument(
        "--against",
        action="append",
        default=[],
        metavar="OLD.json",
        help="say what is new, gone, worse or slower; receipts, or speed receipts",
    )
    parser.add_argument("--html", metavar="FILE", help="write one self-contained page")
    parser.add_argument("--md", metavar="FILE", help="write Markdown, for a step summary")
    parser.add_argument("--json", metavar="FILE", help="write the ratios of speed as JSON")
    parser.add_argument("--picture", metavar="FILE", help="draw the ratios of speed: .png, .svg or .pdf")
    parser.add_argument("--format", choices=("text", "github"), default="text", help="print text, or ::error lines")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Write and print what is asked for; it reports a verdict, and returns 0 whichever it is."""
    from attnconf.gate.plans.fleet_plan import FleetPlan
    from attnconf.gate.receipt import Receipt
    from attnconf.report.compose import compose
    from attnconf.report.speed_rows import speed_reports
    from attnconf.report.speed_table import report_lines

    policy = None if arguments.policy is None else read_sound_policy(arguments.policy)
    names = _names([Path(text) for text in arguments.receipts])
    plan = None if arguments.plan is None else FleetPlan.read(Path(arguments.plan))
    timed = _read_timed(arguments.speed)
    old, old_timed = _read_old(arguments.against)
    _refuse_unasked(arguments, timed, old, old_timed)
    receipts = {name: Receipt.read(path) for name, path in names.items()}
    receipts = receipts or {f"{name}: correctness": one.correctness for name, one in timed.items()}
    document = _compared(compose(receipts, policy, plan, old), timed, old_timed)
    speeds = speed_reports(timed)
    if arguments.html:
        from attnconf.report.page import render_page

        write_text(Path(arguments.html), render_page(document, speeds))
    if arguments.md:
        from attnconf.report.summary import summarise

        write_text(Path(arguments.md), summarise(document, speeds=speeds))
    if arguments.json:
        text = json.dumps([one.to_data() for one in speeds], indent=1, allow_nan=False)
        write_text(Path(arguments.json), f"{text}\n")
    if arguments.picture:
        from attnconf.report.forest import draw_forest

        draw_forest(list(timed.values()), Path(arguments.picture))
    if arguments.format == "github":
        from attnconf.report.annotations import errors

        for title, text in errors(document):
            console.say_error(title, text)
    else:
        compared = [] if document.changes is None else document.changes.lines
        for line in (document.headline, document.counts, *_found(document), *compared):
            console.say(line)
        for line in (line for one in speeds for line in report_lines(one)):
            console.say(line)
    return 0


def _read_timed(names: list[str]) -> dict[str, SpeedReceipt]:
    from attnconf.gate.speeds.speed_receipt import parse_speed

    return {
        str(path): parse_speed(read_text(path), str(path)) for path in _names([Path(one) for one in names]).values()
    }


def _read_old(names: list[str]) -> tuple[list[Receipt], list[SpeedReceipt]]:
    """Read what ``--against`` names: receipts, and speed receipts, as each file says of itself."""
    from attnconf.gate.receipt import Receipt
    from attnconf.gate.speeds.speed_receipt import is_speed, parse_speed
    from attnconf.values import parse_json

    receipts, timed = [], []
    for name in names:
        text = read_text(Path(name))
        if is_speed(parse_json(text, name)):
            timed.append(parse_speed(text, name))
        else:
            receipts.append(Receipt.read(Path(name)))
    return receipts, timed


def _refuse_unasked(
    arguments: argparse.Namespace,
    timed: Mapping[str, SpeedReceipt],
    old: Sequence[Receipt],
    old_timed: Sequence[SpeedReceipt],
) -> None:
    """Refuse what has no subject. Raises ``InvalidInputError``."""
    if not arguments.receipts and not timed:
        source = "receipts"
        raise InvalidInputError(source, given="none", allowed="a receipt, or --speed SPEED.json")
    wants = next((name for name in ("json", "picture") if getattr(arguments, name)), None)
    if wants is not None and not any(one.cells for one in timed.values()):
        raise InvalidInputError(
            f"--{wants}", given="nothing was timed", allowed="--speed SPEED.json with cells beside it"
        )
    if (old and not arguments.receipts) or (old_timed and not timed):
        kind = "a speed receipt" if old_timed and not timed else "a receipt"
        source = "--against"
        raise InvalidInputError(source, given=f"{kind}, and no newer one", allowed="one of each kind that is reported")


def _compared(document: Document, timed: Mapping[str, SpeedReceipt], old: Sequence[SpeedReceipt]) -> Document:
    """Return the document with the changes of speed since ``old`` receipts behind its own."""
    from attnconf.gate.speeds.compared import speed_changes
    from attnconf.report.changes import Changes

    if not old:
        return document
    found = speed_changes(timed.values(), old)
    before = () if document.changes is None else document.changes.found
    return replace(document, changes=Changes((*before, *((heading, tuple(texts)) for heading, texts in found.items()))))


def _names(paths: list[Path]) -> dict[str, Path]:
    """Return the files by the shortest names that tell them apart."""
    short = {path.name: path for path in paths}
    if len(short) == len(paths):
        return short
    whole = {str(path): path for path in paths}
    if len(whole) == len(paths):
        return whole
    twice = next(str(path) for path in paths if paths.count(path) > 1)
    source = "receipts"
    raise InvalidInputError(source, given=f"{twice} twice", allowed="each file once: its layers would count twice")


def _found(document: Document) -> list[str]:
    excused = [f"{heading}: {gap.text}" for heading, gaps in document.excused for gap in gaps]
    return [*(f"NOT MET: {gap.text}" for gap in document.gaps), *excused]
