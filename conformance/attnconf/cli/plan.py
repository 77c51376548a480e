"""``attnconf plan``: which required cells can run where, for one machine or for a fleet; runs nothing."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnconf.cli.arguments import Commands, make_session, read_sound_policy, release
from attnconf.cli.statuses import EXIT_NOT_MET
from attnconf.errors import InvalidInputError
from attnconf.escape import shell
from attnconf.gate.plans.fleet_plan import make_fleet_plan

if TYPE_CHECKING:
    import argparse

    from attnconf.cli.console import Console
    from attnconf.gate.plans.fleet_plan import FleetPlan
    from attnconf.platforms import Platform
    from attnconf.policy.policy import Policy


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("plan", help="which required cells of a policy can run where; runs nothing")
    parser.add_argument("--policy", required=True, metavar="NAME|FILE", help="a shipped policy, or a TOML file")
    parser.add_argument("--sm", metavar="M.N", help="plan for this compute capability, not for this machine")
    parser.add_argument("--cuda", metavar="M.N", help="the CUDA version of the machine that --sm stands for (13.0)")
    parser.add_argument("--flashinfer", metavar="V", help="the flashinfer-python of that machine (the installed one)")
    for side in ("attention", "prefill", "decode"):
        parser.add_argument(f"--{side}-backend", metavar="B", help=f"the user's own choice for {side}")
    parser.add_argument("--fleet", metavar="FILE", help="plan for the runners of this TOML file")
    parser.add_argument("--diff", metavar="BASE", help="of a fleet, only what differs from this commit")
    parser.add_argument("-o", "--output", metavar="FILE", help="write the plan of a fleet, for attnconf verify")
    parser.add_argument("--profile", metavar="P", help="say which cells this profile does not draw (gate)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--format", choices=("text", "json", "github"), help="of a fleet, github: the job matrix")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Print what is asked for; return 10 when the policy requires what the fleet, or no machine, can execute."""
    policy = read_sound_policy(arguments.policy)
    if arguments.fleet is not None:
        return _plan_fleet(arguments, policy, console)
    for option in ("diff", "output", "format"):
        if getattr(arguments, option) is not None:
            source = f"--{option}"
            raise InvalidInputError(source, given="without --fleet", allowed=f"{source} beside --fleet")
    return _plan_machine(arguments, policy, console)


def _plan_fleet(arguments: argparse.Namespace, policy: Policy, console: Console) -> int:
    for option in ("sm", "cuda", "flashinfer", "profile", "attention_backend", "prefill_backend", "decode_backend"):
        if getattr(arguments, option) is not None:
            flag = "--" + option.replace("_", "-")
            raise InvalidInputError(flag, given="beside --fleet", allowed="the runners of the fleet alone")
    made = make_fleet_plan(policy, arguments.policy, Path(arguments.fleet), arguments.diff)
    if arguments.output is not None:
        _write(made, arguments.output)
    form = "json" if arguments.json else arguments.format or "text"
    if form == "text":
        for line in made.lines:
            console.say(line)
    elif form == "json":
        console.say_data(made.to_data())
    else:
        console.say(f"matrix={json.dumps({'include': job_matrix(made)})}")
        console.say(f"jobs={len(made.jobs)}")
    tell = console.say if form == "text" else console.complain  # what is printed else is read by a program
    for name in _unregistered(made):
        tell(f"CANNOT TELL: no package here registers a backend {name}; a conftest of its runner must")
    for sentence in (f"NOT MET: {one}" for one in made.nowhere):
        tell(sentence)
    if made.git_sha is None:
        console.complain(
            "NOT MET: the plan is of no commit, since this is no git repository; attnconf verify refuses it"
        )
    return EXIT_NOT_MET if made.nowhere or made.git_sha is None else 0


def _write(made: FleetPlan, file: str) -> None:
    try:
        made.write(Path(file))
    except OSError as error:
        given = f"cannot be written ({error.strerror})"
        raise InvalidInputError(file, given=given) from None


def _unregistered(made: FleetPlan) -> list[str]:
    """Return the backends of the jobs that no installed package registers, each once."""
    with closing(make_session()) as here:
        known = here.registry.names
    return list(dict.fromkeys(name for job in made.jobs for name in job.backends if name not in known))


def job_matrix(made: FleetPlan) -> list[dict[str, Any]]:
    """Return the jobs of a plan as GitHub's ``strategy.matrix.include`` takes them.

    ``labels`` are for ``runs-on``; ``arguments`` are what pytest is given there beside the policy and the plan.
    """
    rows = []
    for job in made.jobs:
        runner = made.fleet.by_name[job.runner]
        arguments = [f"--attnconf-job={job.name}"]
        arguments += [] if runner.sm is None else [f"--attnconf-require-sm={runner.sm}"]
        arguments += [f"--attnconf-backend={name}" for name in job.backends]
        arguments += [f"--attnconf-model={name}" for name in job.models]
        rows.append(
            {
                "job": job.name,
                "runner": runner.name,
                "labels": list(runner.labels),
                "sm": runner.sm or "",
                "cells": len(job.cells),
                "arguments": shell(arguments),
            }
        )
    return rows


def _plan_machine(arguments: argparse.Namespace, policy: Policy, console: Console) -> int:
    from attnconf.cases.drawing.profiles import profile_named
    from attnconf.gate.plans.machine_plan import plan as plan_platform
    from attnconf.policy.question import UserChoice

    user = UserChoice(
        attention=arguments.attention_backend, prefill=arguments.prefill_backend, decode=arguments.decode_backend
    )
    if arguments.sm is None and (arguments.cuda is not None or arguments.flashinfer is not None):
        option = "--flashinfer" if arguments.cuda is None else "--cuda"
        raise InvalidInputError(option, given="without --sm", allowed=f"{option} beside --sm; this machine has its own")
    profile = profile_named(arguments.profile or "gate")
    with closing(make_session()) as here:
        backends: dict[str, str | None] = dict.fromkeys(here.registry.names)
        platform = here.platform if arguments.sm is None else _simulated(arguments)
        if arguments.sm is None:
            backends = {name: here.why_not(name) for name in backends}
    planned = plan_platform(policy, platform, user_choice=user, backends=backends, profile=profile)
    if arguments.json:
        console.say_data(planned.to_data())
    else:
        for line in planned.lines:
            console.say(line)
    tell = console.complain if arguments.json else console.say
    for sentence in planned.nowhere:
        tell(f"NOT MET: {sentence}")
    return EXIT_NOT_MET if planned.nowhere else 0


def _simulated(arguments: argparse.Namespace) -> Platform:
    """Return the machine that ``--sm`` stands for, with the FlashInfer that is named or installed here."""
    from attnconf.platforms import simulate

    platform = simulate(arguments.sm, cuda=arguments.cuda or "13.0")
    if arguments.flashinfer is None:
        return platform
    packages = {**platform.packages, "flashinfer-python": release("--flashinfer", arguments.flashinfer)}
    return platform.model_copy(update={"packages": packages})
