"""``attnconf sign``: sign a receipt with an SSH key."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from attnconf.files import read_text

if TYPE_CHECKING:
    import argparse

    from attnconf.cli.arguments import Commands
    from attnconf.cli.console import Console


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("sign", help="sign a receipt with an SSH key")
    parser.add_argument("receipt", metavar="RECEIPT.json")
    parser.add_argument("--key", required=True, metavar="FILE", help="an SSH private key, or a public one of the agent")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Sign one receipt, several merged ones, or evidence of speed; what cannot be read as such is not signed."""
    from attnconf.cli.speed_files import is_of_speed, parse_speed_file
    from attnconf.gate import signatures
    from attnconf.gate.evidence import parse_evidence

    path = Path(arguments.receipt)
    text = read_text(path)
    (parse_speed_file if is_of_speed(text, str(path)) else parse_evidence)(text, str(path))
    console.say(str(signatures.sign(path, Path(arguments.key))))
    return 0
