"""``attnconf campaign``: many random cases, for false alarms and for how tight the profiles are.

The text says the outcomes, and how the errors lie under the bound, kernel by kernel.
"""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from attnconf.backends.protocol import shown_name
from attnconf.cases.dtypes import FP8, KVDtype
from attnconf.clauses import cite
from attnconf.cli.arguments import Commands, add_engine, check_least, open_engine
from attnconf.cli.statuses import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_NOTHING_EXECUTED
from attnconf.files import refuse_unwritable, write_text
from attnconf.judging.units import EDGES
from attnconf.version import __version__
from attnconf.wording import counted

if TYPE_CHECKING:
    import argparse

    from attnconf.cli.console import Console
    from attnconf.judging.result import CaseResult
    from attnconf.platforms import Platform
    from attnconf.running.campaigns.campaign import Campaign
    from attnconf.running.campaigns.campaign_report import CampaignReport
    from attnconf.running.processes.declaration import Declaration


_FINDS = "ATTNCONF_FINDS"
"""The environment variable that names the database of finds."""


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("campaign", help="many random cases: false alarms, and how tight the profiles are")
    parser.add_argument("--backend", required=True, metavar="B")
    parser.add_argument(
        "--family",
        action="append",
        default=[],
        metavar="F",
        help="a family of the suite (repeatable; all that --model has)",
    )
    parser.add_argument(
        "--model", action="append", default=[], metavar="M", help="a shipped model (repeatable; free: any geometry)"
    )
    parser.add_argument("--kv-dtype", choices=get_args(KVDtype), help="only cases with such keys and values (all)")
    parser.add_argument(
        "--head-scales", action="store_true", help="8-bit keys and values with scales of each KV head, where several"
    )
    parser.add_argument("--examples", type=int, default=1000, metavar="N", help="cases in all (1000)")
    parser.add_argument("--profile", choices=("nightly",), help="as many cases, models and lengths as a night has")
    add_engine(parser, jobs=1, told="1")
    parser.add_argument(
        "--seed", type=int, metavar="N", help="draw other cases (0; of the clock for --profile nightly)"
    )
    parser.add_argument(
        "--finds",
        metavar="URL",
        default=os.environ.get(_FINDS),
        help=f"a redis database that shares failing cases: those of before are asked first (${_FINDS})",
    )
    parser.add_argument("--seconds", type=float, default=math.inf, metavar="S", help="begin no more cases after S")
    parser.add_argument("--json", metavar="FILE", help="write counts and histograms as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Run the campaign and print what came of it."""
    from attnconf.running.campaigns.campaign import declared, search
    from attnconf.running.campaigns.finds import open_finds

    check_least(arguments, examples=1, seconds=0)
    if arguments.json:
        refuse_unwritable(Path(arguments.json))
    campaign = _asked(arguments)
    finds = open_finds(arguments.finds, "--finds") if arguments.finds else None
    with open_engine(arguments) as engine:
        platform, backend = engine.everywhere(declared, arguments.backend)[0]
        before = [] if finds is None else finds.of_targets(backend.name, platform, campaign.targets)
        if before:
            console.say(f"{counted(len(before), 'case')} found before, asked first")
        report = search(campaign, engine, console.say, before)
        # Written before the processes are ended: that takes seconds on a GPU, and somebody may end this one meanwhile.
        if finds is not None:
            for why in filter(None, (finds.add(failure, platform) for failure in report.failures)):
                console.say(why)
        for line in campaign_lines(report, shown_name(backend.name, backend.evidence)):
            console.say(line)
        if arguments.json:
            data = campaign_data(report, backend, campaign, platform)
            write_text(Path(arguments.json), json.dumps(data, indent=1) + "\n")
    if report.interrupted:
        return EXIT_INTERRUPTED
    if report.failures or report.lost:
        return EXIT_FAILED
    return 0 if report.profiles else EXIT_NOTHING_EXECUTED


def _asked(arguments: argparse.Namespace) -> Campaign:
    """Return the campaign that the options ask for. Raises ``InvalidInputError``."""
    from attnconf.cases.drawing.families import pairs_of
    from attnconf.cases.drawing.profiles import profile_named
    from attnconf.cases.models import FREE_MODEL
    from attnconf.running.campaigns.campaign import Campaign

    profile = None if arguments.profile is None else profile_named(arguments.profile)
    models = arguments.model if profile is None or arguments.model else [*profile.models, FREE_MODEL]
    if arguments.seed is None:
        arguments.seed = 0 if profile is None or profile.derandomised else int(time.time())
    check_least(arguments, seed=0)
    return Campaign(
        backend=arguments.backend,
        targets=pairs_of(arguments.family, models),
        examples=arguments.examples,
        seed=arguments.seed,
        seconds=arguments.seconds,
        profile=profile,
        kv_dtype=arguments.kv_dtype or (FP8 if arguments.head_scales else None),
        head_scales=arguments.head_scales,
    )


def campaign_lines(report: CampaignReport, backend: str) -> list[str]:
    """Return the lines to print: a row for each kernel and profile, its layers by their worst error in units.

    A profile that is looser than tenfold is named, with its reason if it declares one.
    """
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in sorted(report.outcomes.items()))
    speed = report.executed / report.seconds if report.seconds else 0.0
    executed = f"{report.executed} of them executed ({speed:.1f} a second)"
    lines = [f"{backend}: {report.cases} cases in {report.seconds:.0f} s, {executed}; layers: {outcomes}"]
    if report.interrupted:
        lines.append(f"{backend}: interrupted; the rest was not asked")
    if report.build_seconds:
        lines.append(f"{backend}: kernels planned and built before, in {report.build_seconds:.0f} s")
    width = max((len(name) for name in report.profiles), default=0)
    if report.profiles:
        lines.append(_row("kernel".ljust(width), "worst", "median", [f"<={edge:g}" for edge in EDGES] + [">1"]))
    for name, found in sorted(report.profiles.items()):
        bins = [str(count) for count in found.histogram]
        lines.append(_row(name.ljust(width), f"{found.worst:.3f}", f"{found.median:.3f}", bins))
    for name, found in sorted(report.profiles.items()):
        if found.is_loose:
            reason = f": {found.reason}" if found.reason else ", and it declares no reason"
            lines.append(f"{name}: profile looser than tenfold{reason}")
    for result in report.failures:
        lines += [f"FAILED: {why} {result.case!r}" for why in dict.fromkeys(failure_reasons(result))]
    return [*lines, *(f"LOST: an exploration of {why}" for why in report.lost)]


def campaign_data(
    report: CampaignReport, backend: Declaration, campaign: Campaign, platform: Platform
) -> dict[str, object]:
    """Return a campaign as plain JSON data: what was asked of which backend, where, and what came of it.

    ``spared`` is what the cases came without, for the backend does not promise to bear it.
    """
    from attnconf.backends.demands import not_promised  # only now: it imports torch

    return {
        "backend": backend.name,
        "evidence": backend.evidence,
        "attnconf": __version__,
        "platform": platform.model_dump(mode="json"),
        "families": list(dict.fromkeys(family for family, _ in campaign.targets)),
        "models": list(dict.fromkeys(model for _, model in campaign.targets)),
        "seed": campaign.seed,
        "spared": list(not_promised(backend.promises)),
        **report.to_data(),
    }


def failure_reasons(result: CaseResult) -> list[str]:
    """Return what each failing layer of ``result`` ended in, on one line each."""
    reasons = []
    for layer in result.layers:
        if layer.outcome.is_failure:
            found = [f"{cite(failure.clause)}, check {failure.check}: {failure.summary}" for failure in layer.failures]
            reasons.append(f"{layer.outcome.value}: {'; '.join(found) or layer.reason}:")
    return reasons


def _row(kernel: str, worst: str, middle: str, bins: list[str]) -> str:
    return f"{kernel} {worst:>7} {middle:>7} " + " ".join(f"{text:>7}" for text in bins)
