"""Witnesses: for each query row and head, keys that must show when they are dropped, or read though forbidden.

On random data one wrong key among a thousand moves the output by less than rounding does. So for each (row, head) a few
probe keys are chosen by class, and moved along the row's query until each holds a large share of the attention mass if
it is read. Classes rotate over requests, layers, rows and heads, so that one case tests many borders at once.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnconf.cases.geometry import first_visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from attnconf.cases.case import Case, Layer

TILE_BORDERS = (16, 32, 64, 128, 256)
"""Tile, chunk and split sizes that kernels use; probes stand on either side of their multiples."""

SATURATED = "saturated"
"""The class of a required key whose score lies far above the soft cap, where a careless tanh overflows."""

_FEW_ROWS = 16
_MANY_PROBES = 3
_SATURATED_EVERY = 4
_ENDS = ("newest", "oldest")
_OUTSIDE = ("first_outside",)


@dataclass(frozen=True)
class Sight:
    """What one query row may see: keys ``first`` to ``position``, of ``kv_len``; ``salt`` varies free choices."""

    position: int
    window_left: int
    prefix_len: int
    kv_len: int
    page_size: int
    shared_tokens: int
    salt: int

    @property
    def first(self) -> int:
        """The oldest visible key."""
        return first_visible(self.position, self.window_left)

    def inside(self, token: int) -> int | None:
        """Return ``token`` if it is visible."""
        return token if self.first <= token <= self.position else None

    def outside(self, token: int) -> int | None:
        """Return ``token`` if it exists and is not visible."""
        return token if 0 <= token < self.kv_len and not self.first <= token <= self.position else None

    def border(self, size: int) -> int:
        """Return a multiple of ``size`` in or near sight."""
        span = max(1, (self.position - self.first) // size + 1)
        return (self.first // size + self.salt % span + (1 if self.first % size else 0)) * size


def _tile(sight: Sight) -> int:
    fitting = [size for size in TILE_BORDERS if size <= max(16, sight.position - sight.first)]
    return sight.border(fitting[sight.salt % len(fitting)])


REQUIRED: dict[str, Callable[[Sight], int | None]] = {
    "oldest": lambda s: s.first,
    "newest": lambda s: s.position,
    "page_first": lambda s: s.inside(s.border(s.page_size)),
    "page_last": lambda s: s.inside(s.border(s.page_size) - 1),
    "prefix_last": lambda s: s.inside(s.prefix_len - 1),
    "extend_first": lambda s: s.inside(s.prefix_len),
    "tile_first": lambda s: s.inside(_tile(s)),
    "tile_last": lambda s: s.inside(_tile(s) - 1),
    "shared": lambda s: s.inside(s.salt % s.shared_tokens) if s.shared_tokens else None,
    "second_oldest": lambda s: s.inside(s.first + 1),
    "middle": lambda s: s.inside(s.first + s.salt % (s.position - s.first + 1)),
}
"""Classes of keys that the row must read."""

FORBIDDEN: dict[str, Callable[[Sight], int | None]] = {
    "first_outside": lambda s: s.outside(s.first - 1),
    "next": lambda s: s.outside(s.position + 1),
    "window_page": lambda s: s.outside(s.first // s.page_size * s.page_size),
    "start": lambda s: s.outside(0),
    "last": lambda s: s.outside(s.kv_len - 1),
}
"""Classes of live keys that the row must not read. Dead slots hold probes of their own (``poison.py``)."""


@dataclass(frozen=True)
class Probe:
    """Key ``token`` of ``request``, made to matter to query row ``row`` (of the request) and ``head``."""

    request: int
    row: int
    head: int
    token: int
    name: str
    required: bool


def plan_probes(case: Case, layer: int) -> list[Probe]:
    """Choose the probes of one layer: one forbidden key and one or more required keys a (row, head).

    Classes take turns, but the heads of a request's last row begin with the ends of what it sees, and the first key
    before them: a decode of few heads has no other row to show that one of these is lost, or read.

    A key carries at most head_dim / 32 probes a KV head, and at least one: more would drown each other. A class that
    does not apply, or whose key is full, passes to the next.
    """
    geometry = case.layers[layer]
    capacity = max(1, geometry.head_dim // 32)
    load: Counter[tuple[int, int, int]] = Counter()
    probes: list[Probe] = []
    for index, request in enumerate(case.requests):
        shared = request.shared_pages * case.paging.page_size
        few = request.new_tokens * geometry.group_size <= _FEW_ROWS
        last = request.new_tokens - 1
        for row in range(last, -1, -1):  # the last row first: it alone sees the request's newest key
            for head in range(geometry.num_qo_heads):
                turn = case.seed + 7 * layer + 3 * index + row + head
                sight = Sight(
                    position=request.prefix_len + row,
                    window_left=geometry.window_left,
                    prefix_len=request.prefix_len,
                    kv_len=request.kv_len,
                    page_size=case.paging.page_size,
                    shared_tokens=shared,
                    salt=(case.seed * 31 + row * 17 + head * 5 + index) % 65_521,
                )
                kv_head = head // geometry.group_size
                alone = geometry.num_qo_heads == 1
                for classes, count, first in (
                    (REQUIRED, _MANY_PROBES if few else 1, _ENDS if alone else _ENDS[head % 2 :][:1]),
                    (FORBIDDEN, 2 if alone else 1, _OUTSIDE[head % 2 :]),
                ):
                    names = _order(classes, turn, first if row == last else ())
                    chosen = _choose(classes, names, sight, count, load, (index, kv_head), capacity)
                    required = classes is REQUIRED
                    probes += [Probe(index, row, head, token, name, required) for name, token in chosen]
    if saturates(case, geometry):
        probes.append(_saturated(case, geometry))
    return probes


def saturates(case: Case, layer: Layer) -> bool:
    """Return whether ``layer`` of ``case`` has a key whose score lies far above its soft cap: one case in four does."""
    return layer.logits_soft_cap is not None and case.seed % _SATURATED_EVERY == _SATURATED_EVERY // 2


def _saturated(case: Case, geometry: Layer) -> Probe:
    """Return one key far above the soft cap; in one case of a few, since it also drowns probes of its neighbours."""
    index = next(index for index, request in enumerate(case.requests) if request.new_tokens)
    request = case.requests[index]
    position = request.kv_len - 1
    first = first_visible(position, geometry.window_left)
    head = case.seed % geometry.num_qo_heads
    return Probe(index, request.new_tokens - 1, head, (first + position) // 2, SATURATED, required=True)


def _order(classes: Iterable[str], turn: int, first: tuple[str, ...]) -> list[str]:
    names = list(classes)
    start = turn % len(names)
    return list(dict.fromkeys((*first, *names[start:], *names[:start])))


def _choose(  # noqa: PLR0913 - one private step of plan_probes
    classes: dict[str, Callable[[Sight], int | None]],
    names: list[str],
    sight: Sight,
    count: int,
    load: Counter[tuple[int, int, int]],
    owner: tuple[int, int],
    capacity: int,
) -> list[tuple[str, int]]:
    chosen: list[tuple[str, int]] = []
    for name in names:
        token = classes[name](sight)
        if token is None or any(token == other for _, other in chosen) or load[*owner, token] >= capacity:
            continue
        load[*owner, token] += 1
        chosen.append((name, token))
        if len(chosen) == count:
            break
    return chosen
