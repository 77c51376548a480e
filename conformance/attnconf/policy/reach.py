"""Reach: the sets of conditions that can hold at once, each with a question as an example.

A condition is a conjunction over axes, so the conditions that hold at once are the intersection over axes of those that
hold on each one. Taking one axis after the other, and keeping each intersection once, covers the whole product without
listing it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from attnconf.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from attnconf.policy.axes import Axis
    from attnconf.policy.conditions import Condition
    from attnconf.policy.question import Named, Question

MOST_STATES = 20_000
MOST_WORK = 2_000_000
"""The most sets of conditions times conditions, for all architectures of a policy together: a few seconds."""

"""Far above any policy that a person writes; past it the policy is refused instead of analysed for hours."""

OPEN: tuple[Named, ...] = ("none", "prefill", "decode")
"""Choices of users that leave something to the policy."""

EVERY: tuple[Named, ...] = (*OPEN, "both", "split")
"""All choices of users."""


def reachable(
    conditions: Sequence[Condition], start: Question, *, users: tuple[Named, ...] = ()
) -> Mapping[frozenset[int], Question]:
    """Return each set of ``conditions``, by index, that holds for some question, with the first such question.

    The questions vary the settings of ``start``; with ``users`` they also vary the platform and the user's choice.
    ``start`` comes first. Raises ``InvalidInputError`` when more than ``MOST_STATES`` sets can hold.
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
            if len(found) > MOST_STATES or len(found) * len(conditions) > MOST_WORK:
                refuse_too_many()
        states = found
    return {
        frozenset(index for index in range(len(conditions)) if mask >> index & 1): _question(start, values)
        for mask, values in states.items()
    }


def refuse_too_many() -> NoReturn:
    """Raise ``InvalidInputError``: conditions overlap in more ways than can be looked at in seconds."""
    source, allowed = "policy", f"{MOST_STATES} ways at most, and fewer of many rules"
    raise InvalidInputError(source, given="rules that overlap in too many ways", allowed=allowed)


def _answers(
    axis: Axis[Any, Any], asked: Sequence[Any], start: Question, *, users: tuple[Named, ...]
) -> dict[int, Any]:
    """Return the conditions that hold on an axis for each sample, as bit masks, each with its first sample."""
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
