"""``attnconf paired``: put results of a serving benchmark, run with two backends in turn, into one file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from attnconf.cli.statuses import EXIT_NOT_MET
from attnconf.files import refuse_unwritable
from attnconf.wording import counted

if TYPE_CHECKING:
    import argparse

    from attnconf.cli.arguments import Commands
    from attnconf.cli.console import Console


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("paired", help="serving results of two backends, run in turn, as evidence of a claim")
    parser.add_argument("files", nargs="+", metavar="FILE", help="results of sglang or vLLM, in the order of the runs")
    parser.add_argument("--candidate", required=True, metavar="B", help="the backend of the runs A")
    parser.add_argument("--over", required=True, metavar="B", help="the backend of the runs B")
    parser.add_argument("--order", metavar="ABBAAB", help="whose run each file is (ABBAAB and so on)")
    parser.add_argument("--output-len", type=int, metavar="N", help="the output tokens each request was asked for")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="write them, sealed, for attnconf verify")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Write the file and print each ratio; return 10 where the runs prove nothing."""
    from attnconf.gate.git import git_sha
    from attnconf.gate.speeds.paired import pair_files
    from attnconf.gate.speeds.served import FIELDS

    refuse_unwritable(Path(arguments.output))
    files = [Path(name) for name in arguments.files]
    order = arguments.order or ("ABBA" * len(files))[: len(files)]
    found = pair_files(
        files,
        order,
        candidate=arguments.candidate,
        over=arguments.over,
        git_sha=git_sha(Path.cwd()),
        output_len=arguments.output_len,
    )
    found.write(Path(arguments.output))
    console.say(f"{arguments.output}: {counted(len(found.pairs), 'pair')} of {found.candidate} over {found.over}")
    for name in FIELDS:
        ratio = found.estimate(name)
        if ratio is not None:
            gain, low, high = ratio.gain
            lack = f"; {ratio.lack}" if ratio.lack else ""
            console.say(f"{name}: {gain:+.1f} % faster ({low:+.1f} to {high:+.1f} %){lack}")
    faults = list(found.faults())
    for fault in faults:
        console.say(f"NOT MET: {fault}")
    return EXIT_NOT_MET if faults else 0
