"""``attnconf import-dump``: what FlashInfer dumped at level 10, as case files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from attnconf.cli.arguments import Commands, check_least
from attnconf.cli.statuses import EXIT_BAD_INPUT
from attnconf.errors import InvalidInputError
from attnconf.wording import counted

if TYPE_CHECKING:
    import argparse

    from attnconf.cli.console import Console


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("import-dump", help="turn FlashInfer's dumps of level 10 into cases")
    parser.add_argument("folder", metavar="DIR", help="what FLASHINFER_DUMP_DIR named")
    parser.add_argument("--out", default="attnconf-dumps", metavar="DIR", help="the cases' folder (attnconf-dumps)")
    parser.add_argument("--most", type=int, default=200, metavar="N", help="cases at most, each of its own shape (200)")
    parser.add_argument("--model", default="free", metavar="M", help="whose layers they are, to be credited (free)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Read the dumps; return 2 if one of them is damaged, each of which is a sentence."""
    from attnconf.capture.dumps.reader import Reader
    from attnconf.capture.gathering import Budget, Gathering

    check_least(arguments, most=1)
    out = Path(arguments.out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInputError("--out", given=str(error.strerror), allowed="a folder that can be made") from None
    gathering = Gathering(out, Budget(most=arguments.most), arguments.model)
    reader = Reader(gathering)
    reader.read(Path(arguments.folder))
    gathering.finish()
    for sentence in reader.refused:
        console.complain(f"attnconf: {sentence}")
    for name, count in reader.others.most_common():
        console.say(f"passed over: {counted(count, 'dump')} of {name}, which is no attention over pages")
    for line in gathering.lines[1:]:
        console.say(line)
    console.say(f"{counted(gathering.kept, 'case')} of {counted(reader.dumps, 'dump')} in {arguments.out}")
    return EXIT_BAD_INPUT if reader.refused else 0
