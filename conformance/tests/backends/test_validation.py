"""Corrupted metadata is said in one sentence, and no batch of a case is taken for corrupted."""

from __future__ import annotations

import pytest
import torch

from attnconf.backends.protocol import CORRUPTIONS, Corruption
from attnconf.backends.reference import ReferenceBackend
from attnconf.backends.validation import why_corrupt
from attnconf.cases.case import Case, Paging, QuerySide
from attnconf.judging.checks.corrupted import corrupt
from attnconf.judging.posed import PosedCase
from attnconf.mutants.small_cases import HYBRID, RECLAIMED, SLIDING, ask

CPU = torch.device("cpu")
SAID: dict[Corruption, str] = {
    "negative_lengths": "request 2 has seq_len -64, which is negative",
    "long_lengths": "request 2 has seq_len 71, and its table has room for 64 tokens",
    "query_starts": "qo_indptr ends at 10, and the queries have 3 rows",
    "page_ids": "request 2 has page 2147483640 in column 7, and the pool has ",
    "hints": "max_seq_len 63 and max_q_len 1 are below the longest request, of 64 keys and 1 query tokens",
}


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_a_corrupted_batch_is_refused_in_one_sentence(kind: Corruption) -> None:
    batch = corrupt(PosedCase(ask("decode"), CPU).batch, kind)
    said = why_corrupt(batch)
    assert said is not None
    assert said.startswith(SAID[kind])
    with pytest.raises(ValueError, match=r"request|qo_indptr|max_seq_len"):
        ReferenceBackend().prepare(batch)


def test_starts_that_fall_are_refused() -> None:
    batch = PosedCase(ask("extend"), CPU).batch
    batch.qo_indptr[1] = 30
    assert why_corrupt(batch) == "qo_indptr [0, 30, 19] does not rise from 0"


@pytest.mark.parametrize(
    "case",
    [
        ask("mixed"),
        ask("decode", SLIDING, paging=RECLAIMED),
        ask("decode", SLIDING, paging=HYBRID),
        ask("decode", padding_rows=2),
        ask("decode", padding_rows=2, padding_kv_len=1, query=QuerySide(slack_rows=3)),
        ask("verify", paging=Paging(page_size=8, extra_columns=5, table_tail="invalid", table_slack=3)),
    ],
)
def test_the_batch_of_a_case_is_sound(case: Case) -> None:
    assert why_corrupt(PosedCase(case, CPU).batch) is None
