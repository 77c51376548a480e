"""``attnconf merge``: receipts as one file, in any order, each once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from attnconf.errors import InvalidInputError
from attnconf.files import read_text
from attnconf.wording import counted

if TYPE_CHECKING:
    import argparse

    from attnconf.cli.arguments import Commands
    from attnconf.cli.console import Console


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("merge", help="receipts as one file, in any order, each once")
    parser.add_argument("receipts", nargs="+", metavar="RECEIPT.json")
    parser.add_argument("-o", "--output", required=True, metavar="FILE")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Write receipts, each once, as one file. Raises ``InvalidInputError``."""
    from attnconf.gate.evidence import evidence_of, parse_evidence, receipts_of

    found = [parse_evidence(read_text(Path(name)), name) for name in arguments.receipts]
    evidence = evidence_of(receipt for one in found for receipt in receipts_of(one))
    try:
        evidence.write(Path(arguments.output))
    except OSError as error:
        raise InvalidInputError(arguments.output, given=f"cannot be written ({error.strerror})") from None
    console.say(f"{arguments.output}: {counted(len(evidence.receipts), 'receipt')}")
    return 0
