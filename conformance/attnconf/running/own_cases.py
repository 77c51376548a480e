"""Own cases: what one backend is asked beside the shared ones, until it executes as much as the profile counts.

Shared cases come first, so that backends can be laid side by side. A backend declares some of their layers unsupported;
where it supports others of the same kind, mode and dtypes, further cases are drawn for it. One that takes a corner of
the space, such as decodes in two dtypes, would still execute few: so it gets others, until it executes a layer of as
many cases as the profile counts. What it declares is known before anything runs, so the same backend gets the same
cases everywhere, and builds can be planned for them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias

from attnconf.cases.drawing.draws import by_variety
from attnconf.cases.drawing.further import behind, further

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from attnconf.cases.case import Case, Mode
    from attnconf.cases.drawing.draws import Draws
    from attnconf.policy.requirements import RequiredCell

Key: TypeAlias = "tuple[str, Mode, str]"
"""A kind of layer, a mode, and the word for the dtypes: what a profile counts, for a backend and a model."""

ANY = "any"
"""Stands for all dtypes, as in a policy."""

Declines: TypeAlias = "Callable[[Sequence[Case]], Sequence[Sequence[str | None]]]"
"""For each layer of each case why the backend does not execute it, or None."""

DRAWN_FOR_ONE = 16
"""Cases that are drawn, at most, for each one that a profile counts: the budget of a backend."""

_LEAST_DRAWN = 60

_AT_ONCE = 32
"""Cases that a backend is asked about at a time: each question to a process of its own is a round trip."""

_SEVERAL = 2
"""Of so many cases the one is taken that has most new pairs of traits."""

_DRAWN_FOR_CASE = 64
"""Cases that are drawn, at most, for each shared one that is not executed: one takes a fraction of a millisecond."""


@dataclass(frozen=True)
class Selection:
    """The cases of one backend: ``draws`` has the shared ones first, then ``own`` cases of the backend.

    ``asked`` is how many layers the profile counts of what the backend can execute, ``planned`` how many of them it
    gets. ``unreached`` says why it gets no more, with the layers that are missing.
    """

    draws: tuple[Draws, ...]
    own: int
    asked: int
    planned: int
    unreached: dict[str, int]

    @property
    def cases(self) -> tuple[Case, ...]:
        """All cases, in the order in which they are asked."""
        return tuple(case for draws in self.draws for case in draws.cases)


def select(shared: Sequence[Draws], declines: Declines, required: Mapping[Key, int] | None = None) -> Selection:
    """Return the ``shared`` cases and those that a backend gets in place of what it ``declines``.

    The first of ``shared`` is the campaign from which more are drawn. ``required`` says how many layers a policy wants
    of a key, where the shared cases have fewer.
    """
    cases = [case for draws in shared for case in draws.cases]
    count = _Count(least=len(cases))
    for case, declined in zip(cases, declines(cases), strict=True):
        count.want(case)
        count.add(case, declined)
    for key, layers in (required or {}).items():
        count.wanted[key] = max(count.wanted[key], layers)
    numbers = _chosen(shared[0], declines, count)
    own = further(shared[0], tuple(numbers)) if numbers else None
    return Selection(
        draws=tuple(shared) if own is None else (*shared, own),
        own=len(numbers),
        asked=sum(layers for key, layers in count.wanted.items() if count.had[key] and ANY not in key),
        planned=sum(min(layers, count.had[key]) for key, layers in count.wanted.items() if ANY not in key),
        unreached=count.unreached(),
    )


def _chosen(draws: Draws, declines: Declines, count: _Count) -> list[int]:
    """Return the numbers of further cases: those that bring layers which are lacking, and the best of some others.

    ``count`` is brought up to date.
    """
    asked = len(draws.cases)
    most = max(_LEAST_DRAWN, DRAWN_FOR_ONE * max(asked, *count.wanted.values())) if asked else 0
    numbers: list[int] = []
    others: list[tuple[int, Case, Sequence[str | None]]] = []
    drawn = behind(draws, max(most, _DRAWN_FOR_CASE * asked))
    for turn, (number, case, declined) in enumerate(_declined(drawn, declines)):
        lacks_layers = turn < most and count.lacks_layers()
        if not lacks_layers and not count.may_lack(len(others), turn):
            break
        if lacks_layers and count.takes(case, declined):
            numbers.append(number)
        elif None in declined:
            others.append((number, case, declined))
    executed = [[layer for layer, reason in enumerate(declined) if reason is None] for _, _, declined in others]
    order = by_variety([case for _, case, _ in others], executed)
    for index in sorted(order[: max(0, count.least - count.met)]):
        number, case, declined = others[index]
        numbers.append(number)
        count.add(case, declined)
    return numbers


def _declined(
    numbered: Iterator[tuple[int, Case]], declines: Declines
) -> Iterator[tuple[int, Case, Sequence[str | None]]]:
    """Yield each case with its number and what is declined of it."""
    while some := list(islice(numbered, _AT_ONCE)):
        for (number, case), declined in zip(some, declines([case for _, case in some]), strict=True):
            yield number, case, declined


@dataclass
class _Count:
    """How many layers are ``wanted`` of each key, how many the backend executes, and why it declines others.

    ``met`` are the cases of which it executes a layer; ``least`` of them are wanted.
    """

    least: int
    met: int = 0
    wanted: Counter[Key] = field(default_factory=Counter)
    had: Counter[Key] = field(default_factory=Counter)
    reasons: dict[Key, Counter[str]] = field(default_factory=dict)

    def want(self, case: Case) -> None:
        self.wanted.update(keys_of(case))

    def add(self, case: Case, declined: Sequence[str | None]) -> None:
        """Count what the backend executes of ``case``, and what it declines."""
        self.met += None in declined
        for key, reason in zip(keys_of(case), declined, strict=True):
            for one in (key, _of_any(key)):
                if reason is None:
                    self.had[one] += 1
                else:
                    self.reasons.setdefault(one, Counter())[reason] += 1

    def takes(self, case: Case, declined: Sequence[str | None]) -> bool:
        """Return whether ``case`` brings a layer that is lacking; count it if so, else only why it was declined."""
        useful = any(
            reason is None and any(self.had[one] < self.wanted[one] for one in (key, _of_any(key)))
            for key, reason in zip(keys_of(case), declined, strict=True)
        )
        self.add(case, declined if useful else [reason or "" for reason in declined])
        return useful

    def may_lack(self, others: int, turn: int) -> bool:
        """Return whether more cases may be executed than were met, and are worth looking for beside ``others``.

        ``turn`` cases were drawn for it.
        """
        hopeful = self.met + others > 0 or turn < _LEAST_DRAWN
        return hopeful and others < _SEVERAL * (self.least - self.met)

    def lacks_layers(self) -> bool:
        """Return whether a key may still get more: one that has some layers, or was not declined often yet."""
        return any(
            self.had[key] < layers and (self.had[key] or sum(self.reasons.get(key, Counter()).values()) < _LEAST_DRAWN)
            for key, layers in self.wanted.items()
        )

    def unreached(self) -> dict[str, int]:
        """Return what is missing of each key, in words, with the reason that was given most often."""
        found: Counter[str] = Counter()
        for (kind, mode, dtypes), layers in self.wanted.items():
            key = (kind, mode, dtypes)
            missing = layers - self.had[key]
            if missing <= 0:
                continue
            reasons = {reason: many for reason, many in self.reasons.get(key, Counter()).items() if reason}
            why = max(sorted(reasons), key=reasons.__getitem__) if reasons else "no case of it was drawn"
            found[f"{kind} {mode} {dtypes}: {why}"] += missing
        return dict(sorted(found.items()))


def _of_any(key: Key) -> Key:
    return (*key[:2], ANY)


def required_layers(cells: Iterable[RequiredCell]) -> dict[tuple[str, str], dict[Key, int]]:
    """Return how many layers ``cells`` want of each key, by backend and model."""
    found: dict[tuple[str, str], dict[Key, int]] = {}
    for cell in cells:
        wanted = found.setdefault((cell.backend, cell.model), {})
        wanted[cell.layer_kind, cell.mode, cell.dtypes] = cell.executed
    return found


def keys_of(case: Case) -> list[Key]:
    """Return the key of each layer of ``case``."""
    return [(layer.cell_kind, case.mode, case.dtypes.text) for layer in case.layers]
