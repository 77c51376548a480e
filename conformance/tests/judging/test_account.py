"""The clause that is cited first: further questions tell explanations apart, and a rerun is asked as its own case."""

from __future__ import annotations

import pytest
import torch

from attnconf.cases.case import Case, Poison
from attnconf.cases.request import Request
from attnconf.judging.account import account
from attnconf.judging.checks import consistency, independence, numerics, siblings
from attnconf.judging.experiments import ask_further
from attnconf.judging.mistakes import MISTAKES
from attnconf.judging.posed import PosedCase
from attnconf.judging.run import run_case
from attnconf.judging.trial import Trial
from attnconf.mutants.small_cases import CAPPED, FULL, SHARED, SINKS, SLIDING, ask
from attnconf.mutants.source import Edit, Edited, edited
from attnconf.platforms import Platform

CPU = torch.device("cpu")
PAGES_OF_FIRST = edited(
    "reference",
    Edit("tables[row], rows,", "tables[0], rows,"),
    Edit("table.long()[tokens // size],", "table.long()[(tokens // size).clamp_max(table.numel() - 1)],"),
)
SHORT_WINDOW = edited("reference", Edit("(keys < positions - window)", "(keys < positions - window + (q_len == 1))"))


def trial_of(make: Edited, case: Case) -> Trial:
    trial = Trial(PosedCase(case, CPU), make(Platform()), Platform())
    for layer in range(len(case.layers)):
        trial.base(layer)
    return trial


def named(*names: str) -> list[object]:
    return [mistake for mistake in MISTAKES if mistake.name in names]


def test_a_mistake_that_fits_one_answer_by_chance_is_refuted_by_another() -> None:
    case = ask("decode", requests=(Request(prefix_len=17),), paging={"page_size": 1})  # the last key is the last page
    make = edited("reference", Edit("(keys > positions)", "(keys >= positions)"))
    found = ask_further(trial_of(make, case), 0, 0, named("causal strict", "full page lost"))
    assert [mistake.name for mistake in found.mistakes] == ["causal strict"]


def test_what_a_nan_hides_is_found_over_ordinary_slots() -> None:
    case = ask(
        "extend", requests=({"new_tokens": 12}, {"prefix_len": 20, "new_tokens": 2}), poison=Poison(k="nan", v="nan")
    )
    found = account(trial_of(PAGES_OF_FIRST, case), 0, "numerics")
    assert found is not None
    assert found.clause == 5
    assert "first request" in found.suspicion


def test_an_answer_that_is_right_over_ordinary_slots_reads_a_dead_one() -> None:
    make = edited(
        "reference",
        Edit(
            "k, v = (self._gather(cache, table, first_key, kv_len) for cache in self._caches(layer))",
            "k, v = (self._gather(cache, table, first_key, kv_len) for cache in self._caches(layer))\n"
            "        end = kv_len + -kv_len % self.batch.page_size\n"
            "        v = v + 0 * self._gather(self._caches(layer)[1], table, kv_len, end).sum()",
        ),
    )
    case = ask("decode", requests=(Request(prefix_len=17),), poison=Poison(k="zero", v="nan"))
    found = account(trial_of(make, case), 0, "numerics")
    assert found is not None
    assert found.clause == 6


@pytest.mark.parametrize(
    ("edit", "layers", "clause"),
    [
        (Edit("geometry.sm_scale * self._owner", "self._owner(layer).sm_scale * self._owner"), (FULL, SHARED), 9),
        (Edit("(keys > positions)", "(keys > positions + self.batch.max_q_len - q_len)"), (FULL,), 1),
        (Edit("p, v.float())", "p, v.float().flip(1))"), (FULL,), 4),
        (
            Edit(
                "scores = geometry.logits_soft_cap * torch.tanh", "scores = 2 * geometry.logits_soft_cap * torch.tanh"
            ),
            (CAPPED,),
            3,
        ),
        (Edit("inputs.sinks.float()", "inputs.sinks.float().square()"), (SINKS,), 3),
        (Edit("(keys < positions - window)", "(keys < positions - window // 2)"), (SLIDING,), 2),
    ],
    ids=["owner's scale", "rows of the longest", "values of other heads", "cap", "sinks", "window"],
)
def test_the_clause_is_that_of_the_fault(edit: Edit, layers: tuple, clause: int) -> None:
    found = account(trial_of(edited("reference", edit), ask("extend", *layers)), len(layers) - 1, "numerics")
    assert found is not None
    assert found.clause == clause


def test_a_rerun_is_explained_as_a_case_of_its_own_before_its_clause() -> None:
    result = run_case(
        ask("extend", SLIDING), SHORT_WINDOW(Platform()), Platform(), CPU, choose=lambda _: (consistency.CHECK,)
    )
    assert [failure.clause for failure in result.failures] == [2, 17]
    assert "oldest key of the window" in result.failures[0].suspicion


def test_rows_that_another_run_leaves_unwritten_break_clause_10() -> None:
    make = edited(
        "reference", Edit("out[rows] = row_out\n", "out[rows] = row_out if self.batch.q_lens[1:] else out[rows]\n")
    )
    result = run_case(ask("decode"), make(Platform()), Platform(), CPU, choose=lambda _: (independence.CHECK,))
    assert [failure.clause for failure in result.failures] == [10]


def test_a_wrong_call_behind_another_one_is_first_asked_where_nothing_was_kept() -> None:
    make = edited(
        "reference", Edit("p = torch.softmax(scores, dim=3)", "p = torch.softmax(scores * (kv_len > 30), dim=3)")
    )
    case = ask("decode", requests=(Request(prefix_len=44), Request(prefix_len=37)))
    checks = (numerics.CHECK, siblings.OVERWRITTEN)
    result = run_case(case, make(Platform()), Platform(), CPU, choose=lambda _: checks)
    assert [failure.clause for failure in result.failures] == [3]
    assert result.failures[0].check == "overwritten"
