"""``attnconf machine``: play a scheduler over a memory manager, and judge every batch that it makes."""

from __future__ import annotations

import json
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from attnconf.cli.arguments import Commands, check_least, make_session
from attnconf.cli.statuses import EXIT_FAILED
from attnconf.errors import InvalidInputError
from attnconf.escape import shell
from attnconf.files import refuse_unwritable, write_text
from attnconf.wording import counted

if TYPE_CHECKING:
    import argparse

    from attnconf.cli.console import Console
    from attnconf.running.session import Session
    from attnconf.serving.judge import StepJudge
    from attnconf.serving.machine import Played
    from attnconf.serving.setting import Setting
    from attnconf.serving.shorten import Broken

_STORIES_AT_ONCE = 20
_SMALL_FOR_ONE = 7
"""Batches with small layers for each with a model's."""


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("machine", help="play a scheduler over paged memory, and judge every batch")
    parser.add_argument("--memory", metavar="M", help="whose memory manager (own)")
    parser.add_argument("--steps", type=int, default=1000, metavar="N", help="events at least (1000)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="play other stories (0)")
    parser.add_argument("--backend", default="reference", metavar="B", help="what answers the batches (reference)")
    parser.add_argument("--model", metavar="M", help="every eighth judged batch has the layers of this model")
    parser.add_argument("--judge-every", type=int, default=1, metavar="N", help="judge one batch of N; 0 none (1)")
    parser.add_argument("--save", metavar="FILE", help="write a case that a backend fails")
    parser.add_argument("--save-story", metavar="FILE", help="write the events that lead to what breaks")
    parser.add_argument("--record", metavar="DIR", help="save judged batches as cases for replay, one of each shape")
    parser.add_argument("--ledger", metavar="FILE", help="write how each request ended, for verify-requests")
    parser.add_argument("--story", metavar="FILE", help="tell this story again, and nothing else")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Play until so many events have happened; return 1 for a broken clause, whose story is printed."""
    from attnconf.running.bookkeeper import Bookkeeper
    from attnconf.serving.judge import WrongStep
    from attnconf.serving.machine import Played, play
    from attnconf.serving.managers.registry import manager_named
    from attnconf.serving.recorder import Recorder
    from attnconf.serving.setting import Setting
    from attnconf.serving.violation import Violation

    check_least(arguments, steps=1, seed=0, judge_every=0)
    for name in (arguments.save, arguments.save_story, arguments.ledger):
        if name is not None:
            refuse_unwritable(Path(name))
    record = None if arguments.record is None else Recorder(Path(arguments.record))
    if arguments.story is not None:
        return _tell_again(arguments, console)
    name = arguments.memory or "own"
    manager_named(name)  # refuses what is none
    setting = Setting(memory=name)
    memory = setting.factory()
    session = make_session()
    started, total = time.perf_counter(), Played()
    with closing(session):
        judge = _judge(arguments, session, setting)
        judge.record = record
        books = Bookkeeper()
        start = arguments.seed * 1_000_003
        while total.events < arguments.steps:
            try:
                total.join(
                    play(memory, stories=_STORIES_AT_ONCE, start=start, judge=judge, drafts=setting.drafts, ended=books)
                )
            except (Violation, WrongStep) as broken:
                return _broken(arguments, console, setting, broken)
            start += 1
    if arguments.ledger is not None:
        books.ledger.write(Path(arguments.ledger))
        console.say(shell(["attnconf", "verify-requests", arguments.ledger]))
    if record is not None:
        console.say(
            f"{counted(record.saved, 'case')} in {arguments.record}; attnconf replay judges them on any backend"
        )
    console.say(_summary(arguments, setting, total, judge, time.perf_counter() - started))
    return 0


def _tell_again(arguments: argparse.Namespace, console: Console) -> int:
    """Tell the story of a file; return 1 if it breaks a clause, or the backend is wrong."""
    from attnconf.serving.shorten import retell
    from attnconf.serving.story import Story
    from attnconf.serving.world import World

    for option in ("memory", "model"):
        if getattr(arguments, option) is not None:
            raise InvalidInputError(f"--{option}", given=f"beside --story {arguments.story}", allowed="the story's own")
    story = Story.read(Path(arguments.story))
    session = make_session()
    with closing(session):
        judge = _judge(arguments, session, story.setting)
        world = World(story.setting.factory()(), judge)
        broken = retell(world, story.events)
    if broken is not None:
        return _broken(arguments, console, story.setting, broken)
    judged = f"{counted(judge.judged, 'case')} judged on {arguments.backend}, at most {judge.worst:.2f} units"
    console.say(f"{story.setting.memory}: {counted(len(world.story), 'event')}, {judged}, no clause broken")
    return 0


def _broken(arguments: argparse.Namespace, console: Console, setting: Setting, broken: Broken) -> int:
    """Print what breaks, with its story, and save what is asked for."""
    from attnconf.cases.geometry import unsharded
    from attnconf.report.failure import describe_failure
    from attnconf.serving.judge import WrongStep
    from attnconf.serving.story import Story

    if isinstance(broken, WrongStep):
        case = broken.result.case
        setting = setting.model_copy(update={"model": unsharded(case.model)})
        lines = [*describe_failure(broken.result).splitlines(), *broken.lines]
        if arguments.save is not None:
            write_text(Path(arguments.save), json.dumps(case.to_data(), indent=1) + "\n")
            lines.append(shell(["attnconf", "replay", arguments.save]))
    else:
        lines = f"{setting.memory} breaks {broken}".splitlines()
    if arguments.save_story is not None:
        Story(setting=setting, events=broken.story).write(Path(arguments.save_story))
        lines.append(shell(["attnconf", "machine", "--story", arguments.save_story, "--backend", arguments.backend]))
    for line in lines:
        console.say(line)
    return EXIT_FAILED


def _judge(arguments: argparse.Namespace, session: Session, setting: Setting) -> StepJudge:
    """Return the judge of batches. Raises ``InvalidInputError`` for a model that the memory cannot hold."""
    from attnconf.serving.judge import StepJudge, pool_sizes

    accelerated = session.platform.sm is not None
    geometries = [setting.layers(accelerated=accelerated)]
    if arguments.model is not None:
        modelled = setting.model_copy(update={"model": arguments.model})
        geometries = [*geometries * _SMALL_FOR_ONE, modelled.layers(accelerated=accelerated)]
    run = partial(session.ask, backend=arguments.backend, checks="base", explain=False, count_effects=False)
    sizes = pool_sizes(setting.factory()())
    return StepJudge(run, sizes, geometries, every=arguments.judge_every, q_dtype=setting.q_dtype)


def _summary(arguments: argparse.Namespace, setting: Setting, played: Played, judge: StepJudge, seconds: float) -> str:
    kinds = ", ".join(f"{count:,} {name}" for name, count in sorted(played.kinds.items()))
    return (
        f"{setting.memory}: {counted(played.events, 'event')} of {played.stories:,} stories ({kinds}),"
        f" {counted(judge.judged, 'case')} of {played.batches:,} batches judged on {arguments.backend}"
        f" ({counted(judge.layers, 'layer')}, at most {judge.worst:.2f} units), no clause broken, {seconds:.0f} s"
    )
