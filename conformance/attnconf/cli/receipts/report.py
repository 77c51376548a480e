"""``attnconf report``: what receipts prove, as a page, a step summary, annotations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from attnconf.cli.arguments import Commands, read_sound_policy
from attnconf.errors import InvalidInputError
from attnconf.files import write_text

if TYPE_CHECKING:
    import argparse

    from attnconf.cli.console import Console
    from attnconf.report.document import Document


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("report", help="what receipts prove: a page, a step summary, annotations")
    parser.add_argument("receipts", nargs="+", metavar="RECEIPT.json")
    parser.add_argument("--policy", metavar="NAME|FILE", help="judge by this policy, not by the one of the receipts")
    parser.add_argument("--plan", metavar="FILE", help="what attnconf plan -o wrote: a job owes its own cells alone")
    parser.add_argument(
        "--against",
        action="append",
        default=[],
        metavar="OLD.json",
        help="say what is new, gone, worse or slower",
    )
    parser.add_argument("--html", metavar="FILE", help="write one self-contained page")
    parser.add_argument("--md", metavar="FILE", help="write Markdown, for a step summary")
    parser.add_argument("--format", choices=("text", "github"), default="text", help="print text, or ::error lines")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Write and print what is asked for; it reports a verdict, and returns 0 whichever it is."""
    from attnconf.gate.plans.fleet_plan import FleetPlan
    from attnconf.gate.receipt import Receipt
    from attnconf.report.document import compose

    policy = None if arguments.policy is None else read_sound_policy(arguments.policy)
    names = _names([Path(text) for text in arguments.receipts])
    plan = None if arguments.plan is None else FleetPlan.read(Path(arguments.plan))
    old = [Receipt.read(Path(name)) for name in arguments.against]
    document = compose({name: Receipt.read(path) for name, path in names.items()}, policy, plan, old)
    if arguments.html:
        from attnconf.report.page import render_page

        write_text(Path(arguments.html), render_page(document))
    if arguments.md:
        from attnconf.report.summary import summarise

        write_text(Path(arguments.md), summarise(document))
    if arguments.format == "github":
        from attnconf.report.annotations import errors

        for title, text in errors(document):
            console.say_error(title, text)
    else:
        compared = [] if document.changes is None else document.changes.lines
        for line in (document.headline, document.counts, *_found(document), *compared):
            console.say(line)
    return 0


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
