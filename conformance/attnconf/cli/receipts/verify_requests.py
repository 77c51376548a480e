"""``attnconf verify-requests``: no request of a serving benchmark may be lost."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from attnconf.cli.statuses import EXIT_NOT_MET

if TYPE_CHECKING:
    from attnconf.cli.arguments import Commands
    from attnconf.cli.console import Console

_LONGEST = 12
"""Digits: a longer count is none."""


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("verify-requests", help="no request of a serving benchmark may be lost")
    parser.add_argument("files", nargs="+", metavar="FILE", help="a result of sglang's, vLLM's or NVIDIA's benchmark")
    parser.add_argument(
        "--output-len", type=_tokens, metavar="N", help="the output tokens that each request was asked for"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Print what each result counts; return 10 if a request is lost."""
    from attnconf.gate.serving.documents import read_results

    results = [result for file in arguments.files for result in read_results(Path(file))]
    if arguments.output_len is not None:
        results = [replace(result, asked=arguments.output_len) for result in results]
    for result in results:
        console.say(result.text)
    for note in (note for result in results for note in result.notes):
        console.say(f"CANNOT TELL: {note}")
    faults = [fault for result in results for fault in result.faults]
    for fault in faults:
        console.say(f"NOT MET: {fault}")
    return EXIT_NOT_MET if faults else 0


def _tokens(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < _LONGEST and int(text)):
        message = f"{text!r} is not a number of tokens, 1 or more"
        raise argparse.ArgumentTypeError(message)
    return int(text)
