"""Arguments: what FlashInfer's functions are given in common, as parts of a layer call."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast, get_args

from attnconf.capture.call import UnsayableError
from attnconf.capture.dumps.dump import Strided
from attnconf.cases.dtypes import QDtype
from attnconf.cases.geometry import first_visible
from attnconf.cases.recorded import NULL_PAGE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnconf.capture.call import Table
    from attnconf.capture.dumps.dump import Dump
    from attnconf.capture.dumps.views import Cache
    from attnconf.cases.case import KVLayout, TableTail

_NAMES = get_args(QDtype)


def apart_from_null(
    tables: tuple[Table, ...], q_lens: Sequence[int], kv_lens: Sequence[int], window: int, cache: Cache
) -> tuple[tuple[Table, ...], int]:
    """Return the tables and the size of the pool, in which page 0 is nobody's.

    FlashInfer has no null page: where page 0 is read, every page is one further. Behind a window, and in the one key
    of a padding row, engines let it stand for nothing.
    """
    read = False
    for table, new, length in zip(tables, q_lens, kv_lens, strict=True):
        gone = first_visible(max(0, length - new), window) // cache.page_size
        read = read or (length > 1 and NULL_PAGE in table[gone:])
    if not read:
        return tables, cache.pages
    return tuple(tuple(page + 1 for page in table) for table in tables), cache.pages + 1


def tables_of(rows: Sequence[Sequence[int]], kv_lens: Sequence[int], size: int) -> tuple[tuple[Table, ...], TableTail]:
    """Return the pages of each request, and what stands behind them in its row."""
    needed = [-(-length // size) for length in kv_lens]
    used = tuple(tuple(map(int, row[:count])) for row, count in zip(rows, needed, strict=True))
    behind = {int(page) for row, count in zip(rows, needed, strict=True) for page in row[count:]} - {NULL_PAGE}
    return used, "null" if not behind else "invalid" if min(behind) < 0 else "stale"


def layout_of(dump: Dump) -> KVLayout:
    """Return the layout of the cache. Raises ``UnsayableError`` for another one."""
    found = dump.get("kv_layout")
    if found not in {"NHD", "HND"}:
        raise UnsayableError(f"layout {found}")
    return cast("KVLayout", found)


def out_dtype(dump: Dump, q: Strided) -> str:
    """Return the dtype of the answer. Raises ``UnsayableError`` for one that no case has."""
    out, dtype = dump.get("out"), dump.get("out_dtype")
    named = out.dtype if isinstance(out, Strided) else str(dtype).removeprefix("torch.") if dtype else ""
    if not named and q.dtype == "float8_e4m3fn":
        named = "bfloat16"
    if named and named not in _NAMES:
        raise UnsayableError(f"an answer of {named}")
    return named or q.dtype


def has_sinks(found: Any) -> bool:  # noqa: ANN401 - a tensor, a sequence of them, or None
    """Return whether sinks are given."""
    return isinstance(found, Strided) or (isinstance(found, tuple) and bool(found))


def refuse(dump: Dump, *names: str) -> None:
    """Raise ``UnsayableError`` for the first of ``names`` that is given."""
    for name in names:
        if dump.get(name) is not None:
            raise UnsayableError(f"a call with {name}")


def whole(values: Sequence[Any]) -> tuple[int, ...]:
    """Return ``values`` as integers."""
    return tuple(map(int, values))


def differences(starts: Sequence[Any]) -> tuple[int, ...]:
    """Return the lengths between ``starts``."""
    return tuple(int(stop) - int(start) for start, stop in pairwise(starts))
