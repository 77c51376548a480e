"""Reach: which sets of conditions can hold at once, each with a question that shows it.

A condition is a conjunction over axes, so what holds at once is the intersection of what each axis lets hold. Walking
the axes one after the other, and keeping each intersection once, covers the whole product without listing it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attnconf.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from attnconf.policy.axes import Axis
    from attnconf.policy.conditions import Condition
    from attnconf.policy.question import Named, Question

MOST_STATES = 20_000
"""Far above any policy that a person writes; past it the policy is refused instead of analysed for hours."""

OPEN: tuple[Named, ...] = ("none", "prefill", "decode")
"""The users who leave something to decide."""

EVERY: tuple[Named, ...] = (*OPEN, "both", "split")


def reachable(
    conditions: Sequence[Condition], start: Question, *, users: tuple[Named, ...] = ()
) -> Mapping[frozenset[int], Question]:
    """Return each set of ``conditions``, by index, that holds for some question, with the first such question.

    Questions differ from ``start`` in their settings; with ``users`` in their platform, too, and in which of these
    sides the user named. ``start`` comes first. Raises ``InvalidInputError`` when more than ``MOST_STATES`` sets can
    hold.
    """
    asks = [condition.asks for condition in conditions]
    axes = dict.fromkeys(axis for one in asks for axis in one)
    states: dict[int, dict[Axis[Any, Any], Any]] = {(1 << len(conditions)) - 1: {}}
    for axis in axes:
        asked = [one.get(axis) for one in asks]
        answers = _answers(axis, asked, start, users=users)
        found: dict[int, dict[Axis[Any, Any], Any]] = {}
        for mask, values in states.items():
            for here, value in answers.items():
                found.setdefault(mask & here, {**values, axis: value})
            if len(found) > MOST_STATES:
                raise InvalidInputError(
                    "policy", given="rules that overlap in too many ways", allowed=f"{MOST_STATES} ways at most"
                )
        states = found
    return {
        frozenset(index for index in range(len(conditions)) if mask >> index & 1): _question(start, values)
        for mask, values in states.items()
    }


def _answers(
    axis: Axis[Any, Any], asked: Sequence[Any], start: Question, *, users: tuple[Named, ...]
) -> dict[int, Any]:
    """Return which conditions each sample of an axis lets hold, as a bit mask, with the first such sample."""
    answers: dict[int, Any] = {}
    for value in _samples(axis, asked, start, users=users):
        mask = sum(1 << index for index, one in enumerate(asked) if one is None or axis.contains(one, value))
        answers.setdefault(mask, value)
    return answers


def _samples(axis: Axis[Any, Any], asked: Sequence[Any], start: Question, *, users: tuple[Named, ...]) -> Iterator[Any]:
    yield axis.value_of(start)
    if axis.role == "user":
        yield from users
    elif axis.role == "setting" or users:
        yield from axis.samples([one for one in asked if one is not None])


def _question(start: Question, values: Mapping[Axis[Any, Any], Any]) -> Question:
    found = start
    for axis, value in values.items():
        if value != axis.value_of(start):
            found = axis.put(found, value)
    return found
