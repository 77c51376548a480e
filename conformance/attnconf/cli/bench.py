"""``attnconf bench``: backends timed against each other, kernels alone, right ones first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from attnconf.cases.dtypes import QUANTISED
from attnconf.cli.arguments import Commands, check_least, make_session, read_sound_policy, seconds
from attnconf.cli.statuses import EXIT_BAD_INPUT, EXIT_NOT_MET, EXIT_NOTHING_EXECUTED
from attnconf.errors import InvalidInputError
from attnconf.files import refuse_unwritable

if TYPE_CHECKING:
    import argparse

    from attnconf.cases.case import Mode
    from attnconf.cli.console import Console
    from attnconf.policy.policy import Policy
    from attnconf.running.bench.questions import Place

_MODEL = "gemma4-e2b"
_MODES: tuple[Mode, ...] = ("decode", "extend", "mixed", "verify")
_FEW_MODES: tuple[Mode, ...] = ("decode", "extend")
_KINDS = ("sliding", "full", "chunked", "sliding-shared", "full-shared", "chunked-shared")
_MOST_PLANTED = 1000.0


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("bench", help="time backends against each other on a GPU: kernels alone, right first")
    parser.add_argument("--candidate", required=True, metavar="B", help="whose speed is asked")
    parser.add_argument(
        "--over",
        action="append",
        required=True,
        metavar="B",
        help="what it is held against (repeatable; B itself: a trial)",
    )
    parser.add_argument("--policy", metavar="NAME|FILE", help="the models, kinds of layers and modes that it requires")
    parser.add_argument("--model", action="append", default=[], metavar="M", help=f"a model (repeatable; {_MODEL})")
    parser.add_argument("--kind", action="append", default=[], choices=_KINDS, help="a kind of layer (repeatable; all)")
    parser.add_argument("--mode", action="append", default=[], choices=_MODES, help="(repeatable; decode and extend)")
    parser.add_argument("--tp", type=int, default=1, metavar="N", help="one rank of so many (1)")
    parser.add_argument("--kv-dtype", choices=("bfloat16", *sorted(QUANTISED)), default="bfloat16", help="(bfloat16)")
    parser.add_argument("--page-size", type=int, default=64, metavar="N", help="tokens of a page (64)")
    parser.add_argument(
        "--storage", choices=("interleaved", "apart"), default="interleaved", help="K and V of a page (interleaved)"
    )
    parser.add_argument("--all-sizes", action="store_true", help="every size that serving runs, not one or two a mode")
    parser.add_argument("--processes", type=int, default=5, metavar="N", help="one after the other; 3 at least (5)")
    parser.add_argument("--blocks", type=int, default=12, metavar="N", help="of each question in each process (12)")
    parser.add_argument("--seconds", type=seconds, default=600.0, metavar="S", help="begin nothing after S (600)")
    parser.add_argument(
        "--build-budget", type=seconds, metavar="S", help="CPU seconds that one kernel module may take to build"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="draw other lengths and orders (0)")
    parser.add_argument(
        "--plant-slowdown", type=float, default=0.0, metavar="P", help="slow the candidate by P %%: a trial"
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="write the speed receipt")
    parser.add_argument("--picture", metavar="FILE", help="draw the ratios: .png, .svg or .pdf")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Measure, print the table and write what is asked for; 10 where the run is void, 3 where nothing was timed."""
    from attnconf.report.speed_table import speed_lines
    from attnconf.running.bench.bench import Plan, run_bench
    from attnconf.running.bench.questions import Shape, ask

    _check(arguments)
    places = _places(arguments)
    session = make_session()
    if session.platform.sm is None:
        console.complain(
            "attnconf: bench times kernels on a GPU, and this machine has none that torch can use; what a receipt says"
            " is shown anywhere: attnconf report --speed SPEED.json"
        )
        return EXIT_BAD_INPUT
    if arguments.build_budget is not None:
        session.build_budget = arguments.build_budget
    shape = Shape(
        kv_dtype=arguments.kv_dtype, tp=arguments.tp, page_size=arguments.page_size, storage=arguments.storage
    )
    try:
        questions = ask(
            places, arguments.candidate, arguments.over, shape, few=not arguments.all_sizes, seed=arguments.seed
        )
    except ValueError as error:
        raise InvalidInputError("--tp", given=str(arguments.tp), allowed=str(error)) from None
    plan = Plan(
        processes=arguments.processes,
        blocks=arguments.blocks,
        seconds=arguments.seconds,
        seed=arguments.seed,
        planted=arguments.plant_slowdown,
    )
    receipt = run_bench(session, questions, plan, console.complain)
    for line in speed_lines(receipt):
        console.say(line)
    if arguments.output:
        receipt.write(Path(arguments.output))
    if arguments.picture and receipt.cells:
        from attnconf.report.forest import draw_forest

        draw_forest([receipt], Path(arguments.picture))
    if not receipt.cells:
        console.complain("attnconf: nothing was timed, so nothing is known")
        return EXIT_NOTHING_EXECUTED
    return EXIT_NOT_MET if any(receipt.faults()) else 0


def _check(arguments: argparse.Namespace) -> None:
    check_least(arguments, processes=1, blocks=1, seed=0, tp=1)
    if arguments.page_size < 1:
        raise InvalidInputError("--page-size", given=str(arguments.page_size), allowed="1 or more")
    if not 0 <= arguments.plant_slowdown <= _MOST_PLANTED:
        allowed = f"0 to {_MOST_PLANTED:g} percent"
        raise InvalidInputError("--plant-slowdown", given=str(arguments.plant_slowdown), allowed=allowed)
    arguments.over = list(dict.fromkeys(arguments.over))
    for path in (arguments.output, arguments.picture):
        if path is not None:
            refuse_unwritable(Path(path))


def _places(arguments: argparse.Namespace) -> list[Place]:
    """Return what is asked about: what a policy requires, or the models, kinds and modes of the options."""
    from attnconf.cases.models import load_model
    from attnconf.running.bench.questions import Place

    if arguments.policy is not None:
        found = _required(read_sound_policy(arguments.policy))
    else:
        models = arguments.model or [_MODEL]
        modes: list[Mode] = arguments.mode or list(_FEW_MODES)
        found = [Place(name, kind, mode) for name in models for kind in load_model(name).cell_kinds for mode in modes]
    chosen = [
        one
        for one in found
        if (not arguments.model or one.model in arguments.model)
        and (not arguments.kind or one.layer_kind in arguments.kind)
        and (not arguments.mode or one.mode in arguments.mode)
    ]
    if not chosen:
        allowed = "a model, a kind of layer and a mode that belong together"
        raise InvalidInputError("--model, --kind, --mode", given="select nothing", allowed=allowed)
    return chosen


def _required(policy: Policy) -> list[Place]:
    from attnconf.running.bench.questions import Place

    return list(dict.fromkeys(Place(cell.model, cell.layer_kind, cell.mode) for cell in policy.all_required))
