"""Where rows begin: of queries in a packed tensor, of block tables in a wider one, of requests among rows (10, 14)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from attnconf.cases.inputs.query_side import packed_rows, sliced_table, with_slack
from attnconf.clauses import Clause
from attnconf.judging.mistakes.mistake import Mistake

if TYPE_CHECKING:
    from attnconf.judging.mistakes.scene import Scene
    from attnconf.oracle.problem import Problem


def _queries_taken_for_contiguous(scene: Scene) -> Problem | None:
    """Read the rows of a packed tensor as far apart as the queries of one row are wide."""
    start, stop = _rows(scene)
    if scene.case.query.storage == "apart" or stop < 2:  # noqa: PLR2004 - the first row is where it seems to be
        return None
    own = scene.logical.on(scene.layer, scene.problem.q.device)
    packed = packed_rows(scene.case, scene.layer, own, own.q)
    flat = packed.view(-1)[: own.q.numel()].view(own.q.shape)
    return replace(scene.problem, q=flat[start:stop])


def _counted_from_the_end(scene: Scene) -> Problem | None:
    """Take the last rows of the queries for those of the requests."""
    start, stop = _rows(scene)
    slack = scene.case.query.slack_rows
    if not slack or scene.case.padding_rows or start == stop:
        return None
    whole = with_slack(scene.case, scene.logical.on(scene.layer, scene.problem.q.device).q)
    return replace(scene.problem, q=whole[start + slack : stop + slack])


def table_taken_for_contiguous(scene: Scene) -> list[int] | None:
    """Return the pages that a request reads if rows of the table begin a width apart, in the pool of the layer."""
    if not scene.case.paging.table_slack or not scene.request or not scene.pages:
        return None
    table = sliced_table(scene.case, scene.layout.block_tables)
    columns, rows = table.shape[1], torch.arange(table.shape[1])
    flat = table.as_strided((table.shape[0] * table.stride(0) - scene.case.paging.table_slack,), (1,))
    row = flat[scene.request * columns + rows].tolist()[: len(scene.pages)]
    read, seen = scene.translated(row), scene.first_seen // scene.layout.page_size
    return None if read[seen:] == scene.pages[seen:] else read


def _rows(scene: Scene) -> tuple[int, int]:
    return scene.logical.q_starts[scene.request], scene.logical.q_starts[scene.request + 1]


QUERY_ROWS = (
    Mistake(
        "packed queries",
        "q_strides",
        Clause.LAYOUT,
        "rows of queries that lie in a packed tensor are read as if they followed each other",
        _queries_taken_for_contiguous,
    ),
    Mistake(
        "rows from the end",
        "slack_rows",
        Clause.READ_ONLY,
        "rows behind the last request's are taken for those of requests: they are counted from the end",
        _counted_from_the_end,
    ),
)
