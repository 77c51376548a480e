"""``attnconf matrix``: the support page of receipts, and whether a page that was written still says what they say."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from attnconf.cli.statuses import EXIT_FAILED
from attnconf.errors import InvalidInputError
from attnconf.files import read_text, write_text

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from attnconf.cli.arguments import Commands
    from attnconf.cli.console import Console
    from attnconf.gate.receipt import Receipt


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("matrix", help="receipts as a Markdown page: what has been proven where")
    parser.add_argument("receipts", nargs="+", metavar="RECEIPT.json")
    parser.add_argument("-o", "--output", metavar="FILE", help="write the page there, and link the receipts from it")
    parser.add_argument("--check", action="store_true", help="write nothing; fail unless FILE is that page already")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Write, check or print the page; return 1 for one that is out of date. Raises ``InvalidInputError``."""
    from attnconf.report.support import support_page

    if arguments.check and arguments.output is None:
        option = "--check"
        raise InvalidInputError(option, given="without --output", allowed="--check beside --output FILE")
    output = None if arguments.output is None else Path(arguments.output)
    folder = Path.cwd() if output is None else output.parent
    page = support_page(_read(arguments.receipts, folder))
    if output is None:
        console.say_document(page)
    elif not arguments.check:
        write_text(output, page)
        console.say(str(output))
    elif read_text(output) != page:
        stale = f"{output} is not what the receipts say; the same command without --check writes it anew"
        console.complain(f"attnconf: {stale}")
        return EXIT_FAILED
    return 0


def _read(paths: Sequence[str], folder: Path) -> list[tuple[str, Receipt]]:
    """Read receipts of finished runs, each with its path as seen from ``folder``; one run counts once."""
    from attnconf.gate.invariants import read_proof

    read: list[tuple[str, Receipt]] = []
    for path in paths:
        receipt = read_proof(Path(path))
        twin = next((name for name, other in read if other == receipt), None)
        if twin is not None:
            raise InvalidInputError(path, given=f"the same run as {twin}", allowed="each run once")
        read.append((Path(os.path.relpath(path, folder)).as_posix(), receipt))
    return read
