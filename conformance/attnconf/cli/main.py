"""The command line: ``attnconf doctor | replay | power | plan | policy | campaign | mutants | build | ...``.

Exit statuses: 0 done, 1 a backend is wrong or a checked page out of date, 2 bad input, 3 nothing was executed, 10 a
requirement is not met, or an engine does not do what the policy says, 11 an invalid policy, 13 a rehearsal is met.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from attnconf.cli import build as build_command
from attnconf.cli import matrix as matrix_command
from attnconf.cli import mutants as mutants_command
from attnconf.cli import plan as plan_command
from attnconf.cli import policy as policy_command
from attnconf.cli import power as power_command
from attnconf.cli import report as report_command
from attnconf.cli import verify as verify_command
from attnconf.errors import AttnconfError, InvalidInputError, printable
from attnconf.values import write_text
from attnconf.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnconf.running.session import Session

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_NOTHING_EXECUTED = 3
EXIT_NOT_MET = 10
_EXIT_BROKEN_PIPE = 141


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_BAD_INPUT, f"{self.prog}: {printable(message)}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; what the user got wrong is one sentence on stderr."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    arguments = _parser().parse_args(argv)
    try:
        status: int = arguments.command(arguments)
        sys.stdout.flush()
    except AttnconfError as error:
        print(f"attnconf: {printable(str(error))}", file=sys.stderr)
        if isinstance(error, matrix_command.StalePageError):
            return EXIT_FAILED
        return policy_command.EXIT_FAULTY if isinstance(error, policy_command.PolicyInvalidError) else EXIT_BAD_INPUT
    except BrokenPipeError:  # the reader has seen enough; nothing more may be written, not even at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _EXIT_BROKEN_PIPE
    return status


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="attnconf", description="Conformance of paged-KV attention backends.")
    parser.add_argument("--version", action="version", version=f"attnconf {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)

    doctor = commands.add_parser("doctor", help="what this machine can judge, and what is missing")
    doctor.add_argument("--json", action="store_true", help="print JSON")
    doctor.set_defaults(command=_doctor)

    replay = commands.add_parser("replay", help="judge a recorded case again, with every check")
    replay.add_argument("path", metavar="CASE.json", help="a saved case, a file of vectors, or a folder of either")
    replay.add_argument("--backend", action="append", default=[], metavar="B", help="on this backend only (repeatable)")
    replay.set_defaults(command=_replay)

    _add_power(commands.add_parser("power", help="which mistakes a recorded case would expose, and by how many units"))

    plan = commands.add_parser("plan", help="which required cells of a policy can run where; runs nothing")
    plan_command.add_arguments(plan)
    plan.set_defaults(command=lambda given: plan_command.plan(given, _session, partial(print, flush=True)))

    policy = commands.add_parser("policy", help="what is wrong with a policy; whether an engine agrees with it")
    policy_command.add_arguments(policy)
    policy.set_defaults(command=lambda given: policy_command.policy(given, print))

    campaign = commands.add_parser("campaign", help="many random cases: false alarms, and how tight the profiles are")
    campaign.add_argument("--backend", required=True, metavar="B")
    campaign.add_argument(
        "--family",
        action="append",
        default=[],
        metavar="F",
        help="a family of the suite (repeatable; all that --model has)",
    )
    campaign.add_argument(
        "--model", action="append", default=[], metavar="M", help="a shipped model (repeatable; free: any geometry)"
    )
    campaign.add_argument("--examples", type=int, default=1000, metavar="N", help="cases in all (1000)")
    campaign.add_argument("--jobs", type=int, default=1, metavar="J", help="processes (1)")
    campaign.add_argument("--seed", type=int, default=0, metavar="N")
    campaign.add_argument("--seconds", type=float, default=math.inf, metavar="S", help="begin no more cases after S")
    campaign.add_argument("--json", metavar="FILE", help="write counts and histograms as JSON")
    campaign.set_defaults(command=_campaign)

    mutants = commands.add_parser("mutants", help="backends that are known to be wrong: what the suite catches of them")
    mutants_command.add_arguments(mutants)
    mutants.set_defaults(command=lambda given: mutants_command.hunt(given, partial(print, flush=True)))

    build = commands.add_parser("build", help="compile a profile's kernel modules before its run")
    build_command.add_arguments(build)
    build.set_defaults(command=lambda given: build_command.build(given, partial(print, flush=True)))

    picture = commands.add_parser("picture", help="draw the matrix of a receipt")
    picture.add_argument("receipt", metavar="RECEIPT.json")
    picture.add_argument("-o", "--output", default="attnconf.png", metavar="FILE", help=".png, .svg or .pdf")
    picture.set_defaults(command=_picture)

    matrix = commands.add_parser("matrix", help="receipts as a Markdown page: what has been proven where")
    matrix_command.add_arguments(matrix)
    matrix.set_defaults(command=_matrix)

    report = commands.add_parser("report", help="what receipts prove: a page, a step summary, annotations")
    report_command.add_arguments(report)
    report.set_defaults(command=_report)

    _add_gate(commands)
    requests = commands.add_parser("verify-requests", help="no request of a serving benchmark may be lost")
    requests.add_argument("files", nargs="+", metavar="FILE", help="a result of sglang's or vLLM's benchmark")
    requests.set_defaults(command=_verify_requests)
    return parser


def _add_gate(commands: argparse._SubParsersAction[_Parser]) -> None:
    verify = commands.add_parser("verify", help="the gate: whether receipts prove what a plan asks")
    verify_command.add_verify_arguments(verify)
    verify.set_defaults(command=lambda given: verify_command.verify(given, print))

    merge = commands.add_parser("merge", help="receipts as one file, in any order, each once")
    verify_command.add_merge_arguments(merge)
    merge.set_defaults(command=lambda given: verify_command.merge(given, print))

    sign = commands.add_parser("sign", help="sign a receipt with an SSH key")
    verify_command.add_sign_arguments(sign)
    sign.set_defaults(command=lambda given: verify_command.sign(given, print))


def _campaign(arguments: argparse.Namespace) -> int:
    from attnconf.cases.drawing.families import pairs_of
    from attnconf.report.histogram import campaign_data, campaign_lines
    from attnconf.running.campaign import Campaign, search

    for name, least in (("examples", 1), ("jobs", 1), ("seed", 0), ("seconds", 0)):
        if getattr(arguments, name) < least:
            raise InvalidInputError("--" + name, given=str(getattr(arguments, name)), allowed=f"{least} or more")
    session = _session()
    backend = session.backend(arguments.backend)
    campaign = Campaign(
        backend=arguments.backend,
        targets=pairs_of(arguments.family, arguments.model),
        examples=arguments.examples,
        seed=arguments.seed,
        seconds=arguments.seconds,
    )
    report = search(campaign, arguments.jobs, partial(print, flush=True))
    print("\n".join(campaign_lines(report, backend.name)))
    if arguments.json:
        data = campaign_data(report, backend, campaign, session.platform)
        write_text(Path(arguments.json), json.dumps(data, indent=1) + "\n")
    if report.failures or report.lost:
        return EXIT_FAILED
    return 0 if report.profiles else EXIT_NOTHING_EXECUTED


def _session() -> Session:
    from attnconf.cases.drawing.profiles import profile_named
    from attnconf.platforms import detect
    from attnconf.running.session import Session

    return Session(platform=detect(), profile=profile_named("replay"))


def _doctor(arguments: argparse.Namespace) -> int:
    from attnconf.running.doctor import examine

    with closing(_session()) as session:
        findings = examine(session)
    if arguments.json:
        print(json.dumps(findings.model_dump(mode="json"), indent=1))
    else:
        from attnconf.report.findings import print_findings

        print_findings(findings)
    return 0 if findings.is_healthy else EXIT_FAILED


def _replay(arguments: argparse.Namespace) -> int:
    from attnconf.cases.vectors import read_cases
    from attnconf.running.replay import Replay

    cases = read_cases(Path(arguments.path))
    session = _session()
    backends = tuple(dict.fromkeys(arguments.backend)) or session.registry.names
    for name in backends:
        session.why_not(name)  # an unknown name is refused before anything runs
    replay = Replay(session, arguments.path)
    with closing(session):
        for name, case in cases.items():
            for line in replay.run(name, case, backends):
                print(line, flush=True)
    print(f"{replay.judged} layers judged, {replay.failed} failed")
    if replay.failed:
        return EXIT_FAILED
    if not replay.judged:
        print("attnconf: nothing was executed, so nothing is proven", file=sys.stderr)
        return EXIT_NOTHING_EXECUTED
    return 0


def _add_power(parser: argparse.ArgumentParser) -> None:
    power_command.add_arguments(parser)
    parser.set_defaults(command=lambda given: power_command.power(given, _session, partial(print, flush=True)))


def _picture(arguments: argparse.Namespace) -> int:
    from attnconf.gate.receipt import Receipt
    from attnconf.report.picture import draw

    draw(Receipt.read(Path(arguments.receipt)), Path(arguments.output))
    print(arguments.output)
    return 0


def _matrix(arguments: argparse.Namespace) -> int:
    matrix_command.matrix(arguments, print)
    return 0


def _report(arguments: argparse.Namespace) -> int:
    policy = None if arguments.policy is None else policy_command.read_sound(arguments.policy)
    return report_command.report(arguments, policy, partial(print, flush=True))


def _verify_requests(arguments: argparse.Namespace) -> int:
    from attnconf.gate.serving import read_results

    results = [result for file in arguments.files for result in read_results(Path(file))]
    for result in results:
        print(result.text)
    faults = [fault for result in results for fault in result.faults]
    for fault in faults:
        print(f"NOT MET: {fault}")
    return EXIT_NOT_MET if faults else 0
