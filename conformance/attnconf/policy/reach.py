"""Reach: which sets of conditions can hold at once, each with a question that shows it.

A condition is a conjunction over axes, so what holds at once is the intersection of what each axis lets hold. Walking
the axes one after the other, and keeping each intersection once, covers the whole product without listing it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from attnconf.cases.case import KVDtype
from attnconf.errors import InvalidInputError
from attnconf.policy.conditions import OPEN_PAGE_SIZE, PACKAGE, meets, platform_value, value_of
from attnconf.policy.question import Mask, Named, Question, UserChoice
from attnconf.policy.ranges import sm_samples, version_samples, whole_samples

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from attnconf.policy.conditions import Axis, Condition

MOST_STATES = 20_000
"""Far above any policy that a person writes; past it the policy is refused instead of analysed for hours."""

_USERS: dict[Named, UserChoice] = {
    "none": UserChoice(),
    "prefill": UserChoice(prefill="user"),
    "decode": UserChoice(decode="user"),
    "both": UserChoice(attention="user"),
    "split": UserChoice(prefill="user", decode="another"),
}
OPEN: tuple[Named, ...] = ("none", "prefill", "decode")
"""The users who leave something to decide."""

EVERY: tuple[Named, ...] = (*OPEN, "both", "split")
_PLATFORM_AXES = ("sm", "cuda")


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
    states: dict[int, dict[Axis, Any]] = {(1 << len(conditions)) - 1: {}}
    for axis in axes:
        asked = [one.get(axis) for one in asks]
        answers = _answers(axis, asked, start, users=users)
        found: dict[int, dict[Axis, Any]] = {}
        for mask, values in states.items():
            for here, value in answers.items():
                found.setdefault(mask & here, {**values, axis: value})
            if len(found) > MOST_STATES:
                source = "policy"
                raise InvalidInputError(
                    source, given="rules that overlap in too many ways", allowed=f"{MOST_STATES} ways at most"
                )
        states = found
    return {
        frozenset(index for index in range(len(conditions)) if mask >> index & 1): _question(start, values)
        for mask, values in states.items()
    }


def _answers(axis: Axis, asked: Sequence[Any], start: Question, *, users: tuple[Named, ...]) -> dict[int, Any]:
    """Return which conditions each sample of an axis lets hold, as a bit mask, with the first such sample."""
    answers: dict[int, Any] = {}
    for value in _samples(axis, asked, start, users=users):
        mask = sum(1 << index for index, one in enumerate(asked) if one is None or meets(axis, one, value))
        answers.setdefault(mask, value)
    return answers


def _samples(axis: Axis, asked: Sequence[Any], start: Question, *, users: tuple[Named, ...]) -> Iterator[Any]:
    given = [one for one in asked if one is not None]
    of_platform = axis in _PLATFORM_AXES or axis.startswith(PACKAGE)
    yield value_of(axis, start)
    if of_platform and users:
        yield from sm_samples(text for some in given for text in some) if axis == "sm" else version_samples(given)
    elif axis == "user":
        yield from users
    elif axis == "kv_dtype":
        yield from get_args(KVDtype)
    elif axis == "mask":
        yield from get_args(Mask)
    elif axis == "speculative":
        yield from ("none", *(name for some in given for name in some), "another")
    elif axis in {"q_len", "topk", "page_size"}:
        limits = (one for some in given for one in some if one != OPEN_PAGE_SIZE)
        yield from whole_samples(limits, None if axis == "page_size" else 1)


def _question(start: Question, values: Mapping[Axis, Any]) -> Question:
    platform, packages = {}, dict(start.platform.packages)
    settings: dict[str, Any] = {}
    for axis, value in values.items():
        if axis in _PLATFORM_AXES:
            platform[axis] = value
        elif not axis.startswith(PACKAGE):
            settings[axis] = value
        elif value != platform_value(axis, start.platform):
            packages[axis.removeprefix(PACKAGE)] = value
    if "user" in settings:
        settings["user"] = start.user if settings["user"] == start.user.named else _USERS[settings["user"]]
    kept = {name: version for name, version in packages.items() if version is not None}
    platform_now = start.platform.model_copy(update={**platform, "packages": kept})
    return start.model_copy(update={**settings, "platform": platform_now})
