"""The machine: Hypothesis draws events, the world judges them, and a broken clause becomes a short story."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, Phase, Verbosity, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from attnconf.serving import provider
from attnconf.serving.events import Abort, Evict, Preempt, Reorder, Step, Submit
from attnconf.serving.judge import WrongStep
from attnconf.serving.scheduler import Scheduler
from attnconf.serving.sequences import VOCABULARY
from attnconf.serving.shorten import shorten
from attnconf.serving.violation import Violation
from attnconf.serving.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from attnconf.serving.events import Event
    from attnconf.serving.managers.protocol import Manager
    from attnconf.serving.world import BatchRow

EVENTS_A_STORY = 50
MOST_ALIVE = 6
"""Requests that have not ended."""

_PROMPTS = st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=24).map(tuple)
_CHUNKS = st.sampled_from((1, 2, 3, 4, 5, 7, 8, 16, 64))


@dataclass
class Played:
    """What one run of the machine did: whole stories, their events, and the batches among them."""

    stories: int = 0
    events: int = 0
    batches: int = 0
    kinds: dict[str, int] = field(default_factory=dict)

    def add(self, world: World) -> None:
        """Count a story that has ended."""
        self.stories += 1
        self.events += len(world.story)
        self.batches += world.batches
        for event in world.story:
            name = type(event).__name__
            self.kinds[name] = self.kinds.get(name, 0) + 1

    def join(self, other: Played) -> None:
        """Add what another run did."""
        self.stories += other.stories
        self.events += other.events
        self.batches += other.batches
        for name, count in other.kinds.items():
            self.kinds[name] = self.kinds.get(name, 0) + count


def play(  # noqa: PLR0913 - whose memory and scheduler, how long, and who judges
    memory: Callable[[], Manager],
    *,
    stories: int,
    start: int = 0,
    scheduler: type[Scheduler] = Scheduler,
    judge: Callable[[list[BatchRow], Sequence[Event]], None] = lambda _rows, _story: None,
    drafts: bool = True,
    stretch: int = 1,
    ended: Callable[[World], None] = lambda _world: None,
) -> Played:
    """Play ``stories`` of up to ``EVENTS_A_STORY`` events over fresh memories, the same ones for each ``start``.

    Raises ``Violation`` or ``WrongStep`` with the shortest story that is found, and what else ``judge`` raises. Without
    ``drafts`` no batch has any: some memories take none. A drawn token stands for up to ``stretch`` of a prompt or
    chunk. ``ended`` gets the world of each whole story. Works without pytest, and keeps no database.
    """
    played = Played()

    class Machine(_Machine):
        def new_world(self) -> World:
            return World(memory(), judge, scheduler)

        def told(self, world: World) -> None:
            played.add(world)
            ended(world)

    Machine.drafts_allowed, Machine.stretch = drafts, stretch
    how = settings(
        max_examples=stories,
        stateful_step_count=EVENTS_A_STORY,
        backend=provider.NAME,
        database=None,
        deadline=None,
        phases=(Phase.generate,),  # stories are shortened below, event by event
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
    )
    try:
        run_state_machine_as_test(seed(start)(Machine), settings=how)
    except (Violation, WrongStep) as broken:
        raise shorten(broken, Machine().new_world) from broken.__cause__
    return played


class _Machine(RuleBasedStateMachine):
    """Draws one event after another; each must be one that can happen now."""

    drafts_allowed = True
    stretch = 1

    def __init__(self) -> None:
        super().__init__()
        self.world = self.new_world()
        self.broken = False

    def new_world(self) -> World:
        raise NotImplementedError

    def told(self, world: World) -> None:
        raise NotImplementedError

    @precondition(lambda self: len(self.world.alive) < MOST_ALIVE)
    @rule(
        own=_PROMPTS,
        like=st.integers(0, 7),
        shared=st.integers(0, 40),
        answer=st.integers(1, 12),
    )
    def submit(self, own: tuple[int, ...], like: int, shared: int, answer: int) -> None:
        """Submit a request, whose prompt may begin as an earlier one."""
        earlier = self.world.prompts
        odd = (len(own) + sum(own)) % self.stretch
        begun = earlier[-1 - like % len(earlier)][: max(0, shared * self.stretch - odd)] if earlier else ()
        new = tuple(token for token in own for _ in range(self.stretch))[odd:]
        self._apply(Submit(len(earlier), (*begun, *new), answer))

    @precondition(lambda self: self.world.alive)
    @rule(chunk=_CHUNKS)
    def step(self, chunk: int) -> None:
        """Run a batch."""
        self._apply(Step(self._tokens(chunk)))

    @precondition(lambda self: self.world.alive)
    @rule(chunk=_CHUNKS, padding=st.integers(1, 3))
    def padded_step(self, chunk: int, padding: int) -> None:
        """Run a batch, with the padding rows of a captured graph if it decodes."""
        self._apply(Step(self._tokens(chunk), padding=padding))

    @precondition(lambda self: self.world.running and self.drafts_allowed)
    @rule(chunk=_CHUNKS, drafts=st.integers(1, 7), accepted=st.integers(0, 7))
    def draft(self, chunk: int, drafts: int, accepted: int) -> None:
        """Run a batch with drafts, of which some are right."""
        self._apply(Step(self._tokens(chunk), drafts, min(accepted, drafts)))

    @precondition(lambda self: self.world.running)
    @rule(which=st.integers(0, 7))
    def preempt(self, which: int) -> None:
        """Preempt a running request."""
        self._apply(Preempt(self.world.running[which % len(self.world.running)]))

    @precondition(lambda self: self.world.alive)
    @rule(which=st.integers(0, 7))
    def abort(self, which: int) -> None:
        """Abort a request."""
        self._apply(Abort(self.world.alive[which % len(self.world.alive)]))

    @precondition(lambda self: self.world.story and not isinstance(self.world.story[-1], Evict))
    @rule()
    def evict(self) -> None:
        """Empty the prefix cache."""
        self._apply(Evict())

    @precondition(lambda self: len(self.world.running) > 1)
    @rule(turn=st.integers(1, 3))
    def reorder(self, turn: int) -> None:
        """Change the order of the batch."""
        self._apply(Reorder(turn))

    def teardown(self) -> None:
        """All requests end, and the memory is whole."""
        if not self.broken:
            self.world.finish()
            self.told(self.world)

    def _tokens(self, chunk: int) -> int:
        """Return the tokens of a drawn chunk, which need not end where a page does."""
        return chunk * self.stretch - len(self.world.story) % self.stretch

    def _apply(self, event: Event) -> None:
        try:
            self.world.apply(event)
        except BaseException:
            self.broken = True
            raise


__all__ = ["Played", "Violation", "play"]
