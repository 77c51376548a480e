"""``attnconf plan``: which required cells can run where, for one machine or for a fleet; runs nothing."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnconf.cli.arguments import Commands, make_session, read_sound_policy
from attnconf.cli.statuses import EXIT_NOT_MET
from attnconf.errors import InvalidInputError
from attnconf.escape import shell
from attnconf.gate.plans.fleet_plan import make_fleet_plan

if TYPE_CHECKING:
    import argparse

    from attnconf.cli.console import Console
    from attnconf.gate.plans.fleet_plan import FleetPlan
    from attnconf.policy.policy import Policy


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("plan", help="which required cells of a policy can run where; runs nothing")
    parser.add_argument("--policy", required=True, metavar="NAME|FILE", help="a shipped policy, or a TOML file")
    parser.add_argument("--sm", metavar="M.N", help="plan for this compute capability, not for this machine")
    parser.add_argument("--cuda", metavar="M.N", help="the CUDA version of the machine that --sm stands for (13.0)")
    for side in ("attention", "prefill", "decode"):
        parser.add_argument(f"--{side}-backend", metavar="B", help=f"the user's own choice for {side}")
    parser.add_argument("--fleet", metavar="FILE", help="plan for the runners of this TOML file")
    parser.add_argument("--diff", metavar="BASE", help="of a fleet, only what differs from this commit")
    parser.add_argument("-o", "--output", metavar="FILE", help="write the plan of a fleet, for attnconf verify")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--format", choices=("text", "json", "github"), help="of a fleet, github: the job matrix")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Print what is asked for; return 10 when the fleet cannot execute what the policy requires."""
    policy = read_sound_policy(arguments.policy)
    if arguments.fleet is not None:
        return _plan_fleet(arguments, policy, console)
    for option in ("diff", "output", "format"):
        if getattr(arguments, option) is not None:
            source = f"--{option}"
            raise InvalidInputError(source, given="without --fleet", allowed=f"{source} beside --fleet")
    return _plan_machine(arguments, policy, console)


def _plan_fleet(arguments: argparse.Namespace, policy: Policy, console: Console) -> int:
    for option in ("sm", "cuda", "attention_backend", "prefill_backend", "decode_backend"):
        if getattr(arguments, option) is not None:
            flag = "--" + option.replace("_", "-")
            raise InvalidInputError(flag, given="beside --fleet", allowed="the runners of the fleet alone")
    made = make_fleet_plan(policy, arguments.policy, Path(arguments.fleet), arguments.diff)
    if arguments.output is not None:
        try:
            made.write(Path(arguments.output))
        except OSError as error:
            given = f"cannot be written ({error.strerror})"
            raise InvalidInputError(arguments.output, given=given) from None
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
    for sentence in made.nowhere:
        tell(f"NOT MET: {sentence}")
    if made.git_sha is None:
        console.complain(
            "NOT MET: the plan is of no commit, since this is no git repository; attnconf verify refuses it"
        )
    return EXIT_NOT_MET if made.nowhere or made.git_sha is None else 0


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
    from attnconf.gate.plans.machine_plan import plan as plan_platform
    from attnconf.platforms import simulate
    from attnconf.policy.question import UserChoice

    user = UserChoice(
        attention=arguments.attention_backend, prefill=arguments.prefill_backend, decode=arguments.decode_backend
    )
    if arguments.sm is not None:
        platform = simulate(arguments.sm, cuda=arguments.cuda or "13.0")
        planned = plan_platform(policy, platform, user_choice=user)
    elif arguments.cuda is not None:
        option = "--cuda"
        raise InvalidInputError(option, given="without --sm", allowed="--cuda beside --sm; this machine has its own")
    else:
        with closing(make_session()) as here:
            backends = {name: here.why_not(name) for name in here.registry.names}
        planned = plan_platform(policy, here.platform, user_choice=user, backends=backends)
    if arguments.json:
        console.say_data(planned.to_data())
        return 0
    for line in planned.lines:
        console.say(line)
    return 0
