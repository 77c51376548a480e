"""Each clause has a broken backend that its check catches, on cases from the real strategies, and no other does."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings

from attnconf.backends.reference import ReferenceBackend
from attnconf.case import Case
from attnconf.checks.catalogue import CHECKS, all_checks
from attnconf.checks.refusal import STALE, probe_refusal
from attnconf.platforms import Platform
from attnconf.result import CaseResult, Outcome
from attnconf.run import run_case
from attnconf.strategies import Space, cases, free_layers

_spec = importlib.util.spec_from_file_location("broken", Path(__file__).with_name("broken.py"))
broken = importlib.util.module_from_spec(_spec)
sys.modules["broken"] = broken
_spec.loader.exec_module(broken)
Broken, Slip = broken.Broken, broken.Slip

CPU = torch.device("cpu")
POOL = 600
MOST_CASES = 12
"""How many cases that have the feature may pass before the broken backend must have been caught."""


def has_window(case: Case) -> bool:
    return any(layer.window_left >= 0 for layer in case.layers)


def several_rows(case: Case) -> bool:
    return any(request.new_tokens > 1 for request in case.requests)


def has_prefix(case: Case) -> bool:
    return any(request.prefix_len and request.new_tokens for request in case.requests)


def has_cap(case: Case) -> bool:
    return any(layer.logits_soft_cap for layer in case.layers)


def has_sinks(case: Case) -> bool:
    return any(layer.sinks for layer in case.layers)


def has_groups(case: Case) -> bool:
    return any(layer.num_kv_heads > 1 and layer.group_size > 1 for layer in case.layers)


def many_pages(case: Case) -> bool:
    return any(request.kv_len > case.paging.page_size and request.new_tokens for request in case.requests)


def partial_page(case: Case) -> bool:
    return any(request.kv_len % case.paging.page_size and request.new_tokens for request in case.requests)


def has_hybrid(case: Case) -> bool:
    return case.paging.hybrid


def is_redirected(case: Case) -> bool:
    return any(layer.kv_owner is not None for layer in case.layers)


def is_reclaimed(case: Case) -> bool:
    return case.paging.reclaimed and any(
        request.new_tokens and request.prefix_len - layer.window_left > case.paging.page_size
        for layer in case.layers
        for request in case.requests
        if layer.window_left >= 0
    )


def is_float32(case: Case) -> bool:
    return case.q_dtype == "float32"


def is_fp8(case: Case) -> bool:
    return case.kv_dtype == "float8_e4m3fn"


def has_empty(case: Case) -> bool:
    return case.padding_rows > 0 and case.padding_kv_len == 0


def no_sinks(case: Case) -> bool:
    return not has_sinks(case)


def anything(_case: Case) -> bool:
    return True


def both(*needs: Callable[[Case], bool]) -> Callable[[Case], bool]:
    return lambda case: all(need(case) for need in needs)


@dataclass(frozen=True)
class Mutant:
    """A slip, the clause that it breaks, the check that must say so, and the other checks that may fail with it."""

    name: str
    clause: int
    check: str
    slip: Slip
    needs: Callable[[Case], bool] = anything
    also: frozenset[str] = field(default=frozenset())


READS_DEAD = frozenset({"dead_slots", "reclaimed"})
BITS = frozenset({"dead_slots", "relabelled", "independence", "repeated", "host_hints", "reclaimed"})

MUTANTS = [
    Mutant("causal off", 1, "numerics", Slip(causal=False), several_rows),
    Mutant("newest key lost", 1, "numerics", Slip(positions=lambda p, _n: p - 1), many_pages),
    Mutant("top-left", 1, "numerics", Slip(positions=lambda p, n: p - p[0] if n > 0 else p), has_prefix),
    Mutant("window one more", 2, "numerics", Slip(batch=broken.window(1)), has_window),
    Mutant("window one less", 2, "numerics", Slip(batch=broken.window(-1)), has_window),
    Mutant(
        "window off",
        2,
        "numerics",
        Slip(batch=broken.geometry(lambda layer, _b: {"window_left": -1 if layer.window_left < 0 else 10**6})),
        has_window,
    ),
    Mutant(
        "cap ignored", 3, "numerics", Slip(batch=broken.geometry(lambda _l, _b: {"logits_soft_cap": None})), has_cap
    ),
    Mutant("sinks ignored", 3, "numerics", Slip(batch=broken.without_sinks), has_sinks),
    Mutant("sink in numerator", 3, "numerics", Slip(sink_in_numerator=True), has_sinks),
    Mutant("sink capped", 3, "numerics", Slip(cap_after_sink=True), both(has_sinks, has_cap)),
    Mutant("LSE in base two", 3, "numerics", Slip(lse_factor=broken.LOG2E)),
    Mutant(
        "scale twice",
        3,
        "numerics",
        Slip(batch=broken.geometry(lambda layer, _b: {"sm_scale": layer.sm_scale**2})),
        lambda case: all(layer.sm_scale != 1.0 for layer in case.layers),
    ),
    Mutant("head modulo", 4, "numerics", Slip(heads=lambda h, _g, kv: h % kv), has_groups),
    Mutant("head by kv", 4, "numerics", Slip(heads=lambda h, _g, kv: (h // kv).clamp_max(kv - 1)), has_groups),
    Mutant("next page", 5, "numerics", Slip(tables=broken.next_page), many_pages, READS_DEAD),
    Mutant(
        "row 0's table",
        5,
        "numerics",
        Slip(tables=broken.first_row),
        lambda case: len(case.requests) > 1,
        READS_DEAD | {"independence"},
    ),
    Mutant(
        "additive mask",
        6,
        "dead_slots",
        Slip(whole_pages=True, mask=broken.additive),
        partial_page,
        frozenset({"numerics"}),
    ),
    Mutant("weight 0 times dead V", 6, "dead_slots", Slip(whole_pages=True), partial_page, frozenset({"numerics"})),
    Mutant(
        "one key past the end", 6, "numerics", Slip(reads_past_end=1), partial_page, BITS | {"layout", "consistency"}
    ),
    Mutant(
        "old keys weigh e^-20",
        7,
        "reclaimed",
        Slip(old_keys_mask=-20.0),
        both(is_reclaimed, is_float32),
        frozenset({"dead_slots", "numerics", "relabelled"}),
    ),
    Mutant("untranslated", 8, "numerics", Slip(tables=broken.untranslated), has_hybrid, READS_DEAD),
    Mutant("own KV", 9, "numerics", Slip(cache=lambda _b, layer: layer), is_redirected),
    Mutant("own scales", 9, "numerics", Slip(own_scales=True), both(is_redirected, is_fp8)),
    Mutant("writes the null page", 10, "inputs_unchanged", Slip(after=broken.write_null_page)),
    Mutant(
        "writes the owner's cache",
        10,
        "inputs_unchanged",
        Slip(after=broken.write_owner),
        is_redirected,
        frozenset({"numerics"}),
    ),
    Mutant("scales q in place", 10, "inputs_unchanged", Slip(after=broken.scale_q), anything),
    Mutant(
        "an element unwritten",
        10,
        "outputs_written",
        Slip(after=broken.forget_last),
        anything,
        frozenset({"numerics", "independence"}),
    ),
    Mutant(
        "an LSE unwritten",
        10,
        "outputs_written",
        Slip(after=broken.forget_lse),
        anything,
        frozenset({"numerics", "independence"}),
    ),
    Mutant("past the output", 10, "outputs_written", Slip(after=broken.write_past)),
    Mutant("empty row is one", 11, "empty_rows", Slip(empty=(1.0, -math.inf)), has_empty),
    Mutant("empty row has LSE 0", 11, "empty_rows", Slip(empty=(0.0, 0.0)), both(has_empty, no_sinks)),
    Mutant(
        "bits by batch size",
        12,
        "independence",
        Slip(factor=broken.many_rows),
        both(is_float32, lambda c: len(c.requests) > 1),
    ),
    Mutant(
        "bits by row", 12, "independence", Slip(factor=broken.odd_row), both(is_float32, lambda c: len(c.requests) > 1)
    ),
    Mutant("bits by page id", 13, "relabelled", Slip(factor=broken.last_page), is_float32),
    Mutant(
        "HND as NHD",
        14,
        "layout",
        Slip(gather=broken.as_nhd),
        lambda c: c.paging.layout == "NHD",
        frozenset({"numerics"}),
    ),
    Mutant(
        "strides ignored",
        14,
        "layout",
        Slip(gather=broken.densely),
        lambda c: c.paging.storage == "apart",
        frozenset({"numerics"}),
    ),
    Mutant("coin", 15, "repeated", Slip(factor=broken.coin), is_float32, BITS),
    Mutant("A, B, A", 15, "repeated", Slip(factor=broken.leak), is_float32, BITS),
    Mutant("stale workspace", 15, "workspace", Slip(scratch=broken.stale_sum)),
    Mutant("semaphore left", 15, "workspace", Slip(scratch=broken.semaphore_left)),
    Mutant(
        "decode window one less",
        17,
        "consistency",
        Slip(batch=broken.window(-1, ("decode",))),
        both(has_window, lambda case: case.mode != "decode"),
    ),
    Mutant(
        "chunks from row zero",
        17,
        "consistency",
        Slip(batch=broken.window(1, ("extend",))),
        both(has_window, lambda case: case.mode == "verify"),
    ),
    Mutant("scales swapped", 18, "numerics", Slip(scales=lambda k, v: (v, k)), is_fp8),
    Mutant("k_scale dropped", 18, "numerics", Slip(scales=lambda _k, v: (1.0, v)), is_fp8),
    Mutant("v_scale dropped", 18, "numerics", Slip(scales=lambda k, _v: (k, 1.0)), is_fp8),
    Mutant("bits by hint", 19, "host_hints", Slip(factor=broken.splits), is_float32),
]


@lru_cache(maxsize=1)
def pool() -> tuple[Case, ...]:
    """Draw cases from the real strategies, the same ones every time; small ones, since all checks run on each."""
    drawn: dict[str, Case] = {}
    space = Space(name="free", layers=free_layers(), max_kv_len=70, max_new_tokens=6)

    @seed(11)
    @settings(
        max_examples=POOL,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases(space))
    def draw(case: Case) -> None:
        if all(layer.head_dim <= 128 for layer in case.layers):
            drawn[case.id] = case

    draw()
    return tuple(drawn.values())


def ask(case: Case, backend: object) -> CaseResult:
    return run_case(case, [backend], Platform(), CPU, choose=all_checks)[0]  # type: ignore[list-item]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant.clause}-{mutant.name}".replace(" ", "_"))
def test_a_broken_backend_is_caught_by_the_check_of_its_clause_and_by_no_other(mutant: Mutant) -> None:
    suitable = [case for case in pool() if mutant.needs(case)][:MOST_CASES]
    assert len(suitable) >= 3, "the strategies hardly ever draw what this clause needs"
    for case in suitable:
        result = ask(case, Broken(mutant.slip))
        assert all(layer.outcome in {Outcome.PASSED, Outcome.FAILED} for layer in result.layers), result.layers
        others = {failure.check for failure in result.failures} - mutant.also - {mutant.check}
        assert not others, [failure for failure in result.failures if failure.check in others]
        if any((failure.check, failure.clause) == (mutant.check, mutant.clause) for failure in result.failures):
            return
    pytest.fail(f"not caught in {len(suitable)} cases")


@pytest.mark.parametrize("slip", [Slip(), Slip(scratch=broken.right_scratch)])
def test_the_broken_backend_without_a_slip_passes_everything(slip: Slip) -> None:
    for case in pool()[:25]:
        result = ask(case, Broken(slip))
        assert not result.failures, (case, result.failures)


def test_the_reference_backend_passes_everything() -> None:
    for case in pool()[25:60]:
        result = ask(case, ReferenceBackend())
        assert not result.is_failure, (case, result.failures)


def test_every_clause_that_needs_no_gpu_has_a_broken_backend() -> None:
    assert {mutant.clause for mutant in MUTANTS} == set(range(1, 20)) - {16}
    assert {mutant.check for mutant in MUTANTS} == {check.name for check in CHECKS if check.clauses != (16,)}


@pytest.mark.parametrize(
    ("instead", "slip", "outcome", "reason"),
    [
        (broken.refuse, Slip(), Outcome.UNSUPPORTED, "UnsupportedError: head_dim 17 has no kernel"),
        (lambda _out: None, Slip(), Outcome.UNSUPPORTED, STALE),
        (lambda _out: None, Slip(causal=False, heads=lambda h, _g, _kv: h * 0), Outcome.FAILED, "and wrongly"),
        (lambda _out: None, Slip(after=broken.forget_last), Outcome.FAILED, "1 elements unwritten"),
        (lambda _out: None, Slip(after=broken.write_past), Outcome.FAILED, "memory around the output"),
        (lambda _out: None, Slip(after=broken.write_null_page), Outcome.FAILED, "changed its input caches"),
        (broken.refuse_late, Slip(), Outcome.FAILED, "wrote to the output before it refused"),
        (broken.refuse_bare, Slip(), Outcome.FAILED, "naming no reason"),
        (broken.crash, Slip(), Outcome.CRASHED, "RuntimeError: CUDA error"),
        (broken.run_out, Slip(), Outcome.OOM, "MemoryError"),
    ],
)
def test_refusal_is_probed(instead: Callable, slip: Slip, outcome: Outcome, reason: str) -> None:
    case = next(case for case in pool() if both(several_rows, has_groups)(case) and case.layers[0].num_kv_heads > 1)
    results = probe_refusal(case, broken.Declared(slip, instead=instead), Platform(), CPU)
    assert len(results) == len(case.layers)
    assert results[0].outcome is outcome
    said = results[0].reason or results[0].failures[0].summary
    assert reason in said
    assert all((failure.clause, failure.check) == (20, "refusal") for failure in results[0].failures)


def test_what_is_declared_supported_is_not_probed() -> None:
    assert probe_refusal(pool()[0], ReferenceBackend(), Platform(), CPU) == []
