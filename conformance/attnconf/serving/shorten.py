"""Shorten: the smallest story that breaks the same clause, by leaving out events and making them smaller."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from attnconf.serving.events import Abort, Evict, Preempt, Reorder, Step, Submit
from attnconf.serving.judge import WrongStep
from attnconf.serving.violation import Violation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from attnconf.serving.events import Event
    from attnconf.serving.world import World

_LARGE_CHUNK = 64
SECONDS = 20.0
"""How long a story may be made shorter: a manager of an engine may take milliseconds an event."""


Broken: TypeAlias = "Violation | WrongStep"


def retell(world: World, story: Sequence[Event]) -> Broken | None:
    """Let those events of ``story`` happen that can, then let all requests end; return what breaks, if anything."""
    try:
        for event in story:
            if _can_happen(world, event):
                world.apply(event)
        world.finish()
    except (Violation, WrongStep) as broken:
        return broken
    return None


def shorten(broken: Broken, new_world: Callable[[], World]) -> Broken:
    """Return what breaks in the same way with the shortest story that is found, each told to a new world."""
    best = broken
    improved, deadline = True, time.monotonic() + SECONDS
    while improved:
        improved = False
        for story in _smaller(best.story):
            if time.monotonic() > deadline:
                return best
            found = retell(new_world(), story)
            if found is not None and found.kind == best.kind and _size(found.story) < _size(best.story):
                best, improved = found, True
                break
    return best


def _size(story: Sequence[Event]) -> tuple[int, int]:
    """Return how long a story is: its events, then what they are about."""
    return len(story), sum(_weight(event) for event in story)


def _weight(event: Event) -> int:
    if isinstance(event, Submit):
        return 10 * len(event.prompt) + sum(event.prompt) + 10 * event.answer
    if isinstance(event, Step):
        return 2 * event.drafts + event.accepted + event.padding + (event.chunk != _LARGE_CHUNK)
    return 0


def _can_happen(world: World, event: Event) -> bool:
    if isinstance(event, Submit):
        return event.request not in world.known
    if isinstance(event, Preempt):
        return event.request in world.running
    if isinstance(event, Abort):
        return event.request in world.alive
    if isinstance(event, Reorder):
        return len(world.running) > 1
    return isinstance(event, Evict) or bool(world.alive)


def _smaller(story: Sequence[Event]) -> Iterator[list[Event]]:
    """Yield smaller stories: half of the events left out, then fewer, then single events made smaller."""
    length = len(story) // 2
    while length:
        for start in range(0, len(story) - length + 1, max(1, length // 2)):
            yield [*story[:start], *story[start + length :]]
        length //= 2
    for place, event in enumerate(story):
        for simpler in _simpler(event):
            yield [*story[:place], simpler, *story[place + 1 :]]


def _simpler(event: Event) -> Iterator[Event]:
    if isinstance(event, Submit):
        for length in sorted({1, len(event.prompt) // 2, len(event.prompt) - 1} - {0, len(event.prompt)}):
            yield replace(event, prompt=event.prompt[:length])
        if any(event.prompt):
            yield replace(event, prompt=(0,) * len(event.prompt))
        for answer in sorted({1, event.answer // 2, event.answer - 1} - {0, event.answer}):
            yield replace(event, answer=answer)
    elif isinstance(event, Step):
        if event.padding:
            yield replace(event, padding=0)
        if event.drafts:
            yield replace(event, drafts=0, accepted=0)
            yield replace(event, drafts=1, accepted=min(event.accepted, 1))
        if event.accepted:
            yield replace(event, accepted=0)
        if event.chunk != _LARGE_CHUNK:
            yield replace(event, chunk=_LARGE_CHUNK)
