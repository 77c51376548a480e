"""Dtypes: what queries, keys and values, and answers are stored in, and the word for the three of them."""

from __future__ import annotations

from typing import Literal, NamedTuple, cast

FP8: Literal["float8_e4m3fn"] = "float8_e4m3fn"
E5M2: Literal["float8_e5m2"] = "float8_e5m2"
EIGHT_BIT = frozenset({FP8, E5M2})
"""The formats of 8 bits, which are stored with scales. Queries and answers have the first one alone."""

NVFP4: Literal["nvfp4"] = "nvfp4"
"""Numbers of 4 bits, two in a byte, with a scale in e4m3 for each ``BLOCK`` of them."""
BLOCK = 16
QUANTISED = EIGHT_BIT | {NVFP4}
"""The formats of KV that count by the scales of their layer."""
FINITE_ALONE = frozenset({FP8, NVFP4})
"""The formats without infinities."""

QDtype = Literal["float32", "float16", "bfloat16", "float8_e4m3fn"]
KVDtype = Literal["float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "nvfp4"]
OutDtype = Literal["float32", "float16", "bfloat16", "float8_e4m3fn"]


class Dtypes(NamedTuple):
    """The dtypes of queries, of keys and values, and of the answer."""

    q: QDtype
    kv: KVDtype
    out: OutDtype

    @property
    def stated_out(self) -> OutDtype | None:
        """The ``out_dtype`` of a case of these dtypes: None for the dtype of a query that is not of 8 bits."""
        return None if self.out == self.q != FP8 else self.out

    @property
    def text(self) -> str:
        """The word in policies, receipts and reports: ``Q``, or ``Q+KV``, and ``->OUT`` where that is not Q."""
        pair = self.q if self.kv == self.q else f"{self.q}+{self.kv}"
        return pair if self.out == self.q else f"{pair}->{self.out}"


def read_dtypes(text: str) -> Dtypes:
    """Return the dtypes that ``text`` is the word for: what ``Dtypes.text`` writes."""
    pair, _, out = text.partition("->")
    q, _, kv = pair.partition("+")
    return Dtypes(cast("QDtype", q), cast("KVDtype", kv or q), cast("OutDtype", out or q))
