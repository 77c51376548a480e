"""``attnconf kernels``: which trtllm-gen kernel each launch of a model ends in on the SM100 family; runs nothing."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.version import Version

from attnconf.cli.arguments import release
from attnconf.cli.pages import add_page_options, give_page, refuse_check_of_nothing
from attnconf.cli.statuses import EXIT_NOT_MET
from attnconf.errors import InvalidInputError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from attnconf.backends.flashinfer.trtllm_gen.prediction import Answer
    from attnconf.backends.flashinfer.trtllm_gen.question import Question
    from attnconf.cli.arguments import Commands
    from attnconf.cli.console import Console


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("kernels", help="which trtllm-gen kernel each launch of a model ends in; runs nothing")
    parser.add_argument("--model", required=True, action="append", metavar="NAME|FILE", help="may be given again")
    parser.add_argument("--sm", default="10.0", metavar="M.N", help="the compute capability: 10.0 or 10.3 (10.0)")
    parser.add_argument("--flashinfer", metavar="V", help="the release of flashinfer-python (the installed one)")
    parser.add_argument("--compiled", metavar="DIR", help="by the installed FlashInfer's own code, built there by nvcc")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_page_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Print, write or check the table; return 10 where nothing is known of the release, 1 for a page out of date."""
    from attnconf.backends.flashinfer.trtllm_gen.loaded import FITTING
    from attnconf.backends.flashinfer.trtllm_gen.prediction import predict, why_unknown
    from attnconf.backends.flashinfer.trtllm_gen.table import launches, lines
    from attnconf.cases.models import load_model
    from attnconf.platforms import parse_sm

    refuse_check_of_nothing(arguments)
    if arguments.json and arguments.output is not None:
        option = "--output"
        raise InvalidInputError(option, given="beside --json", allowed="--output for the page, --json without it")
    version, sm = _version(arguments.flashinfer), parse_sm(arguments.sm)
    why = why_unknown(version, sm)
    if sm not in FITTING or (why is not None and arguments.compiled is None):
        console.complain(f"attnconf: {why}")
        return EXIT_NOT_MET
    tables = {model.name: list(lines(model.layers, sm)) for model in map(load_model, arguments.model)}
    answer: Callable[[Question], Answer]
    if arguments.compiled is None:
        answer = partial(predict, version=version, sm=sm)
    else:
        from attnconf.backends.flashinfer.trtllm_gen.compiled.installed_selector import installed_answers

        asked = (question for table in tables.values() for line in table for question in line.questions)
        answer = installed_answers(asked, version, sm, Path(arguments.compiled))
    if arguments.json:
        data = {name: [asdict(one) for one in launches(table, answer)] for name, table in tables.items()}
        console.say_data({"flashinfer-python": str(version), "sm": arguments.sm, "evidence": "listed", "models": data})
        return 0
    from attnconf.report.kernel_table import kernel_table

    head = _head(arguments.model, arguments.sm, version)
    parts = [[f"## {name}", "", *kernel_table(launches(table, answer)), ""] for name, table in tables.items()]
    page = "\n".join([*head, *(line for part in parts for line in part)])
    return give_page(page, arguments, console, "list and selector")


def _head(models: Sequence[str], sm: str, version: Version) -> list[str]:
    return [
        f"# trtllm-gen kernels of {', '.join(models)} on SM {sm}, flashinfer-python {version}",
        "",
        "Listed, not run: FlashInfer's list of precompiled kernels and its selector say that a kernel exists and is",
        "chosen, never that it is right. Lengths on the device pick none; the number of requests, the query tokens and",
        "the host hint of the longest request do. A name stands without its dtypes, head_dim and page size. Of two,",
        "the GPU's occupancy decides. Asked for 148 SMs.",
        "",
    ]


def _version(text: str | None) -> Version:
    """Return the release that is asked about, the installed one without a ``text``."""
    from attnconf.backends.flashinfer.package import PACKAGE
    from attnconf.platforms import installed_packages

    option = "--flashinfer"
    found = installed_packages().get(PACKAGE) if text is None else text
    if found is None:
        raise InvalidInputError(option, given="not given, and flashinfer-python is not installed", allowed="a release")
    return Version(release(option, found))
