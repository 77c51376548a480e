"""What is asked beside a failing call: plain memory, no feature at all, other lengths; and what that may not blame."""

from __future__ import annotations

import torch

from attnconf.cases.case import Case, Poison
from attnconf.cases.request import Request
from attnconf.judging.account import account
from attnconf.judging.checks import dead_slots, determinism
from attnconf.judging.checks.check import Check
from attnconf.judging.posed import PosedCase
from attnconf.judging.run import run_case
from attnconf.judging.trial import Trial
from attnconf.mutants.small_cases import RECLAIMED, SLIDING, ask, quantised
from attnconf.mutants.source import Edit, Edited, edited
from attnconf.platforms import Platform

CPU = torch.device("cpu")
FIRST = "first_key = max(0, kv_len - q_len - window)"
MASKED = "scores = scores.masked_fill(hidden, -math.inf)"


def clauses(make: Edited, case: Case, check: Check) -> list[int]:
    result = run_case(case, make(Platform()), Platform(), CPU, choose=lambda _: (check,))
    return [failure.clause for failure in result.failures]


def account_of(make: Edited, case: Case, layer: int = 0) -> tuple[int, str]:
    trial = Trial(PosedCase(case, CPU), make(Platform()), Platform())
    for one in range(len(case.layers)):
        trial.base(one)
    found = account(trial, layer, "numerics")
    assert found is not None
    return found.clause, found.suspicion


def test_a_finite_mask_that_reads_reclaimed_pages_breaks_the_window_first() -> None:
    make = edited("reference", Edit(FIRST, "first_key = 0"), Edit(MASKED, MASKED.replace("-math.inf", "-1e4")))
    case = ask("decode", SLIDING, paging=RECLAIMED, poison=Poison(k="zero", v="zero"), seed=8)
    assert clauses(make, case, dead_slots.DEAD_SLOTS) == [2, 7]


def test_values_that_are_read_behind_the_window_break_no_window() -> None:
    make = edited("reference", Edit(FIRST, "first_key = 0"))
    case = ask("decode", SLIDING, paging=RECLAIMED, poison=Poison(k="zero", v="zero"), seed=8)
    assert clauses(make, case, dead_slots.DEAD_SLOTS) == [7]


def test_rows_that_a_hint_numbers_see_later_keys_without_one_too() -> None:
    make = edited("reference", Edit("(keys > positions)", "(keys > positions + self.batch.max_q_len - q_len)"))
    case = ask("extend", requests=(Request(prefix_len=30, new_tokens=4), Request(prefix_len=9, new_tokens=4)))
    assert clauses(make, case, determinism.HOST_HINTS) == [1, 19]


def test_what_is_wrong_without_any_feature_is_blamed_on_none() -> None:
    weights = "p = torch.softmax(scores, dim=3)[..., : k.shape[0]]"
    make = edited("reference", Edit(weights, f"{weights}.to(torch.float8_e4m3fn).float()"))
    assert account_of(make, quantised("decode", SLIDING.model_copy(update={"k_scale": 0.5, "v_scale": 1.5})))[0] == 3


def test_who_reads_dead_slots_beside_others_alone_reads_other_pages() -> None:
    make = edited(
        "reference",
        Edit("tables[row], rows,", "tables[(row * 2 + 1) % len(self.batch.kv_lens)], rows,"),
        Edit("table.long()[tokens // size],", "table.long()[(tokens // size).clamp_max(table.numel() - 1)],"),
    )
    requests = tuple(Request(prefix_len=prefix) for prefix in (9, 44, 18, 63, 30))
    clause, said = account_of(make, ask("decode", requests=requests, poison=Poison(k="nan", v="nan")))
    assert (clause, "right without the other requests" in said) == (5, True)


def test_rows_that_see_ahead_to_the_end_of_a_page_read_the_right_pages() -> None:
    make = edited("reference", Edit("(keys > positions)", "(keys > positions + -kv_len % self.batch.page_size)"))
    assert account_of(make, ask("extend", requests=(Request(prefix_len=21, new_tokens=6),)))[0] == 1


def test_one_token_rows_of_a_mixed_batch_are_not_blamed_on_the_others() -> None:
    hidden = "hidden = (keys > positions) | (keys < positions - window)\n"
    lost = "(keys == kv_len - 1) & (self.batch.mode == 'mixed') & (q_len == 1)"
    make = edited("reference", Edit(hidden, f"{hidden}        hidden = hidden | ({lost})\n"))
    assert account_of(make, ask("mixed"))[0] == 1
