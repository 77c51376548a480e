"""``attnconf power``: which mistakes recorded cases would expose, and by how many units."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from attnconf.values import write_text

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from attnconf.running.session import Session


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what ``attnconf power`` takes."""
    parser.add_argument("path", metavar="CASE.json", help="a saved case, a file of vectors, or a folder of either")
    parser.add_argument(
        "--backend", metavar="B", help="in units of this backend's bound (a kernel with P in q's dtype)"
    )
    parser.add_argument("--json", metavar="FILE", help="write every figure as JSON")


def power(arguments: argparse.Namespace, make_session: Callable[[], Session], say: Callable[[str], None]) -> int:
    """Print the power of each case. Raises ``InvalidInputError`` for what is no case, or too large a one."""
    import torch

    from attnconf.cases.vectors import read_cases
    from attnconf.judging.posed import PosedCase
    from attnconf.judging.power import case_power
    from attnconf.report.power import power_lines
    from attnconf.running.replay import check_size

    cases = read_cases(Path(arguments.path))
    for name, case in cases.items():
        check_size(case, name)
    on = None
    if arguments.backend is not None:
        session = make_session()
        on = (session.backend(arguments.backend), session.platform)
    powers = []
    for name, case in cases.items():
        powers.append(case_power(name, PosedCase(case, torch.device("cpu")), on))
        for line in power_lines(powers[-1]):
            say(line)
    if arguments.json is not None:
        write_text(Path(arguments.json), json.dumps([one.to_data() for one in powers], indent=1) + "\n")
    return 0
