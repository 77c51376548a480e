"""A batch of the machine, or one that an engine ran, as a Case with recorded tables: judge and replay know no other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnconf.cases.case import Case, Layer, Paging, Poison
from attnconf.cases.recorded import NULL_PAGE, Recorded
from attnconf.cases.request import Request
from attnconf.serving.events import Step

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from attnconf.cases.case import Mode, PoisonKind
    from attnconf.cases.dtypes import QDtype
    from attnconf.cases.inputs.batch import Pool
    from attnconf.serving.events import Event
    from attnconf.serving.world import BatchRow

_MOST_VERIFY = 8
_POISONS: tuple[PoisonKind, ...] = ("stale", "nan", "huge", "zero")


def mode_of(new_tokens: Sequence[int]) -> Mode:
    """Return the mode of a batch with so many new tokens a request. Drafts are new tokens, and linear ones."""
    if set(new_tokens) == {1}:
        return "decode"
    if len(set(new_tokens)) == 1 and new_tokens[0] <= _MOST_VERIFY:
        return "verify"
    return "mixed" if 1 in new_tokens else "extend"


def step_cases(  # noqa: PLR0913 - a batch, the layers that it is asked for, and how
    rows: Sequence[BatchRow],
    layers: Sequence[Layer],
    sizes: Mapping[Pool, int],
    *,
    seed: int,
    story: Sequence[Event] = (),
    q_dtype: QDtype = "float32",
    model: str = "free",
) -> tuple[Case, ...]:
    """Return ``rows`` as cases: one, or one for each pool where the pools' pages do not translate one to one.

    ``sizes`` are the pages of each pool, with the null page. Sliding layers read the pool "swa" where there is one.
    The last event of ``story`` says how many padding rows a batch of decodes has.
    """
    ordered = [(one.row.start, one.row.kv_len - one.row.start, one.table) for one in rows]
    tables: dict[Pool, list[tuple[int, ...]]] = {
        pool: [tuple(table.pages[pool][: -(-(start + new) // table.page_size)]) for start, new, table in ordered]
        for pool in sizes
    }
    page_size = rows[0].table.page_size
    mode = mode_of([new for _, new, _ in ordered])
    step = story[-1] if story else None
    padding = step.padding if isinstance(step, Step) and mode == "decode" else 0

    def case(chosen: Sequence[Layer], recorded: Recorded, **paging: bool) -> Case:
        requests = []
        for index, (start, new, _) in enumerate(ordered):
            owner, shared = _shares(rows, index, page_size)
            requests.append(Request(prefix_len=start, new_tokens=new, shares_with=owner, shared_pages=shared))
        return Case(
            model=model,
            mode=mode,
            q_dtype=q_dtype,
            kv_dtype=q_dtype,
            layers=tuple(chosen),
            requests=tuple(requests),
            paging=Paging(page_size=page_size, placement="recorded", recorded=recorded, **paging),  # type: ignore[arg-type]
            padding_rows=padding,
            poison=Poison(k=_POISONS[seed % len(_POISONS)], v=_POISONS[seed // 2 % len(_POISONS)]),
            seed=seed,
        )

    full = tables["full"]
    if "swa" not in tables:
        return (case(layers, Recorded(tables=tuple(full), num_pages=sizes["full"])),)
    sliding = tables["swa"]
    gone = any(NULL_PAGE in table for table in sliding)
    translation = translation_of(full, sliding)
    if translation is not None:
        recorded = Recorded(
            tables=tuple(full), num_pages=sizes["full"], swa_pages=translation, num_swa_pages=sizes["swa"]
        )
        return (case(layers, recorded, hybrid=True, reclaimed=gone),)
    kinds = [[layer for layer in layers if (layer.kind == "sliding") == own] for own in (False, True)]
    return (
        case(_renumbered(layers, kinds[0]), Recorded(tables=tuple(full), num_pages=sizes["full"])),
        case(
            _renumbered(layers, kinds[1]),
            Recorded(tables=tuple(sliding), num_pages=sizes["swa"]),
            reclaimed=gone,
        ),
    )


def _shares(rows: Sequence[BatchRow], index: int, page_size: int) -> tuple[int | None, int]:
    """Return the earlier request with which most whole pages of the prefix are alike, and how many."""
    best, owner = 0, None
    own = rows[index]
    for other in range(index):
        alike = 0
        for one, another in zip(own.contents[: own.row.start], rows[other].contents, strict=False):
            if one != another:
                break
            alike += 1
        if alike // page_size > best:
            best, owner = alike // page_size, other
    return owner, best


def translation_of(
    full: Sequence[tuple[int, ...]], sliding: Sequence[tuple[int, ...]]
) -> tuple[tuple[int, int], ...] | None:
    """Return each full page's page in the sliding pool, or None if one of either has several of the other."""
    found: dict[int, int] = {}
    for ours, theirs in zip(full, sliding, strict=True):
        for page, other in zip(ours, theirs, strict=True):
            known = found.setdefault(page, other)
            if NULL_PAGE in {known, other}:
                found[page] = known or other
            elif known != other:
                return None
    kept = [page for page in found.values() if page != NULL_PAGE]
    return tuple(sorted(found.items())) if len(set(kept)) == len(kept) else None


def _renumbered(layers: Sequence[Layer], chosen: Sequence[Layer]) -> tuple[Layer, ...]:
    """Return ``chosen`` of ``layers``, with owners numbered as they stand among these."""
    places = {id(layer): place for place, layer in enumerate(chosen)}
    return tuple(
        layer if layer.kv_owner is None else layer.model_copy(update={"kv_owner": places[id(layers[layer.kv_owner])]})
        for layer in chosen
    )
