"""What several commands take: types of options, policies, and the session of this machine."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING, NoReturn, Protocol

from packaging.version import InvalidVersion, Version

from attnconf.cli.console import Console
from attnconf.cli.statuses import EXIT_BAD_INPUT
from attnconf.errors import AttnconfError, InvalidInputError

if TYPE_CHECKING:
    from attnconf.policy.policy import Policy
    from attnconf.running.processes.engine import Engine
    from attnconf.running.session import Session

_MOST_JOBS = 2**10


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one sentence."""

    def error(self, message: str) -> NoReturn:
        """End with status 2 and the sentence."""
        Console().complain(f"{self.prog}: {message}")
        self.exit(EXIT_BAD_INPUT)


class Commands(Protocol):
    """Where a command adds itself: what ``ArgumentParser.add_subparsers`` returns."""

    def add_parser(self, name: str, *, help: str) -> Parser:  # noqa: A002 - argparse names it so
        """Return the parser of a new command."""
        ...


class PolicyInvalidError(AttnconfError):
    """The policy of a command cannot be used."""


def seconds(text: str) -> float:
    """Read a number of seconds, 0 or more; ``inf`` is one. Raises ``ArgumentTypeError``."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not number >= 0:
        message = f"{text!r} is not a number of seconds, 0 or more"
        raise argparse.ArgumentTypeError(message)
    return number


def jobs(text: str) -> int:
    """Read a number of jobs. Raises ``ArgumentTypeError``."""
    if not (text.isascii() and text.isdecimal() and 0 < int(text) <= _MOST_JOBS):
        message = f"{text!r} is not a number of jobs, 1 or more"
        raise argparse.ArgumentTypeError(message)
    return int(text)


def release(option: str, text: str) -> str:
    """Return ``text``, a version of a package. Raises ``InvalidInputError`` for anything else."""
    try:
        Version(text)
    except InvalidVersion:
        raise InvalidInputError(option, given=ascii(text), allowed="a release such as 0.6.13") from None
    return text


def check_least(arguments: argparse.Namespace, **least: float) -> None:
    """Refuse options below their least value. Raises ``InvalidInputError`` for the first of them."""
    for name, value in least.items():
        if getattr(arguments, name) < value:
            raise InvalidInputError("--" + name, given=str(getattr(arguments, name)), allowed=f"{value} or more")


def add_engine(parser: argparse.ArgumentParser, *, jobs: int, told: str) -> None:
    """Declare where a command's processes are: unless told ``jobs`` of this machine, in the words of ``told``."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--jobs", type=int, default=jobs, metavar="J", help=f"processes of this machine ({told})")
    where.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="ask the workers of a Dask cluster, one process each: its scheduler's address, such as tcp://host:8786",
    )


def open_engine(arguments: argparse.Namespace) -> Engine:
    """Return what runs a command's work, to be left in the end. Raises what ``Cluster`` raises."""
    check_least(arguments, jobs=1)
    if arguments.cluster is None:
        from attnconf.running.processes.crew import Crew

        return Crew(arguments.jobs)
    from attnconf.running.processes.cluster import Cluster

    return Cluster(arguments.cluster)


def make_session() -> Session:
    """Return a session on this machine that runs recorded cases and those of one's own."""
    from attnconf.cases.drawing.profiles import profile_named
    from attnconf.judging.memory import machine_memory
    from attnconf.platforms import detect
    from attnconf.running.session import Session

    platform = detect()
    memory = machine_memory(platform, processes=1, per_gpu=1)
    return Session(platform=platform, profile=profile_named("replay"), memory=memory)


def read_policy(name: str) -> Policy:
    """Return a policy by name or path. Raises ``PolicyInvalidError`` for a file that is none."""
    from attnconf.policy.policy import load_policy

    try:
        return load_policy(name)
    except AttnconfError as error:
        message = f"policy invalid: {error}"
        raise PolicyInvalidError(message) from None


def read_sound_policy(name: str) -> Policy:
    """Return a policy that has no fault. Raises ``PolicyInvalidError`` for any other."""
    from attnconf.policy.check import refuse_faulty

    found = read_policy(name)
    try:
        refuse_faulty(found, name)
    except AttnconfError as error:
        message = f"policy invalid: {error}"
        raise PolicyInvalidError(message) from None
    return found
