"""``attnconf matrix``: the support page of receipts, and whether a page that was written still says what they say."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from attnconf.errors import AttnconfError, InvalidInputError
from attnconf.values import read_text, write_text

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from attnconf.gate.receipt import Receipt


class StalePageError(AttnconfError):
    """A page that is not what its receipts say."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what ``attnconf matrix`` takes."""
    parser.add_argument("receipts", nargs="+", metavar="RECEIPT.json")
    parser.add_argument("-o", "--output", metavar="FILE", help="write the page there, and link the receipts from it")
    parser.add_argument("--check", action="store_true", help="write nothing; fail unless FILE is that page already")


def matrix(arguments: argparse.Namespace, say: Callable[[str], None]) -> None:
    """Write, check or ``say`` the page. Raises ``StalePageError`` and ``InvalidInputError``."""
    from attnconf.report.support import support_page

    if arguments.check and arguments.output is None:
        option = "--check"
        raise InvalidInputError(option, given="without --output", allowed="--check beside --output FILE")
    output = None if arguments.output is None else Path(arguments.output)
    folder = Path.cwd() if output is None else output.parent
    page = support_page(_read(arguments.receipts, folder))
    if output is None:
        say(page.removesuffix("\n"))
    elif not arguments.check:
        write_text(output, page)
        say(str(output))
    elif read_text(output) != page:
        message = f"{output} is not what the receipts say; the same command without --check writes it anew"
        raise StalePageError(message)


def _read(paths: Sequence[str], folder: Path) -> list[tuple[str, Receipt]]:
    """Read receipts, each with its path as seen from ``folder``; one run counts once."""
    from attnconf.gate.receipt import Receipt

    read: list[tuple[str, Receipt]] = []
    for path in paths:
        receipt = Receipt.read(Path(path))
        twin = next((name for name, other in read if other == receipt), None)
        if twin is not None:
            raise InvalidInputError(path, given=f"the same run as {twin}", allowed="each run once")
        read.append((Path(os.path.relpath(path, folder)).as_posix(), receipt))
    return read
