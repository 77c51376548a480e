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
from attnconf.files import refuse_unwritable, write_text
from attnconf.wording import counted

if TYPE_CHECKING:
    import argparse

    from attnconf.cli.console import Console
    from attnconf.running.session import Session
    from attnconf.serving.judge import StepJudge
    from attnconf.serving.machine import Played
    from attnconf.serving.managers.protocol import Manager

_STORIES_AT_ONCE = 20
_SMALL_FOR_ONE = 7
"""Batches with small layers for each with a model's."""


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("machine", help="play a scheduler over paged memory, and judge every batch")
    parser.add_argument("--memory", default="own", metavar="M", help="whose memory manager (own)")
    parser.add_argument("--steps", type=int, default=1000, metavar="N", help="events at least (1000)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="play other stories (0)")
    parser.add_argument("--backend", default="reference", metavar="B", help="what answers the batches (reference)")
    parser.add_argument("--model", metavar="M", help="every eighth judged batch has the layers of this model")
    parser.add_argument("--judge-every", type=int, default=1, metavar="N", help="judge one batch of N; 0 none (1)")
    parser.add_argument("--save", metavar="FILE", help="write a case that a backend fails")
    parser.add_argument("--record", metavar="DIR", help="save judged batches as cases for replay, one of each shape")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Play until so many events have happened; return 1 for a broken clause, whose story is printed."""
    from attnconf.report.failure import describe_failure
    from attnconf.serving.judge import WrongStep
    from attnconf.serving.machine import Played, play
    from attnconf.serving.managers.registry import DRAFTLESS, manager_named
    from attnconf.serving.recorder import Recorder
    from attnconf.serving.violation import Violation

    check_least(arguments, steps=1, seed=0, judge_every=0)
    if arguments.save is not None:
        refuse_unwritable(Path(arguments.save))
    record = None if arguments.record is None else Recorder(Path(arguments.record))
    memory = manager_named(arguments.memory)
    drafts = arguments.memory not in DRAFTLESS
    session = make_session()
    started, total = time.perf_counter(), Played()
    with closing(session):
        judge = _judge(arguments, session, memory())
        judge.record = record
        start = arguments.seed * 1_000_003
        while total.events < arguments.steps:
            try:
                total.join(play(memory, stories=_STORIES_AT_ONCE, start=start, judge=judge, drafts=drafts))
            except Violation as broken:
                for line in f"{arguments.memory} breaks {broken}".splitlines():
                    console.say(line)
                return EXIT_FAILED
            except WrongStep as wrong:
                for line in describe_failure(wrong.result).splitlines():
                    console.say(line)
                if arguments.save is not None:
                    write_text(Path(arguments.save), json.dumps(wrong.result.case.to_data(), indent=1) + "\n")
                    console.say(f"attnconf replay {arguments.save}")
                return EXIT_FAILED
            start += 1
    if record is not None:
        console.say(
            f"{counted(record.saved, 'case')} in {arguments.record}; attnconf replay judges them on any backend"
        )
    console.say(_summary(arguments, total, judge, time.perf_counter() - started))
    return 0


def _judge(arguments: argparse.Namespace, session: Session, memory: Manager) -> StepJudge:
    """Return the judge of batches. Raises ``InvalidInputError`` for a model that the memory cannot hold."""
    from attnconf.cases.models import load_model
    from attnconf.serving.judge import StepJudge, pool_sizes
    from attnconf.serving.layers import model_layers, small_layers

    geometries = [("free", small_layers(memory.window_left))]
    if arguments.model is not None:
        layers = model_layers(load_model(arguments.model), memory.window_left)
        geometries = [*geometries * _SMALL_FOR_ONE, (arguments.model, layers)]
    run = partial(session.ask, backend=arguments.backend, checks="base", explain=False, count_effects=False)
    return StepJudge(run, pool_sizes(memory), geometries, every=arguments.judge_every)


def _summary(arguments: argparse.Namespace, played: Played, judge: StepJudge, seconds: float) -> str:
    kinds = ", ".join(f"{count:,} {name}" for name, count in sorted(played.kinds.items()))
    return (
        f"{arguments.memory}: {counted(played.events, 'event')} of {played.stories:,} stories ({kinds}),"
        f" {counted(judge.judged, 'case')} of {played.batches:,} batches judged on {arguments.backend}"
        f" ({counted(judge.layers, 'layer')}, at most {judge.worst:.2f} units), no clause broken, {seconds:.0f} s"
    )
