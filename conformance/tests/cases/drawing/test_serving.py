"""Serving loads: each model's real layers meet the sizes that are served, and a failing one is made smaller."""

from __future__ import annotations

from functools import cache

import pytest

from attnconf.cases.case import Case
from attnconf.cases.drawing.drawn import DrawnCases
from attnconf.cases.drawing.families import Family
from attnconf.cases.drawing.profiles import profile_named
from attnconf.cases.drawing.serving import CONTEXT, Load, lessened
from attnconf.judging.admission import why_not_admitted

SIZED: tuple[Family, ...] = ("decode", "extend", "mixed", "verify")


@cache
def served(profile: str, family: Family, model: str, *, accelerated: bool = True) -> tuple[Case, ...]:
    """Return the cases of serving loads: those of the draws whose deck has loads."""
    drawn = DrawnCases(profile_named(profile).of((model,)), 0, accelerated=accelerated)
    return tuple(
        case
        for draws in drawn.draws(family, model)
        if any(isinstance(card, Load) for card in draws.space.deck)
        for case in draws.cases
    )


@pytest.mark.parametrize("model", ["gemma4-31b", "gemma4-e2b", "llama3-8b", "gpt-oss-20b"])
def test_gate_gives_a_gpu_the_sizes_that_are_served(model: str) -> None:
    decode, extend, mixed, verify = (served("gate", family, model) for family in SIZED)
    assert [len(case.requests) for case in decode] == [64, 256, 512, 1]
    assert decode[-1].max_kv_len > CONTEXT
    chunks = [max(case.requests, key=lambda request: request.new_tokens) for case in extend]
    assert [chunk.new_tokens for chunk in chunks[:-1]] == [512] * 3 + [2048] * 3 + [8192] * 3
    assert chunks[-1].kv_len > CONTEXT
    window = max(layer.window_left for layer in extend[0].layers)
    for none, odd, past in zip(chunks[0:9:3], chunks[1:9:3], chunks[2:9:3], strict=True):
        assert none.prefix_len == 0
        assert odd.prefix_len % 2 == 1
        assert past.prefix_len > window
    assert chunks[6].new_tokens > window + 1  # new tokens beyond the window
    assert [sorted(request.new_tokens for request in case.requests)[:65].count(1) for case in mixed] == [64, 64]
    assert [len(case.requests) for case in verify] == [64]
    for case in (*decode, *extend, *mixed, *verify):
        assert len(case.layers) == len(served("gate", "decode", model)[0].layers)
        if window >= 0 and len(case.requests) >= 64:
            assert any(request.kv_len > window + 1 for request in case.requests)


def test_smoke_gives_a_few_and_a_cpu_what_it_bears() -> None:
    assert [len(served("smoke", family, "gemma4-e2b")) for family in SIZED] == [1, 2, 1, 0]
    assert all(served("smoke", family, "gemma4-e2b", accelerated=False) == () for family in SIZED)
    for model, beyond in (("gemma4-e2b", True), ("gemma4-31b", True), ("gpt-oss-20b", True), ("mistral-7b", False)):
        (case,) = served("gate", "extend", model, accelerated=False)
        rows = max(request.new_tokens for request in case.requests)
        assert rows >= 300
        assert (rows > max(layer.window_left for layer in case.layers) + 1) is beyond
        assert why_not_admitted(case, accelerated=False) is None


def test_a_failing_load_is_made_smaller() -> None:
    for family in SIZED:
        case = served("gate", family, "gemma4-e2b")[-2 if family == "extend" else 0]
        smaller = list(lessened(case))
        assert smaller
        assert all(Case.model_validate(one.to_data()) == one for one in smaller)
        work = [sum(request.new_tokens * request.kv_len for request in one.requests) for one in smaller]
        assert work[0] == min(work)
        assert all(one.layers == case.layers for one in smaller)
        assert min(len(one.requests) for one in smaller) <= 2
