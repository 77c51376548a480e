"""The doctor's findings as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from attnconf.running.doctor import Findings

_STYLES = {
    "works": "green",
    "contract": "yellow",
    "not built": "yellow",
    "unsupported": "yellow",
    "unavailable": "yellow",
    "fails": "bold red",
}


def print_findings(findings: Findings) -> None:
    """Print the machine, its versions, the backends, and what is missing with the command that brings it."""
    console = Console(highlight=False)
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
