"""``attnconf capture``: run an engine, and keep what it asks of its attention layers as case files."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from attnconf.cli.arguments import Commands, check_least
from attnconf.errors import InvalidInputError
from attnconf.wording import counted

if TYPE_CHECKING:
    import argparse

    from attnconf.cli.console import Console

_NOT_FOUND = 127
"""What a shell returns for a command that is none."""


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("capture", help="run an engine, and keep what it asks of its layers as cases")
    parser.add_argument("--out", default="attnconf-capture", metavar="DIR", help="the cases' folder (attnconf-capture)")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="look at one step of N (1)")
    parser.add_argument("--most", type=int, default=200, metavar="N", help="cases of a process at most (200)")
    parser.add_argument("--model", default="free", metavar="M", help="whose layers they are, to be credited (free)")
    parser.add_argument("program", nargs="+", metavar="COMMAND", help="behind --, such as vllm serve ...")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Run the command with capture switched on; return its own status."""
    from attnconf.capture.gathering import LOG, Budget
    from attnconf.capture.switch import VARIABLE, variable

    check_least(arguments, every=1, most=1)
    folder = Path(arguments.out).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInputError("--out", given=str(error.strerror), allowed="a folder that can be made") from None
    if any(folder.iterdir()):
        raise InvalidInputError("--out", given=f"{arguments.out} is not empty", allowed="a folder of its own")
    value = variable(folder, Budget(arguments.every, arguments.most), arguments.model)
    try:
        status = subprocess.run(arguments.program, env={**os.environ, VARIABLE: value}, check=False).returncode  # noqa: S603 - the user's own command
    except OSError as error:
        console.complain(f"{arguments.program[0]} cannot be run: {error.strerror}")
        return _NOT_FOUND
    logs = sorted(folder.glob(f"*{LOG}"))
    for log in logs:
        for line in log.read_text().splitlines():
            console.say(f"process {log.name.removesuffix(LOG)}: {line}")
    kept = len(list(folder.glob("*.json")))
    if not logs:
        console.say("no process of an engine was seen: only sglang and vLLM start the capture by themselves")
    console.say(f"{counted(kept, 'case')} in {arguments.out}; attnconf replay judges them on any backend")
    return status
