"""``attnconf picture``: draw the matrix of a receipt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from attnconf.cli.arguments import Commands
    from attnconf.cli.console import Console


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("picture", help="draw the matrix of a receipt")
    parser.add_argument("receipt", metavar="RECEIPT.json")
    parser.add_argument("-o", "--output", default="attnconf.png", metavar="FILE", help=".png, .svg or .pdf")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Draw the picture and say where it is. Raises ``InvalidInputError`` for a run that has not finished."""
    from attnconf.gate.invariants import read_proof
    from attnconf.report.picture import draw

    draw(read_proof(Path(arguments.receipt)), Path(arguments.output))
    console.say(arguments.output)
    return 0
