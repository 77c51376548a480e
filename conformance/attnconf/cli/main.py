"""The command line: ``attnconf COMMAND``. Each command is a module with ``add`` and ``run``."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from attnconf.cli import (
    bench,
    build,
    campaign,
    capture,
    doctor,
    import_dump,
    kernels,
    machine,
    mutants,
    plan,
    policy,
    power,
    replay,
    speed,
)
from attnconf.cli.arguments import Parser, PolicyInvalidError
from attnconf.cli.console import Console
from attnconf.cli.receipts import matrix, merge, paired, picture, report, sign, verify, verify_requests
from attnconf.cli.statuses import EXIT_BAD_INPUT, EXIT_INTERRUPTED, EXIT_POLICY_INVALID
from attnconf.errors import AttnconfError
from attnconf.version import __version__

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence
    from types import FrameType

_COMMANDS = (
    doctor,
    replay,
    power,
    plan,
    kernels,
    policy,
    campaign,
    mutants,
    machine,
    capture,
    import_dump,
    build,
    speed,
    bench,
    picture,
    matrix,
    report,
    verify,
    merge,
    sign,
    verify_requests,
    paired,
)
"""In the order in which ``--help`` lists them."""

_EXIT_BROKEN_PIPE = 141
"""As shells report that the reader of the output has gone away."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; what the user got wrong is one sentence on stderr."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    arguments = _parser().parse_args(argv)
    console = Console()
    try:
        with _ended_by(signal.SIGTERM):
            status: int = arguments.run(arguments, console)
        sys.stdout.flush()
    except AttnconfError as error:
        console.complain(f"attnconf: {error}")
        return EXIT_POLICY_INVALID if isinstance(error, PolicyInvalidError) else EXIT_BAD_INPUT
    except BrokenPipeError:  # the reader has seen enough; nothing more may be written, not even at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _EXIT_BROKEN_PIPE
    except KeyboardInterrupt:
        console.complain("attnconf: interrupted")
        return EXIT_INTERRUPTED
    return status


@contextmanager
def _ended_by(number: signal.Signals) -> Iterator[None]:
    """Take a signal as a Ctrl-C: ``timeout`` and a cancelled job send SIGTERM, and what was found is still written.

    Only the first one: ``timeout`` sends it to its command, and once more to the whole group.
    """
    came: list[int] = []  # the second one may have come before the first is ignored

    def end(given: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)
        came.append(given)
        if len(came) == 1:
            raise KeyboardInterrupt

    mine = threading.current_thread() is threading.main_thread() and signal.getsignal(number) is signal.SIG_DFL
    if mine:
        signal.signal(number, end)
    try:
        yield
    finally:
        if mine:
            signal.signal(number, signal.SIG_DFL)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="attnconf", description="Conformance of paged-KV attention backends.")
    parser.add_argument("--version", action="version", version=f"attnconf {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    for command in _COMMANDS:
        command.add(commands)
    return parser
