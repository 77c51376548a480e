"""How a case's requests and its paging are drawn: lengths at and beside the borders of pages, tiles and windows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from attnconf.cases.case import Paging
from attnconf.cases.drawing.extremes import FAR_KEYS, MANY_KEYS, MANY_REQUESTS, MANY_ROWS, ladder, sides
from attnconf.cases.drawing.lengths import BETWEEN
from attnconf.cases.request import Request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnconf.cases.case import Mode, Placement, Storage
    from attnconf.cases.drawing.choices import Choices
    from attnconf.cases.drawing.extremes import Extreme
    from attnconf.cases.drawing.space import Space

_BORDERS = (1, 2, 16, 32, 64, 128, 256, 512)
_PAST_WINDOW = 200
_NEAR = 8
_SHORT = 64
"""Keys of a short request: most mistakes show in one, and it costs little."""
_BRIEF_KEYS = 40
_BRIEF_TOKENS = 3
"""The most keys and new tokens of a request where there are many requests."""

_DRAFTS = ("as many", "as many", "ragged")
"""How the requests of a verify step compare: each has other numbers of drafts, or none, in one case of three."""

_FEW_TOKENS = (1, 2, 8, 15, 16, 17, 24)


def draw_requests(  # noqa: PLR0913 - what its requests depend on
    choices: Choices, space: Space, mode: Mode, page_size: int, windows: Sequence[int], extreme: Extreme
) -> tuple[Request, ...]:
    """Draw the requests of a case whose layers reach ``windows`` keys back: by a window, or to a chunk's first."""
    least = 2 if mode == "mixed" else 1
    if extreme == "requests":
        space = replace(space, max_kv_len=_BRIEF_KEYS, max_new_tokens=_BRIEF_TOKENS)
        count = choices.pick("requests", ladder(extreme, MANY_REQUESTS, far=space.far, part=space.part))
    else:
        count = choices.between("requests", least, max(least, space.max_requests))
    ladders = {"keys": MANY_KEYS, "far keys": FAR_KEYS, "page size": sides(page_size, 2 * page_size)}
    many = ladder(extreme, ladders.get(extreme, ()), far=space.far, part=space.part)
    tokens = _new_tokens(choices, space, mode, count)
    if extreme == "rows":
        rungs = ladder(extreme, MANY_ROWS, far=space.far, part=space.part)
        tokens[tokens.index(max(tokens))] = choices.pick("rows", rungs)
    asked = [index for index, new_tokens in enumerate(tokens) if new_tokens]
    reach = space.long_kv_len
    past_window = bool(windows) and space.past_window
    longest = choices.pick("longest", asked) if reach or past_window or many else -1
    requests: list[Request] = []
    for index, new_tokens in enumerate(tokens):
        own = choices.within(f"request {index}")
        if index == longest and reach:
            least = max(windows) + 2 if past_window else 1
            kv_len = max(least, reach + own.pick("past reach", sorted({0, 1, page_size - 1, page_size})))
        elif index == longest and many:
            kv_len = max(own.pick("keys", many), max(windows, default=-1) + 2)
        elif index == longest:
            kv_len = max(windows) + 1 + _past(own, new_tokens, page_size)
        else:
            kv_len = _length(own, page_size, windows, space.max_kv_len, reach)
            # Drawn behind it: to Hypothesis a case of fewer choices is simpler, and a longer block must not have fewer.
            if new_tokens == 0 and own.pick("any keys", ("none", "some", "some", "some")) == "none":
                kv_len = 0
            elif new_tokens > 1 and own.pick("prefix", ("none", "some")) == "none":
                kv_len = new_tokens
            if requests and own.pick("as long", ("any", "any", "any", "as the one before")) != "any":
                kv_len = requests[-1].kv_len
        requests.append(_shared(own, requests, max(0, kv_len - new_tokens), new_tokens, page_size))
    return tuple(requests)


def _new_tokens(choices: Choices, space: Space, mode: Mode, count: int) -> list[int]:
    if mode == "decode":
        return [1] * count
    if mode == "verify":
        fitting = [length for length in space.verify_lens if length <= space.max_kv_len]
        longest = choices.pick("verify tokens", fitting or space.verify_lens[:1])
        if count == 1 or choices.pick("drafts", _DRAFTS) == "as many":
            return [longest] * count
        full = choices.below("fullest", count)
        return [longest if index == full else choices.below(f"drafts {index}", longest + 1) for index in range(count)]
    most = space.max_new_tokens
    if mode == "mixed":
        rest = [
            choices.below(f"tokens {index}", most + 1) * choices.pick(f"some {index}", (1, 1, 0))
            for index in range(2, count)
        ]
        return choices.shuffled("order", [1, choices.between("tokens", 2, most), *rest])
    few = [tokens for tokens in _FEW_TOKENS if tokens <= most]
    tokens = []
    for index in range(count):
        own = choices.within(f"request {index}")
        kind = own.pick("tokens", ("few", "any", "none") if index or count > 1 else ("few", "any"))
        if kind == "few":
            tokens.append(own.pick("few", few))
        else:
            tokens.append(own.between("any", 1, most) if kind == "any" else 0)
    return tokens if any(tokens) else [*tokens[:-1], choices.pick("last of few", few)]


def _past(choices: Choices, new_tokens: int, page_size: int) -> int:
    """Draw how far a request goes past its longest window: a little, or so that a row's window starts at a border.

    It is counted from the last row, or from the first one, so that each row's window masks keys. The oldest key that
    the last row sees has this number, and that of the first row one less for each row between.
    """
    start = choices.pick("from row", (0, new_tokens - 1))
    kind = choices.pick("past window", ("near", "border", "border", "any"))
    if kind == "near":
        return start + choices.between("near", 1, _NEAR)
    if kind == "any":
        return start + choices.between("any past", 1, _PAST_WINDOW)
    border = choices.pick("border", sorted({16, 64, 128, 256, page_size, 2 * page_size}))
    return max(1, start + border + choices.pick("beside", (0, 0, 1, -1)))


def _length(choices: Choices, page_size: int, windows: Sequence[int], most: int, reach: int) -> int:
    """Draw a length: a short one; one at, or beside, a border of pages, tiles or windows; or any.

    Beside a request of ``reach`` keys, one in two is at a rung below it.
    """
    between = [rung + step for rung in BETWEEN if rung < reach for step in (-1, 0, 1)]
    if between and choices.flip("far"):
        return choices.pick("rung", between)
    filled = [window + 1 + step for window in windows for step in (0, 1) if window + 1 + step <= most]
    kinds = ("short", "border", "short", "border", "any")
    kind = choices.pick("length", (*kinds, "window") if filled else kinds)
    if kind == "window":
        return choices.pick("keys", filled)
    if kind == "short":
        return choices.between("keys of few", 1, min(_SHORT, most))
    if kind == "any":
        return choices.between("keys of any", 1, most)
    borders = {*_BORDERS, page_size, 2 * page_size, *(window + 1 for window in windows)}
    return choices.pick("keys", sorted({b + step for b in borders for step in (-1, 0, 1) if 1 <= b + step <= most}))


def _shared(choices: Choices, earlier: list[Request], prefix_len: int, new_tokens: int, page_size: int) -> Request:
    alone = Request(prefix_len=prefix_len, new_tokens=new_tokens)
    if not earlier or not choices.flip("shares"):
        return alone
    owner = choices.below("shares with", len(earlier))
    pages = min(prefix_len, earlier[owner].prefix_len) // page_size
    if pages == 0:
        return alone
    return alone.model_copy(update={"shares_with": owner, "shared_pages": choices.between("shared pages", 1, pages)})


def _storage(choices: Choices) -> Storage:
    """Draw how K and V lie: where there is padding, it is behind the pages of both, or of K alone."""
    storages: tuple[Storage, ...] = ("apart", "interleaved", "padded", "sliced")
    storage = choices.pick("storage", storages)
    return "unlike" if storage == "padded" and choices.flip("keys alone") else storage


def draw_paging(  # noqa: PLR0913 - what it depends on
    choices: Choices, space: Space, page_size: int, windows: Sequence[int], extreme: Extreme, *, all_sliding: bool
) -> Paging:
    """Draw how the tokens of a case lie in memory."""
    placements: tuple[Placement, ...] = ("random", "identity", "reversed", "fragmented", "high")
    hybrid = bool(windows) and (choices.flip("hybrid") if space.hybrid is None else space.hybrid)
    return Paging(
        page_size=page_size,
        placement="far" if extreme == "page ids" else choices.pick("placement", placements),
        extra_columns=choices.pick("extra columns", (0, 1, 5)),
        table_tail=choices.pick("table tail", ("null", "stale", "invalid")),
        slack_pages=choices.pick("slack pages", (0, 1, 2, 7)),
        hybrid=hybrid,
        reclaimed=(hybrid or all_sliding) and choices.flip("reclaimed"),
        layout=choices.pick("layout", ("NHD", "HND")),
        storage=_storage(choices),
        table_slack=choices.pick("table slack", (0, 0, 3, 16)),
    )
