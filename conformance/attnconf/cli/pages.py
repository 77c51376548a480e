"""Pages that a command writes, prints, or holds against the file that is there: ``--output`` and ``--check``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from attnconf.cli.statuses import EXIT_FAILED
from attnconf.errors import InvalidInputError
from attnconf.files import read_text, write_text

if TYPE_CHECKING:
    import argparse

    from attnconf.cli.console import Console


def add_page_options(parser: argparse.ArgumentParser, where: str = "write the page there") -> None:
    """Declare ``--output`` and ``--check``; ``where`` says what the first one does."""
    parser.add_argument("-o", "--output", metavar="FILE", help=where)
    parser.add_argument("--check", action="store_true", help="write nothing; fail unless FILE is that page already")


def refuse_check_of_nothing(arguments: argparse.Namespace) -> None:
    """Raise ``InvalidInputError`` for ``--check`` without a file, before any work is done."""
    if arguments.check and arguments.output is None:
        option = "--check"
        raise InvalidInputError(option, given="without --output", allowed="--check beside --output FILE")


def give_page(page: str, arguments: argparse.Namespace, console: Console, source: str) -> int:
    """Print, write or check ``page``; return 1 for a file that is out of date: not what ``source`` say."""
    if arguments.output is None:
        console.say_document(page)
        return 0
    output = Path(arguments.output)
    if not arguments.check:
        write_text(output, page)
        console.say(str(output))
    elif read_text(output) != page:
        stale = f"{output} is not what {source} say; the same command without --check writes it anew"
        console.complain(f"attnconf: {stale}")
        return EXIT_FAILED
    return 0
