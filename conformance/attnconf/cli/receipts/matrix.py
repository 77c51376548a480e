"""``attnconf matrix``: the support page of receipts, and whether a page that was written still says what they say."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from attnconf.cli.pages import add_page_options, give_page, refuse_check_of_nothing
from attnconf.errors import InvalidInputError

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
    add_page_options(parser, "write the page there, and link the receipts from it")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Write, check or print the page; return 1 for one that is out of date. Raises ``InvalidInputError``."""
    from attnconf.report.support import support_page

    refuse_check_of_nothing(arguments)
    folder = Path.cwd() if arguments.output is None else Path(arguments.output).parent
    return give_page(support_page(_read(arguments.receipts, folder)), arguments, console, "the receipts")


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
