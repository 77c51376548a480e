"""Parts of a request's keys: shards of context parallelism that have none of some request (clause 17)."""

from __future__ import annotations

from attnconf.clauses import Clause
from attnconf.mutants.mutant import Mutant
from attnconf.mutants.small_cases import ask
from attnconf.mutants.source import Edit, edited

_ATTEND = "self._attend(layer, tables[row], rows, kv_len)"
_START = "        start = 0\n        for row, (q_len, kv_len)"
_REQUESTS = ({"prefix_len": 0}, {"prefix_len": 44}, {"prefix_len": 0}, {"prefix_len": 30})

MUTANTS = (
    Mutant(
        id="shard-without-keys-takes-no-table",
        summary="a request without a key has no row in the table: those behind it read the pages of the one before",
        clause=Clause.CONSISTENCY,
        make=edited(
            "reference",
            Edit(
                _ATTEND,
                "self._attend(\n"
                "                layer, tables[sum(1 for m, n in zip(self.batch.q_lens[:row], self.batch.kv_lens)"
                " if n or not m)], rows, kv_len\n            )",
            ),
        ),
        proof=ask("decode", requests=_REQUESTS),
    ),
    Mutant(
        id="shard-begins-without-keys",
        summary="a batch whose first request has no key is taken for an empty one",
        clause=Clause.CONSISTENCY,
        make=edited(
            "reference",
            Edit(
                _START,
                f"        if self.batch.q_lens[0] > 0 == self.batch.kv_lens[0]:\n            return KERNEL\n{_START}",
            ),
        ),
        proof=ask("decode", requests=_REQUESTS),
    ),
)
