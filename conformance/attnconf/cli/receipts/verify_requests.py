"""``attnconf verify-requests``: no request of a serving benchmark may be lost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from attnconf.cli.statuses import EXIT_NOT_MET

if TYPE_CHECKING:
    import argparse

    from attnconf.cli.arguments import Commands
    from attnconf.cli.console import Console


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("verify-requests", help="no request of a serving benchmark may be lost")
    parser.add_argument("files", nargs="+", metavar="FILE", help="a result of sglang's or vLLM's benchmark")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Print what each result counts; return 10 if a request is lost."""
    from attnconf.gate.serving import read_results

    results = [result for file in arguments.files for result in read_results(Path(file))]
    for result in results:
        console.say(result.text)
    faults = [fault for result in results for fault in result.faults]
    for fault in faults:
        console.say(f"NOT MET: {fault}")
    return EXIT_NOT_MET if faults else 0
