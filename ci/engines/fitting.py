"""The suite's own spaces, narrowed to what an engine keeps in memory: its storage and its dtypes, everything else free.

An engine has one way of keeping keys and values. Of the suite's cases, which draw all of them, few would be its own,
and the rest declared unsupported.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from attnconf.cases.drawing.draws import Draws
from attnconf.cases.drawing.families import space_of

if TYPE_CHECKING:
    from attnconf.cases.case import Case, Storage
    from attnconf.cases.drawing.families import Family
    from attnconf.cases.dtypes import Dtypes


def fitting_cases(  # noqa: PLR0913 - what is asked, and how much of it
    family: Family,
    model: str,
    *,
    storage: Storage,
    dtypes: tuple[Dtypes, ...],
    max_kv_len: int,
    examples: int,
) -> list[Case]:
    """Draw cases of a family and a model on a CPU, each in ``storage`` and one of ``dtypes``."""
    space = space_of(family, model, accelerated=False, max_kv_len=max_kv_len)
    pages = tuple(size for size in space.page_sizes if size % 16 == 0)
    drawn = Draws(replace(space, dtypes=dtypes, page_sizes=pages), 1, examples).cases
    return [case.model_copy(update={"paging": case.paging.model_copy(update={"storage": storage})}) for case in drawn]
