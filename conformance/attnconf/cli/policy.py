"""``attnconf policy check | schema | drift``: what is wrong with a policy, and whether an engine agrees with it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from attnconf.errors import AttnconfError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from attnconf.policy.policy import Policy

    Say = Callable[[str], None]

EXIT_DRIFT = 10
EXIT_FAULTY = 11


class PolicyInvalidError(AttnconfError):
    """The policy of a command cannot be used."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what ``attnconf policy`` takes."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="what", parser_class=type(parser))
    check = commands.add_parser("check", help="find holes, overlaps, unreachable rules and contradictions")
    check.add_argument("policy", metavar="FILE", help="a TOML file, or the name of a shipped policy")
    drift = commands.add_parser("drift", help="ask an installed engine what it would choose, and list where it differs")
    drift.add_argument("--engine", required=True, metavar="E", help="sglang or vllm")
    drift.add_argument("--policy", metavar="NAME|FILE", help="(the shipped one of the engine, such as sglang-gemma4)")
    drift.add_argument("--json", action="store_true", help="print JSON")
    commands.add_parser("schema", help="print the JSON Schema of policy files")


def policy(arguments: argparse.Namespace, say: Say) -> int:
    """Run one of the commands; return its exit status. Raises ``AttnconfError``."""
    return {"check": _check, "drift": _drift, "schema": _schema}[arguments.what](arguments, say)


def read(name: str) -> Policy:
    """Return a policy by name or path. Raises ``PolicyInvalidError`` for a file that is none."""
    from attnconf.policy.policy import load_policy

    try:
        return load_policy(name)
    except AttnconfError as error:
        message = f"policy invalid: {error}"
        raise PolicyInvalidError(message) from None


def read_sound(name: str) -> Policy:
    """Return a policy that has no fault. Raises ``PolicyInvalidError`` for any other."""
    from attnconf.policy.check import refuse_faulty

    found = read(name)
    try:
        refuse_faulty(found, name)
    except AttnconfError as error:
        message = f"policy invalid: {error}"
        raise PolicyInvalidError(message) from None
    return found


def _check(arguments: argparse.Namespace, say: Say) -> int:
    from attnconf.policy.check import check_policy

    found = read(arguments.policy)
    faults = check_policy(found)
    for fault in faults:
        say(f"{fault.kind}: {fault.sentence}")
    if faults:
        say(f"policy {found.name}: {len(faults)} fault{'' if len(faults) == 1 else 's'}")
        return EXIT_FAULTY
    counts = f"{len(found.rules)} rules for {len(found.architectures)} architectures"
    total = "every question has one answer or a stated refusal"
    say(f"policy {found.name}: {total} ({counts}, {len(found.all_required)} required cells)")
    return 0


def _drift(arguments: argparse.Namespace, say: Say) -> int:
    from attnconf.policy.drift.compare import compare
    from attnconf.policy.drift.installed import installed_engine

    engine = installed_engine(arguments.engine)
    found = compare(read_sound(arguments.policy or f"{engine.name}-gemma4"), engine)
    if arguments.json:
        say(json.dumps(found.model_dump(mode="json"), indent=1))
    else:
        from attnconf.report.drift import drift_lines

        for line in drift_lines(found):
            say(line)
    return EXIT_DRIFT if found.differences else 0


def _schema(_arguments: argparse.Namespace, say: Say) -> int:
    from attnconf.gate.schemas import schemas

    say(schemas()["policy-1.json"].removesuffix("\n"))
    return 0
