"""Search: on which rows, heads and requests the mistakes of a layer are tried, and the largest effect of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from attnconf.bounded import changes_by_row
from attnconf.cases.inputs.witnesses import probed_rows
from attnconf.judging.mistakes import MISTAKES, answers_to
from attnconf.judging.sizes import MOST_BYTES
from attnconf.judging.some_rows import ALL, Part, last_heads
from attnconf.precision import EFFECTIVE_UNITS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from attnconf.bounded import Bounded
    from attnconf.judging.mistakes import Mistake, Scene
    from attnconf.oracle.problem import Answer, Problem

CLAIMED = tuple(mistake for mistake in MISTAKES if mistake.claimed)

_ENDS = 2
"""Rows that are tried first in a scene: the first and the last."""


class Try(NamedTuple):
    """Mistaken questions or answers, by name, on a part of a scene; their effects are added to ``found``."""

    made: dict[str, Problem | Answer]
    scene: Scene
    expected: Bounded
    part: Part
    found: dict[str, float]


class Search:
    """The search in the ``scenes`` of one layer. ``found`` is the largest effect so far of each mistake, in units.

    At once it makes at most ``budget`` bytes of mistaken keys and values where it ``is_small``, else ``MOST_BYTES``.
    """

    def __init__(self, scenes: Iterable[tuple[Scene, Bounded]], budget: int) -> None:
        self._scenes = [(scene, expected) for scene, expected in scenes if expected.answer.out.shape[0]]
        self.found: dict[str, float] = {}
        self._largest = max((_bytes(scene) for scene, _ in self._scenes), default=1)
        self.is_small = self._largest * len(CLAIMED) <= budget
        self._budget = budget if self.is_small else MOST_BYTES

    def tries(self) -> Iterator[list[Try]]:
        """Yield what is tried next, which depends on what was found before; tries of one list are independent.

        What is left after the first scene's first part is tried on all others at once, where that is affordable.
        """
        for place, (scene, expected) in enumerate(self._scenes):
            rest = self._scenes[place:]
            if place and self._is_affordable(len(rest)):
                yield self._everywhere(rest)
                return
            few, probed = _parts(scene, expected)
            for some in self._chunks(scene):
                made = _made(scene, some)
                if few != probed:
                    yield [Try(made, scene, expected, few, self.found)]
                    made = {name: one for name, one in made.items() if self._waits(name)}
                others = rest[1:] if few != probed and self._is_affordable(len(rest)) else []
                yield [Try(made, scene, expected, probed, self.found), *self._everywhere(others)]
                if others:
                    return

    def _everywhere(self, scenes: Sequence[tuple[Scene, Bounded]]) -> list[Try]:
        return [
            Try(_made(scene, self._waiting), scene, expected, _parts(scene, expected)[1], self.found)
            for scene, expected in scenes
        ]

    @property
    def _waiting(self) -> list[Mistake]:
        return [mistake for mistake in CLAIMED if self._waits(mistake.name)]

    def _waits(self, name: str) -> bool:
        return self.found.get(name, 0.0) < EFFECTIVE_UNITS

    def _is_affordable(self, scenes: int) -> bool:
        """Return whether all that waits can be made for so many scenes at once."""
        return self.is_small and self._largest * len(self._waiting) * scenes <= self._budget

    def _chunks(self, scene: Scene) -> Iterator[list[Mistake]]:
        waiting, at_once = self._waiting, max(1, self._budget // _bytes(scene))
        return (waiting[start : start + at_once] for start in range(0, len(waiting), at_once))


def _bytes(scene: Scene) -> int:
    return max(1, scene.problem.k.nbytes + scene.problem.v.nbytes)


def _made(scene: Scene, mistakes: Sequence[Mistake]) -> dict[str, Problem | Answer]:
    return {mistake.name: mistaken for mistake in mistakes if (mistaken := mistake.apply(scene)) is not None}


def _parts(scene: Scene, expected: Bounded) -> tuple[Part, Part]:
    """Return the first and the last row on the last heads, and all heads of the rows that have probes."""
    rows = expected.answer.out.shape[0]
    ends = [0, rows - 1] if rows > _ENDS else list(range(rows))
    probed = sorted({*probed_rows(scene.case, scene.layer, scene.request), *ends})
    return Part(tuple(ends), last_heads(scene.problem)), Part(tuple(probed), ALL)


def measure(tries: Sequence[Try]) -> None:
    """Work out the effects of some tries; those of as many heads of one width together, which waits once for a GPU."""
    alike: dict[tuple[int, ...], list[Try]] = {}
    for one in tries:
        if not one.made:
            continue
        heads, width = one.scene.problem.q.shape[1:]
        alike.setdefault((heads - one.part.heads.query, width, one.scene.problem.v.shape[2]), []).append(one)
    for some in alike.values():
        _measure(some)


def _measure(tries: Sequence[Try]) -> None:
    mistaken = [cut for one in tries for cut in one.part.of_mistakes(list(one.made.values()), one.scene.problem)]
    answers = [answer.out for answer in answers_to(mistaken)]
    right = [one.part.of_bounded(one.expected) for one in tries]
    starts, index = 0, []
    for one, its in zip(tries, right, strict=True):
        rows = its.answer.out.shape[0]
        index += [*range(starts, starts + rows)] * len(one.made)
        starts += rows
    wanted, bound = (torch.cat(some) for some in ([its.answer.out for its in right], [its.out_bound for its in right]))
    at_once = max(1, MOST_BYTES // max(1, wanted[0].nbytes))
    changed, places = torch.cat(answers), torch.tensor(index).to(wanted.device, non_blocking=True)
    by_row = [
        changes_by_row(some, wanted[rows], bound[rows])
        for some, rows in zip(torch.split(changed, at_once), torch.split(places, at_once), strict=True)
    ]
    found: list[float] = torch.cat(by_row).tolist()
    start = 0
    for one, its in zip(tries, right, strict=True):
        for name in one.made:
            stop = start + its.answer.out.shape[0]
            one.found[name] = max(one.found.get(name, 0.0), *found[start:stop])
            start = stop
