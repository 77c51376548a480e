"""``attnconf build``: compile the kernel modules of a profile ahead of its run, and carry them to other machines."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from attnconf.cli.arguments import Commands, jobs, seconds
from attnconf.cli.statuses import EXIT_FAILED
from attnconf.errors import InvalidInputError, UnsupportedError

if TYPE_CHECKING:
    import argparse

    from attnconf.cases.drawing.families import Family
    from attnconf.cli.console import Console
    from attnconf.running.build_plan import BuildPlan
    from attnconf.running.session import Session


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("build", help="compile a profile's kernel modules before its run")
    parser.add_argument("--profile", default="gate", metavar="P", help="build for this profile (gate)")
    parser.add_argument("--backend", action="append", default=[], metavar="B", help="of this backend only (repeatable)")
    parser.add_argument("--family", action="append", default=[], metavar="F", help="for this family only (repeatable)")
    parser.add_argument("--model", action="append", default=[], metavar="M", help="for this model only (repeatable)")
    parser.add_argument(
        "--module", action="append", default=[], metavar="NAME", help="this module only, whatever it costs (repeatable)"
    )
    parser.add_argument("--jobs", type=jobs, metavar="N", help="at most N compilers at once (MAX_JOBS, or all cores)")
    parser.add_argument(
        "--budget", type=seconds, metavar="SECONDS", help="CPU seconds that one module may cost (120; --module: any)"
    )
    parser.add_argument("--sm", metavar="M.N", help="build for this compute capability; needs nvcc and no GPU")
    parser.add_argument("--export", metavar="DIR", help="copy the finished modules into DIR, for ATTNCONF_KERNEL_CACHE")
    parser.add_argument("--dry-run", action="store_true", help="say what would be built, and build nothing")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Plan, build and export. Raises ``InvalidInputError`` for what cannot be meant."""
    from attnconf.cases.vectors import cases_to_replay
    from attnconf.running.build_plan import default_jobs, plan_builds
    from attnconf.running.planned_shapes import PlannedShapes

    session = _session(arguments)
    families = _families(arguments.family)
    targets = [(family, model) for family in families for model in session.profile.targets(family)]
    vectors = () if arguments.family else tuple(cases_to_replay([]).values())
    played = () if arguments.family else session.profile.machine_models
    backends = tuple(dict.fromkeys(arguments.backend)) or session.registry.names
    most = arguments.jobs or default_jobs()
    shapes = PlannedShapes(session, backends, targets, vectors, played, processes=most)
    with closing(session):
        for name in backends:
            if (reason := session.why_not(name)) is not None:
                console.say(f"{name}: {reason}")
        plan = plan_builds(session, backends, shapes.of, jobs=most, modules=arguments.module)
    _check_modules(arguments.module, plan)
    for line in plan.lines or ["no kernel module is needed"]:
        console.say(line)
    if arguments.dry_run:
        for name in sorted(module.name for module in plan.missing):
            console.say(name)
        return 0
    report = plan.build(console.say)
    console.say(f"{len(report.built)} built in {report.seconds:.0f} s, {len(report.cached)} cached")
    for name, why in report.failures.items():
        console.say(f"{name} does not build: {why}")
    if arguments.export is not None:
        _export(plan, set(report.failures), Path(arguments.export), console)
    return EXIT_FAILED if report.failures else 0


def _session(arguments: argparse.Namespace) -> Session:
    from attnconf.cases.drawing.profiles import profile_named
    from attnconf.platforms import detect, simulate
    from attnconf.running.session import Session

    profile = profile_named(arguments.profile)
    if arguments.model:
        profile = profile.of(tuple(arguments.model))
    platform = simulate(arguments.sm) if arguments.sm else detect()
    if platform.sm is None:
        machine = "this machine"
        raise InvalidInputError(machine, given="it has no GPU to build for", allowed="--sm M.N, such as --sm 9.0")
    session = Session(platform=platform, profile=profile)
    return session if arguments.budget is None else replace(session, build_budget=arguments.budget)


def _families(asked: list[str]) -> tuple[Family, ...]:
    from attnconf.cases.drawing.families import FAMILIES

    option = "--family"
    for name in asked:
        if name not in FAMILIES:
            raise InvalidInputError(option, given=ascii(name), allowed=", ".join(FAMILIES))
    return tuple(family for family in FAMILIES if not asked or family in asked)


def _check_modules(asked: list[str], plan: BuildPlan) -> None:
    planned = {module.name for module in (*plan.missing, *plan.cached)}
    option, allowed = "--module", "a module that the profile needs (attnconf build --dry-run --budget inf)"
    for name in asked:
        if name not in planned:
            raise InvalidInputError(option, given=ascii(name), allowed=allowed)


def _export(plan: BuildPlan, failed: set[str], folder: Path, console: Console) -> None:
    for name, needed in plan.backends.items():
        finished = [module for module in (*needed.cached, *needed.missing) if module.name not in failed]
        if finished:
            try:
                copies = needed.builder().export(finished, folder)
            except UnsupportedError as error:
                console.say(f"{name}: {error}")
                continue
            console.say(
                f"{len(copies)} modules in {folder}, {sum(copy.stat().st_size for copy in copies) / 2**20:.1f} MiB"
            )
