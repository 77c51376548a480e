"""``attnconf replay``: judge a recorded case again, with every check."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from attnconf.cli.arguments import Commands, make_session
from attnconf.cli.statuses import EXIT_FAILED, EXIT_NOTHING_EXECUTED
from attnconf.wording import counted

if TYPE_CHECKING:
    import argparse

    from attnconf.cli.console import Console


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("replay", help="judge a recorded case again, with every check")
    parser.add_argument("path", metavar="CASE.json", help="a saved case, a file of vectors, or a folder of either")
    parser.add_argument("--backend", action="append", default=[], metavar="B", help="on this backend only (repeatable)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Judge each case on each backend. Raises ``InvalidInputError`` for what is no case, or too large a one."""
    from attnconf.cases.vectors import empty_files, read_cases
    from attnconf.cli.replayed import Replay

    cases = read_cases(Path(arguments.path))
    for file in empty_files(Path(arguments.path)):
        console.complain(f"attnconf: {file} is empty, and left out")
    session = make_session()
    backends = tuple(dict.fromkeys(arguments.backend)) or session.registry.names
    for name in backends:
        session.registry.refuse_unknown(name)  # before anything runs
    replay = Replay(session, arguments.path)
    with closing(session):
        for name, case in cases.items():
            for line in replay.run(name, case, backends):
                console.say(line)
    console.say(f"{counted(replay.judged, 'layer')} judged, {replay.failed} failed")
    if replay.failed:
        return EXIT_FAILED
    if not replay.judged:
        console.complain("attnconf: nothing was executed, so nothing is proven")
        return EXIT_NOTHING_EXECUTED
    return 0
