"""``attnconf verify``: the gate, whether receipts prove what a plan asks."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from attnconf.cli.arguments import Commands, read_sound_policy
from attnconf.cli.statuses import EXIT_NOT_MET, EXIT_REHEARSED
from attnconf.errors import InvalidInputError
from attnconf.files import read_bytes
from attnconf.wording import counted

if TYPE_CHECKING:
    import argparse

    from attnconf.cli.console import Console
    from attnconf.gate.plans.fleet_plan import FleetPlan
    from attnconf.gate.receipt import Receipt
    from attnconf.gate.verify import Finding
    from attnconf.policy.policy import Policy

_REHEARSAL = "REHEARSAL: simulated receipts stand for real ones here, so this proves nothing and never exits with 0"


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("verify", help="the gate: whether receipts prove what a plan asks")
    parser.add_argument("receipts", nargs="*", metavar="RECEIPT.json", help="receipts, or what attnconf merge made")
    parser.add_argument("--policy", required=True, metavar="NAME|FILE", help="a shipped policy, or a TOML file")
    parser.add_argument("--plan", required=True, metavar="FILE", help="what attnconf plan --fleet -o wrote")
    parser.add_argument("--fleet", metavar="FILE", help="refuse a plan for another fleet than this file's")
    parser.add_argument("--diff", metavar="BASE", help="what the plan was made with; needs --fleet")
    parser.add_argument("--sha", metavar="SHA", help="the commit to be merged (that of the working directory)")
    parser.add_argument("--allowed-signers", metavar="FILE", help="refuse what none of these signed; see ssh-keygen(1)")
    parser.add_argument(
        "--allow-unsealed", action="append", default=[], metavar="RECEIPT.json", help="an older file without a digest"
    )
    parser.add_argument(
        "--speed",
        action="append",
        default=[],
        metavar="SPEED.json",
        help="judge claims by what attnconf bench or paired wrote",
    )
    parser.add_argument(
        "--rehearse-with-simulated-receipts", action="store_true", help="try a gate out; exits with 13 at best"
    )
    parser.set_defaults(run=run)


@dataclass
class _Read:
    """What the files hold: receipts by the name under which a finding speaks of them, and what is wrong with others."""

    receipts: dict[str, Receipt] = field(default_factory=dict)
    unsealed: set[str] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)
    signers: set[str] = field(default_factory=set)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Print every finding; return 0 for none, 10 for some, 13 for none in a rehearsal."""
    from attnconf.gate.plans.fleet_plan import FleetPlan
    from attnconf.gate.sealed import TamperedError
    from attnconf.gate.verify import Finding, Terms, verify, verify_plan

    policy = read_sound_policy(arguments.policy)
    rehearsal: bool = arguments.rehearse_with_simulated_receipts
    if rehearsal:
        console.say(_REHEARSAL)
    try:
        plan = FleetPlan.read(Path(arguments.plan))
    except TamperedError as error:
        return _close(console, [Finding("tampered", str(error))])
    findings = list(verify_plan(plan, _expected(arguments, policy, plan)))
    if plan.digest is None:
        findings.append(Finding("unsealed", f"{arguments.plan} has no digest, so an edit would not show"))
    read = _read_all(arguments)
    terms = Terms(unsealed=frozenset(read.unsealed), rehearsal=rehearsal)
    found = verify(policy, plan, read.receipts, terms)
    for note in found.notes:
        console.say(f"note: {note}")
    findings += [*read.findings, *found.findings, *_claims(arguments, policy, plan, read, console)]
    if findings:
        return _close(console, findings)
    if not plan.jobs:
        console.say(
            f"the change since {plan.base} touches no required cell of policy {policy.name}: nothing had to be proven"
        )
    else:
        by = f", signed by {', '.join(sorted(read.signers))}" if read.signers else ""
        count = len({one.identity for one in read.receipts.values()})
        verb = "would be" if rehearsal else "is"
        console.say(
            f"policy {policy.name} {verb} met at {plan.git_sha}: {counted(found.cells, 'required cell')} in"
            f" {counted(count, 'receipt')}{by}"
        )
    return EXIT_REHEARSED if rehearsal else 0


def _claims(
    arguments: argparse.Namespace, policy: Policy, plan: FleetPlan, read: _Read, console: Console
) -> list[Finding]:
    """Judge the policy's claims, print how they stand, and return those that keep the gate shut, with unread files."""
    from attnconf.cli.speed_files import read_speed_files
    from attnconf.gate.speeds.claims import SpeedEvidence, judge_claims
    from attnconf.gate.verify import Finding

    signers = None if arguments.allowed_signers is None else Path(arguments.allowed_signers)
    files = read_speed_files(arguments.speed, signers)
    read.signers |= files.signers
    findings = [Finding(kind, sentence) for kind, sentence in files.faults]
    for one in judge_claims(policy, SpeedEvidence(files.speeds, files.paired), plan.git_sha):
        if one.fails:
            findings.append(Finding("claim", "; ".join((one.sentence, *one.why))))
            continue
        console.say(f"{'note' if one.is_proven else 'warning'}: {one.sentence}")
        for reason in one.why:
            console.say(f"    {reason}")
    return findings


def _close(console: Console, findings: list[Finding]) -> int:
    for one in findings:
        console.say(f"NOT MET ({one.kind}): {one.sentence}")
    console.say(f"{counted(len(findings), 'finding')}: the gate stays shut")
    return EXIT_NOT_MET


def _expected(arguments: argparse.Namespace, policy: Policy, plan: FleetPlan) -> FleetPlan:
    """Return the plan as it must be, by this policy, for the commit to be merged."""
    from attnconf.gate.git import git_sha
    from attnconf.gate.plans.fleet import read_fleet
    from attnconf.gate.plans.fleet_plan import make_fleet_plan, plan_fleet

    if arguments.diff is not None and arguments.fleet is None:
        source = "--diff"
        raise InvalidInputError(source, given="without --fleet", allowed="--diff beside the --fleet of the plan")
    if arguments.sha is not None and not re.fullmatch(r"[0-9a-f]{40}", arguments.sha):
        source = "--sha"
        raise InvalidInputError(source, given=ascii(arguments.sha), allowed="the 40 hex digits of a commit")
    sha = arguments.sha or git_sha(Path.cwd())
    if sha is None:
        source = "--sha"
        raise InvalidInputError(source, given="missing, and this is no git repository", allowed="a commit")
    if arguments.fleet is None:
        return plan_fleet(policy, plan.fleet, sha)
    if arguments.diff is None:
        return plan_fleet(policy, read_fleet(Path(arguments.fleet)), sha)
    made = make_fleet_plan(policy, arguments.policy, Path(arguments.fleet), arguments.diff)
    return made.model_copy(update={"git_sha": sha})


def _read_all(arguments: argparse.Namespace) -> _Read:
    from attnconf.gate.evidence import parse_evidence, receipts_of
    from attnconf.gate.receipt import Receipt
    from attnconf.gate.sealed import TamperedError
    from attnconf.gate.signatures import SignatureError, signer_of
    from attnconf.gate.verify import Finding

    if arguments.allowed_signers is not None and not Path(arguments.allowed_signers).is_file():
        source = "--allowed-signers"
        raise InvalidInputError(source, given=ascii(arguments.allowed_signers), allowed="a file of allowed signers")
    if arguments.allowed_signers is not None:
        read_bytes(Path(arguments.allowed_signers))  # ssh-keygen would read a file of any size
    read = _Read()
    for name in dict.fromkeys(arguments.receipts):
        path = Path(name)
        try:
            content = read_bytes(path)
            if arguments.allowed_signers is not None:
                read.signers.add(signer_of(path, content, Path(arguments.allowed_signers)))
            found = parse_evidence(content.decode(), name)
        except TamperedError as error:
            read.findings.append(Finding("tampered", str(error)))
        except SignatureError as error:
            read.findings.append(Finding("unsigned", str(error)))
        except (InvalidInputError, UnicodeDecodeError) as error:
            read.findings.append(Finding("unreadable", f"{name} is no receipt: {error}"))
        else:
            alone = isinstance(found, Receipt)
            names = {name if alone else f"{name} ({one.identity[:12]})": one for one in receipts_of(found)}
            read.receipts |= names
            read.unsealed |= set(names) if name in arguments.allow_unsealed else set()
    return read
