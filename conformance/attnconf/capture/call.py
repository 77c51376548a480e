"""LayerCall: what one call of an attention layer asks, in our words and without the contents of any tensor."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from attnconf.cases.case import QuerySide
from attnconf.errors import AttnconfError

if TYPE_CHECKING:
    from attnconf.cases.case import KVLayout, Layer, Mode, Storage, TableTail
    from attnconf.cases.inputs.batch import Pool
    from attnconf.cases.request import Span

Table = tuple[int, ...]


class UnsayableError(AttnconfError):
    """A call that no case can say; the text is the reason, the same words for every such call."""


@dataclass(frozen=True)
class Memory:
    """Where the keys of a call lie: pages of ``page_size`` tokens, in a pool of ``num_pages`` with the null page.

    ``tables[r]`` are the page ids of request r in that pool; None where the engine has no such table, as over a ring,
    and then they are placed as in drawn cases. ``full_tables`` are those of the full pool, where the call's pool is
    the sliding one of hybrid memory. The table has ``columns``, and its rows lie ``table_slack`` columns further apart.
    """

    page_size: int
    num_pages: int
    tables: tuple[Table, ...] | None
    pool: Pool = "full"
    full_tables: tuple[Table, ...] | None = None
    full_pages: int = 0
    columns: int = 0
    table_slack: int = 0
    table_tail: TableTail = "null"
    layout: KVLayout = "NHD"
    storage: Storage = "apart"


@dataclass(frozen=True)
class LayerCall:
    """One call: ``name`` is the layer's own, ``owner`` that of the layer whose keys it reads, None for its own.

    ``layer`` has no owner's index. ``q_lens`` and ``kv_lens`` are by request, new tokens included in both; so are
    ``spans`` of tokens that see each other, where the layer follows some.
    """

    name: str
    layer: Layer
    q_lens: tuple[int, ...]
    kv_lens: tuple[int, ...]
    memory: Memory
    q_dtype: str
    kv_dtype: str
    out_dtype: str
    owner: str | None = None
    mode: Mode | None = None
    query: QuerySide = field(default_factory=QuerySide)
    spans: tuple[tuple[Span, ...], ...] = ()
