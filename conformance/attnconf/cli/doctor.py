"""``attnconf doctor``: what this machine can judge, and what is missing."""

from __future__ import annotations

import json
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
        console.say(json.dumps(findings.model_dump(mode="json"), indent=1))
    else:
        _print(findings)
    return 0 if findings.is_healthy else EXIT_FAILED


def _print(findings: Findings) -> None:
    """Print the machine, its versions, the backends, and what is missing with the command that brings it."""
    from rich.console import Console as RichConsole
    from rich.table import Table
    from rich.text import Text

    console = RichConsole(highlight=False)
    platform = findings.platform
    gpu = f"{platform.device}, SM {platform.sm_text}, CUDA {platform.cuda}, driver {platform.driver or 'unknown'}"
    console.print(Text(f"attnconf {findings.attnconf}, Python {findings.python}, {gpu if platform.sm else 'no GPU'}"))
    console.print(Text(", ".join(f"{name} {version or 'missing'}" for name, version in findings.packages.items())))
    backends = Table("backend", "here", "why", title="backends", title_justify="left")
    for finding in findings.backends:
        backends.add_row(Text(finding.name), Text(finding.status, _STYLES[finding.status]), Text(finding.detail))
    console.print(backends)
    if findings.missing:
        missing = Table("missing", "command", title="what would help", title_justify="left")
        for one in findings.missing:
            missing.add_row(Text(one.what), Text(one.remedy))
        console.print(missing)
