"""``attnconf speed``: what the judging of a case costs beside what its kernel and its answer need."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from attnconf.cli.arguments import Commands, make_session
from attnconf.cli.statuses import EXIT_NOTHING_EXECUTED
from attnconf.files import refuse_unwritable, write_text
from attnconf.platforms import platform_text

if TYPE_CHECKING:
    import argparse

    from attnconf.cli.console import Console


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("speed", help="what judging costs beside what the kernel and its answer need")
    parser.add_argument("--backend", default="reference", metavar="B", help="the backend that is judged (reference)")
    parser.add_argument("--small", action="store_true", help="the small kinds of case alone, as on a CPU")
    parser.add_argument("--ladder", action="store_true", help="growing prefills and batches, too, on a GPU")
    parser.add_argument("--json", metavar="FILE", help="write every figure as JSON")
    parser.add_argument("--picture", metavar="FILE", help="draw them: .png, .svg or .pdf")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Measure each kind of case on this machine, and print a row for each as soon as it is there."""
    from attnconf.report.cost import speed_lines
    from attnconf.running.speed import KINDS, LADDER, measure

    for path in (arguments.json, arguments.picture):
        if path is not None:
            refuse_unwritable(Path(path))
    session = make_session()
    backend = session.backend(arguments.backend)
    found = []
    for kind in (*KINDS, *(LADDER if arguments.ladder else ())):
        if (arguments.small or session.platform.sm is None) and not kind.small:
            continue
        reason = session.why_not_here(kind.case)
        if reason is not None:
            console.say(f"{kind.name}: not run: the case {reason}")
            continue
        found.append(measure(kind, backend, session.platform, session.device))
        for line in speed_lines(found[-1:])[0 if len(found) == 1 else 1 :]:
            console.say(line)
    if arguments.json is not None:
        data = [{**one.to_data(), "floor": one.floor, "factor": one.factor} for one in found]
        document = {"platform": session.platform.model_dump(mode="json"), "seconds": data}
        write_text(Path(arguments.json), json.dumps(document, indent=1) + "\n")
    if arguments.picture is not None:
        from attnconf.report.speed_picture import draw_speed

        title = f"attnconf speed --backend {arguments.backend}, {platform_text(session.platform)}"
        kinds, ladders = [one for one in found if not one.ladder], [one for one in found if one.ladder]
        draw_speed(kinds, ladders, title, Path(arguments.picture))
    return 0 if any(one.layers for one in found) else EXIT_NOTHING_EXECUTED
