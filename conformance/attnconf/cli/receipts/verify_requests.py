"""``attnconf verify-requests``: no request of a serving benchmark may be lost."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from attnconf.cli.statuses import EXIT_NOT_MET
from attnconf.errors import InvalidInputError

if TYPE_CHECKING:
    from attnconf.cli.arguments import Commands
    from attnconf.cli.console import Console
    from attnconf.gate.serving.metrics import ServerCounts

_LONGEST = 12
"""Digits: a longer count is none."""


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("verify-requests", help="no request of a serving benchmark may be lost")
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="a result of sglang's, vLLM's or NVIDIA's benchmark, or a ledger"
    )
    parser.add_argument(
        "--output-len", type=_tokens, metavar="N", help="the output tokens that each request was asked for"
    )
    parser.add_argument("--ledger", metavar="FILE", help="how each request ended, as attnconf machine --ledger writes")
    parser.add_argument("--metrics", metavar="FILE", help="the server's /metrics behind the run: vLLM's or sglang's")
    parser.add_argument("--metrics-before", metavar="FILE", help="the same before it, to be taken away")
    parser.add_argument("--extra", type=_count, metavar="N", help="requests to the server beside, as to warm it up")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Print what each result counts; return 10 if a request is lost."""
    from attnconf.gate.serving.crosscheck import contradictions, notes
    from attnconf.gate.serving.documents import read_results
    from attnconf.gate.serving.ledger import Ledger

    results = [result for file in arguments.files for result in read_results(Path(file))]
    if arguments.output_len is not None:
        results = [replace(result, asked=arguments.output_len) for result in results]
    path = arguments.ledger
    ledger = None if path is None else Ledger.read(Path(path)).result(path)
    server = _server(arguments)
    told = results if ledger is None else [*results, ledger]
    lines = [one.text for one in told] + ([] if server is None else [server.text])
    for line in lines:
        console.say(line)
    unsaid = [note for result in results for note in result.notes]
    for note in [*unsaid, *notes(results, server, arguments.extra)]:
        console.say(f"CANNOT TELL: {note}")
    faults = [fault for result in told for fault in result.faults]
    faults += contradictions(results, ledger, server, arguments.extra)
    for fault in faults:
        console.say(f"NOT MET: {fault}")
    return EXIT_NOT_MET if faults else 0


def _server(arguments: argparse.Namespace) -> ServerCounts | None:
    """Return what the server counted of this run. Raises ``InvalidInputError`` for a wrong file."""
    from attnconf.gate.serving.metrics import read_metrics

    if arguments.metrics is None:
        if arguments.metrics_before is not None:
            raise InvalidInputError("--metrics-before", given="without --metrics", allowed="both")
        return None
    found = read_metrics(Path(arguments.metrics))
    return found if arguments.metrics_before is None else found.since(read_metrics(Path(arguments.metrics_before)))


def _count(text: str) -> int:
    return 0 if text == "0" else _whole(text, "requests, 0 or more")


def _tokens(text: str) -> int:
    return _whole(text, "tokens, 1 or more")


def _whole(text: str, what: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < _LONGEST and int(text)):
        message = f"{text!r} is not a number of {what}"
        raise argparse.ArgumentTypeError(message)
    return int(text)
