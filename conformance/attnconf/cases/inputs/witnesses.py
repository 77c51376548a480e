"""Witnesses: for each query row and head, keys whose loss or forbidden reading must show.

On random data one wrong key among a thousand moves the output by less than rounding does. So for each (row, head) a few
probe keys are chosen by class, and moved along the row's query until each takes a large share of the attention when it
is read. Classes rotate over requests, layers, rows and heads, so that one case tests many borders at once.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from attnconf.cases.sight import seen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from attnconf.cases.case import Case, Layer
    from attnconf.cases.request import Request

    Classes = dict[str, Callable[["Sight"], int | None]]

TILE_BORDERS = (16, 32, 64, 128, 256)
"""Tile, chunk and split sizes of kernels. Probes stand on both sides of their multiples."""

SATURATED = "saturated"
"""The class of a required key whose score lies far above the soft cap, where a careless tanh overflows."""

_FEW_ROWS = 16
_MANY_PROBES = 3
"""Where a KV head of a request has at most so many rows, each row gets so many required keys instead of one."""

_DIMS_A_PROBE = 32
"""Head dims that one probe on a key needs: more probes on it would drown each other."""

_SATURATED_EVERY = 4
"""Of so many seeds one has a saturated key."""

_MOST_PROBED = 512
"""Pairs of a row and a query head in a layer up to which each has probes: planning more costs more than a run."""

_ROW_STEP = 409
"""Step between probed rows that are picked at random; a prime."""

_ENDS = ("newest", "oldest")
_OUTSIDE = ("first_outside",)
"""The classes with which the heads of a request's last row begin, required and forbidden."""

_SPAN, _SPAN_OF = ("span_last", "span_next"), 3
"""The classes with which rows begin that see keys behind their own, and of so many heads those that do not."""

_BRANCH, _OTHERS, _OTHERS_OF = ("parent",), ("sibling", "cousin"), 3
"""The classes with which rows of a tree begin, required and forbidden, and of so many heads those that do not."""

_LAYER_TURN, _REQUEST_TURN = 7, 3
"""Steps by which the rotation of classes advances from layer to layer and from request to request."""

_SEED_FACTOR, _ROW_FACTOR, _HEAD_FACTOR, _SALT_MODULUS = 31, 17, 5, 65_521
"""The hash of seed, row, head and request that makes a sight's salt: small primes, modulo a larger one."""


class Sight(NamedTuple):
    """What the row at ``position`` sees: keys ``first`` to ``end`` of ``kv_len``. ``salt`` varies free choices.

    ``end`` lies behind ``position`` where the row is one of a span. A row of a tree does not see the ``hidden`` keys
    between; ``parent`` and ``siblings`` are the keys of its parent, -1 for none, and of those beside it.
    """

    position: int
    first: int
    end: int
    hidden: tuple[int, ...]
    prefix_len: int
    kv_len: int
    page_size: int
    shared_tokens: int
    salt: int
    parent: int = -1
    siblings: tuple[int, ...] = ()

    def inside(self, token: int) -> int | None:
        """Return ``token`` if it is visible."""
        return token if self.first <= token <= self.end and token not in self.hidden else None

    def outside(self, token: int) -> int | None:
        """Return ``token`` if it exists and is not visible."""
        return token if 0 <= token < self.kv_len and self.inside(token) is None else None

    def one_of(self, tokens: tuple[int, ...]) -> int | None:
        """Return one of ``tokens`` that is not visible."""
        return self.outside(tokens[self.salt % len(tokens)]) if tokens else None

    def border(self, size: int) -> int:
        """Return a multiple of ``size`` in or near sight."""
        span = max(1, (self.end - self.first) // size + 1)
        return (self.first // size + self.salt % span + (1 if self.first % size else 0)) * size


def _tile(sight: Sight) -> int:
    fitting = [size for size in TILE_BORDERS if size <= max(16, sight.end - sight.first)]
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
    "middle": lambda s: s.inside(s.first + s.salt % (s.end - s.first + 1)),
}
"""Classes of keys that a row must read."""

AHEAD: dict[str, Callable[[Sight], int | None]] = {
    "span_last": lambda s: s.end,
    "span_next": lambda s: s.position + 1,
    **REQUIRED,
}
"""Those of a row that sees keys behind its own."""

BRANCH: dict[str, Callable[[Sight], int | None]] = {"parent": lambda s: s.inside(s.parent), **REQUIRED}
"""Those of a row of a tree."""

FORBIDDEN: dict[str, Callable[[Sight], int | None]] = {
    "first_outside": lambda s: s.outside(s.first - 1),
    "next": lambda s: s.outside(s.end + 1),
    "window_page": lambda s: s.outside(s.first // s.page_size * s.page_size),
    "start": lambda s: s.outside(0),
    "last": lambda s: s.outside(s.kv_len - 1),
}
"""Classes of live keys that a row must not read. Dead slots have probes, too (``assemble.py``)."""

OTHERS: dict[str, Callable[[Sight], int | None]] = {
    "sibling": lambda s: s.one_of(s.siblings),
    "cousin": lambda s: s.one_of(s.hidden),
    **FORBIDDEN,
}
"""Those of a row of a tree."""


class Probe(NamedTuple):
    """Key ``token`` of ``request``, which matters to query row ``row`` of the request and to ``head``."""

    request: int
    row: int
    head: int
    token: int
    name: str
    required: bool


def plan_probes(case: Case, layer: int) -> list[Probe]:
    """Choose the probes of one layer: for each (row, head) one forbidden key and one or more required keys.

    A case with more than ``_MOST_PROBED`` rows and heads has probes for some of them, see ``probed_rows`` and
    ``_probed_heads``. Classes take turns, but the heads of a request's last row begin with both ends of what the row
    sees and the first key before them: in a decode with few heads, that row alone can show that one of these is lost or
    read.

    A key has at most head_dim / 32 probes per KV head, and at least one. A class that does not apply, or whose key has
    no room left, passes its turn to the next.
    """
    geometry = case.layers[layer]
    capacity = max(1, geometry.head_dim // _DIMS_A_PROBE)
    load: dict[tuple[int, int, int], int] = {}
    probes: list[Probe] = []
    alone = geometry.num_qo_heads == 1
    required_ends = [_ENDS if alone else _ENDS[head % 2 :][:1] for head in range(2)]
    forbidden_ends = [_OUTSIDE[head % 2 :] for head in range(2)]
    for index, request in enumerate(case.requests):
        shared = request.shared_pages * case.paging.page_size
        few = request.new_tokens * geometry.group_size <= _FEW_ROWS
        last = request.new_tokens - 1
        rows = probed_rows(case, layer, index)
        for row in rows:
            in_sight, relatives = seen(geometry, request, row), _relatives(request, row)
            for head in _probed_heads(case, layer, index, len(rows)):
                turn = case.seed + _LAYER_TURN * layer + _REQUEST_TURN * index + row + head
                sight = Sight(
                    *in_sight,
                    request.prefix_len,
                    request.kv_len,
                    case.paging.page_size,
                    shared,
                    (case.seed * _SEED_FACTOR + row * _ROW_FACTOR + head * _HEAD_FACTOR + index) % _SALT_MODULUS,
                    *relatives,
                )
                kv_head = head // geometry.group_size
                ends = (required_ends[head % 2], forbidden_ends[head % 2]) if row == last else ((), ())
                required, forbidden, begin = _classes(sight, request, turn, ends)
                for classes, count, first in (
                    (required, _MANY_PROBES if few else 1, begin[0]),
                    (forbidden, 2 if alone else 1, begin[1]),
                ):
                    names = _order(tuple(classes), turn % len(classes), first)
                    chosen = _choose(classes, names, sight, count, load, (index, kv_head), capacity)
                    probes += [Probe(index, row, head, token, name, classes is required) for name, token in chosen]
    if saturates(case, geometry):
        probes.append(_saturated(case, geometry))
    return probes


def _classes(
    sight: Sight, request: Request, turn: int, ends: tuple[tuple[str, ...], tuple[str, ...]]
) -> tuple[Classes, Classes, tuple[tuple[str, ...], tuple[str, ...]]]:
    """Return the required and the forbidden classes of a row, and those with which it begins: ``ends`` or others."""
    if request.tree:
        return BRANCH, OTHERS, (_BRANCH, _OTHERS) if turn % _OTHERS_OF else ends
    if sight.end > sight.position:
        return AHEAD, FORBIDDEN, (_SPAN if turn % _SPAN_OF else ends[0], ends[1])
    return REQUIRED, FORBIDDEN, ends


def _relatives(request: Request, row: int) -> tuple[int, tuple[int, ...]]:
    """Return the keys of the parent of ``row``, -1 for none among the new tokens, and of its siblings."""
    if not request.tree:
        return -1, ()
    parent, prefix = request.tree[row], request.prefix_len
    beside = (token for token, other in enumerate(request.tree) if other == parent and token != row)
    return prefix + parent if parent >= 0 else -1, tuple(prefix + token for token in beside)


def probed_rows(case: Case, layer: int, request: int) -> list[int]:
    """Return the rows of ``request`` that have probes, the last one first: it alone sees the request's newest key.

    They are all rows, or, where a case has many, the first, the last and those on both sides of borders of tiles,
    pages and the window, as many as its share of ``_MOST_PROBED`` allows and at least two.
    """
    spec, geometry = case.requests[request], case.layers[layer]
    most = max(2, _MOST_PROBED // (max(1, len(case.requests)) * geometry.num_qo_heads))
    if spec.new_tokens <= most or sum(one.new_tokens for one in case.requests) * geometry.num_qo_heads <= _MOST_PROBED:
        return list(range(spec.new_tokens - 1, -1, -1))
    last = spec.new_tokens - 1
    borders = [size * (1 + case.seed % max(1, last // size)) for size in (*TILE_BORDERS, case.paging.page_size)]
    borders += [geometry.window_left + 1 - spec.prefix_len] if geometry.window_left >= 0 else []
    borders += [-spec.prefix_len % geometry.chunk_size] if geometry.chunk_size is not None else []
    borders += [end - spec.prefix_len for span in spec.queried_spans for end in span] if geometry.spans else []
    salted = [(case.seed * _SEED_FACTOR + step * _ROW_STEP) % spec.new_tokens for step in range(most)]
    wanted = [last, 0, *(row for border in borders for row in (border - 1, border)), *salted]
    return sorted(list(dict.fromkeys(row for row in wanted if 0 <= row <= last))[:most], reverse=True)


def _probed_heads(case: Case, layer: int, request: int, rows: int) -> Iterable[int]:
    """Return the query heads of a probed row of ``request``: all, or in a large batch one or more of each KV head."""
    geometry = case.layers[layer]
    most = _MOST_PROBED // (len(case.requests) * max(1, rows))
    if most >= geometry.num_qo_heads:
        return range(geometry.num_qo_heads)
    each = max(1, most // geometry.num_kv_heads)
    step = max(1, geometry.group_size // each)
    turn = (case.seed + request) % step
    return range(turn, geometry.num_qo_heads, step)


def saturates(case: Case, layer: Layer) -> bool:
    """Return whether ``layer`` of ``case`` has a key far above its soft cap, as in one case of four."""
    return layer.logits_soft_cap is not None and case.seed % _SATURATED_EVERY == _SATURATED_EVERY // 2


def _saturated(case: Case, geometry: Layer) -> Probe:
    """Return a probe far above the soft cap. Few cases have one, since it drowns other probes of its row."""
    index = next(index for index, request in enumerate(case.requests) if request.new_tokens)
    request = case.requests[index]
    sight = seen(geometry, request, request.new_tokens - 1)
    head = case.seed % geometry.num_qo_heads
    key = sight.first if sight.hidden else (sight.first + sight.last) // 2
    return Probe(index, request.new_tokens - 1, head, key, SATURATED, required=True)


@lru_cache(maxsize=512)
def _order(names: tuple[str, ...], start: int, first: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*first, *names[start:], *names[:start])))


def _choose(  # noqa: PLR0913 - one private step of plan_probes
    classes: dict[str, Callable[[Sight], int | None]],
    names: Iterable[str],
    sight: Sight,
    count: int,
    load: dict[tuple[int, int, int], int],
    owner: tuple[int, int],
    capacity: int,
) -> list[tuple[str, int]]:
    chosen: dict[int, str] = {}
    for name in names:
        token = classes[name](sight)
        if token is None or token in chosen:
            continue
        probes = load.get((*owner, token), 0)
        if probes >= capacity:
            continue
        load[*owner, token] = probes + 1
        chosen[token] = name
        if len(chosen) == count:
            break
    return [(name, token) for token, name in chosen.items()]
