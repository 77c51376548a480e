"""``attnconf doctor``: what this machine can judge, and what is missing."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from attnconf.cli.arguments import Commands, make_session
from attnconf.cli.statuses import EXIT_FAILED

if TYPE_CHECKING:
    import argparse

    from attnconf.cli.console import Console
    from attnconf.running.doctor import Findings

_STYLES = {
    "works": "green",
    "contract": "yellow",
    "not built": "yellow",
    "unsupported": "yellow",
    "unavailable": "yellow",
    "fails": "bold red",
}


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("doctor", help="what this machine can judge, and what is missing")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Ask every backend one small case, and print what was found."""
    from attnconf.running.doctor import examine

    with closing(make_session()) as session:
        findings = examine(session)
    if arguments.json:
        console.say_data(findings.model_dump(mode="json"))
    else:
        _say(findings, console)
    return 0 if findings.is_healthy else EXIT_FAILED


def _say(findings: Findings, console: Console) -> None:
    """Say the machine, its versions, the backends, and what is missing with the command that brings it."""
    platform = findings.platform
    gpu = f"{platform.device}, SM {platform.sm_text}, CUDA {platform.cuda}, driver {platform.driver or 'unknown'}"
    console.say(f"attnconf {findings.attnconf}, Python {findings.python}, {gpu if platform.sm else 'no GPU'}")
    console.say(", ".join(f"{name} {version or 'missing'}" for name, version in findings.packages.items()))
    backends = [(one.name, one.status, one.detail) for one in findings.backends]
    console.say_table("backends", ("backend", "here", "why"), backends, _STYLES)
    if findings.missing:
        missing = [(one.what, one.remedy) for one in findings.missing]
        console.say_table("what would help", ("missing", "command"), missing, {})
