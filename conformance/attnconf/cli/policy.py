"""``attnconf policy check | schema | drift``: what is wrong with a policy, and whether an engine agrees with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnconf.cli.arguments import Commands, Parser, read_policy, read_sound_policy
from attnconf.cli.statuses import EXIT_NOT_MET, EXIT_POLICY_INVALID
from attnconf.wording import counted

if TYPE_CHECKING:
    import argparse

    from attnconf.cli.console import Console
    from attnconf.policy.drift.compare import Drift

_MOST_DIFFERENCES = 40
"""More groups of differences say no more than that the policy is another one."""


def add(commands: Commands) -> None:
    """Declare the command and its three parts."""
    parser = commands.add_parser("policy", help="what is wrong with a policy; whether an engine agrees with it")
    parts = parser.add_subparsers(required=True, metavar="COMMAND", dest="what", parser_class=Parser)
    check = parts.add_parser("check", help="find holes, overlaps, unreachable rules and contradictions")
    check.add_argument("policy", metavar="FILE", help="a TOML file, or the name of a shipped policy")
    check.set_defaults(run=_check)
    drift = parts.add_parser("drift", help="ask an installed engine what it would choose, and list where it differs")
    drift.add_argument("--engine", required=True, metavar="E", help="sglang or vllm")
    drift.add_argument("--policy", metavar="NAME|FILE", help="(the shipped one of the engine, such as sglang-gemma4)")
    drift.add_argument("--json", action="store_true", help="print JSON")
    drift.set_defaults(run=_drift)
    schema = parts.add_parser("schema", help="print the JSON Schema of policy files")
    schema.set_defaults(run=_schema)


def _check(arguments: argparse.Namespace, console: Console) -> int:
    from attnconf.policy.check import check_policy

    found = read_policy(arguments.policy)
    faults = check_policy(found)
    for fault in faults:
        console.say(f"{fault.kind}: {fault.sentence}")
    if faults:
        console.say(f"policy {found.name}: {counted(len(faults), 'fault')}")
        return EXIT_POLICY_INVALID
    counts = f"{counted(len(found.rules), 'rule')} for {counted(len(found.architectures), 'architecture')}"
    total = "every question has one answer or a stated refusal"
    console.say(f"policy {found.name}: {total} ({counts}, {counted(len(found.all_required), 'required cell')})")
    return 0


def _drift(arguments: argparse.Namespace, console: Console) -> int:
    from attnconf.policy.drift.compare import compare
    from attnconf.policy.drift.installed import installed_engine

    engine = installed_engine(arguments.engine)
    found = compare(read_sound_policy(arguments.policy or f"{engine.name}-gemma4"), engine)
    if arguments.json:
        console.say_data(found.model_dump(mode="json"))
    else:
        for line in drift_lines(found):
            console.say(line)
    return EXIT_NOT_MET if found.differences else 0


def _schema(_arguments: argparse.Namespace, console: Console) -> int:
    from attnconf.report.schemas import schemas

    console.say_document(schemas()["policy-1.json"])
    return 0


def drift_lines(drift: Drift) -> list[str]:
    """Return the report; a table row a group of questions on which the two differ in the same way."""
    found = f"{counted(drift.questions, 'question')}, {counted(len(drift.differences), 'kind')} of difference"
    lines = [f"policy {drift.policy} and {drift.engine} {drift.version}: {found}; both refuse {drift.refused}"]
    lines += [f"  {count} refused by the engine: {sentence}" for sentence, count in drift.refusals.items()]
    if drift.differences:
        lines += ["", "questions | the policy says | the engine does | first of them"]
    lines += [
        f"{one.count} | {one.policy} | {one.engine} | {one.example}" for one in drift.differences[:_MOST_DIFFERENCES]
    ]
    rest = drift.differences[_MOST_DIFFERENCES:]
    if rest:
        lines.append(f"{sum(one.count for one in rest)} | {len(rest)} further kinds, all of them with --json")
    return lines
