"""A rerun: the answer of another run to one request, and the part of the right answer that it must equal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnconf.bounded import rows_of

if TYPE_CHECKING:
    from attnconf.bounded import Bounded
    from attnconf.cases.case import Mode
    from attnconf.judging.execution import Output


@dataclass(frozen=True)
class Rerun:
    """The answer of another run to one request on one layer: ``output[rows]``.

    It must equal the rows ``query_rows`` of the request (None: all of them), within the bound of the kernel for
    ``mode`` (None: the case's).
    """

    layer: int
    request: int
    output: Output
    rows: slice
    query_rows: slice | None = None
    mode: Mode | None = None

    @property
    def first_token(self) -> int:
        """The index of the first row among the request's query tokens."""
        return self.query_rows.start if self.query_rows else 0

    def expected(self, whole: Bounded) -> Bounded:
        """Return the part of the request's answer ``whole`` with which this run is compared."""
        return whole if self.query_rows is None else rows_of(whole, self.query_rows)
