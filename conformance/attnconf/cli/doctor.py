"""``attnconf doctor``: what this machine can judge, and what is missing."""

from __future__ import annotations

from contextlib import closing, redirect_stderr
from io import StringIO
from typing import TYPE_CHECKING

from attnconf.cli.arguments import Commands, make_session
from attnconf.cli.statuses import EXIT_FAILED

if TYPE_CHECKING:
    import argparse

    from attnconf.cli.console import Console
    from attnconf.running.doctor import Findings, Missing

_SECTIONS = {
    "works": ("works here", "green"),
    "contract": ("its documented contract is executed, which is no kernel evidence", "yellow"),
    "fails": ("is wrong", "bold red"),
    "not built": ("is not built", "yellow"),
    "unsupported": ("does not run here", "yellow"),
    "unavailable": ("does not start", "yellow"),
}
"""The heading of each status and its style, in the order in which they are printed."""


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("doctor", help="what this machine can judge, and what is missing")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Ask every backend one small case, and print what was found."""
    from attnconf.running.doctor import examine

    with closing(make_session()) as session, redirect_stderr(StringIO()):  # what a backend says last is a finding
        findings = examine(session)
    if arguments.json:
        console.say_data(findings.model_dump(mode="json"))
    else:
        _say(findings, console)
    return 0 if findings.is_healthy else EXIT_FAILED


def _say(findings: Findings, console: Console) -> None:
    """Say what the machine is, what works on it, and one line for each thing that is not there, with its command."""
    platform = findings.platform
    gpu = f"{platform.device}, SM {platform.sm_text}, CUDA {platform.cuda}, driver {platform.driver or 'unknown'}"
    console.say(f"attnconf {findings.attnconf}, Python {findings.python}, {gpu if platform.sm else 'no GPU'}")
    console.say_wrapped(", ".join(f"{name} {version}" for name, version in findings.packages.items() if version))
    explained = {name for one in findings.missing for name in one.backends}
    shown = [one for one in findings.backends if one.status != "unavailable" or one.name not in explained]
    for status, (heading, style) in _SECTIONS.items():
        rows = [(one.name, one.detail) for one in shown if one.status == status]
        if rows:
            console.say_section(f"{heading}:", rows, style)
    if findings.missing:
        console.say_section("not here:", [(one.what, _remedy(one)) for one in findings.missing], "yellow")


def _remedy(missing: Missing) -> str:
    """Return the command, and as a comment of the shell what it is for."""
    waiting = f"for {', '.join(missing.backends)}" if missing.backends else ""
    comment = "; ".join(filter(None, (missing.why, waiting)))
    return f"{missing.remedy}  # {comment}" if comment else missing.remedy
