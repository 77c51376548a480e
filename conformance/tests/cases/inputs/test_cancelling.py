"""Values that cancel: pairs of keys, which a row sees both, and what is left of its answer."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings

from attnconf.cases.case import Case, Paging
from attnconf.cases.drawing.families import space_of
from attnconf.cases.drawing.strategies import cases
from attnconf.cases.inputs.cancelling import pairs_of
from attnconf.cases.inputs.levels import cancels
from attnconf.cases.inputs.logical import make_logical
from attnconf.cases.inputs.witnesses import plan_probes
from attnconf.cases.request import Request
from attnconf.judging.posed import PosedCase
from attnconf.judging.trial import Trial
from attnconf.mutants.registry import mutant_named
from attnconf.mutants.small_cases import FULL, SHARED, SLIDING, ask, served
from attnconf.oracle.attention import solve
from attnconf.oracle.packed import scaled
from attnconf.platforms import detect

CPU = torch.device("cpu")
FREE = space_of("free", "free", accelerated=False, max_kv_len=100)


def starts(case: Case) -> list[int]:
    return [sum(one.kv_len for one in case.requests[:index]) for index in range(len(case.requests))]


def test_one_seed_of_eight_has_values_that_cancel_and_no_far_level() -> None:
    turns = [seed for seed in range(16) if cancels(ask("decode", seed=seed))]
    assert turns == [5, 13]


@given(cases(FREE))
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
def test_no_probe_is_a_partner_and_no_key_is_in_two_pairs(case: Case) -> None:
    readers = [(layer, plan_probes(case, 0)) for layer in case.layers[:1]]
    pairs = pairs_of(case, readers, starts(case), None)
    places = [place for pair in pairs for place in pair]
    assert len(set(places)) == len(places)
    first = starts(case)
    probed = {(first[probe.request] + probe.token, probe.head // case.layers[0].group_size) for probe in readers[0][1]}
    assert {one for one, _ in pairs} <= probed
    assert not {other for _, other in pairs} & probed
    for (token, _), (other, _) in pairs:  # of one request
        assert sum(start <= token for start in first) == sum(start <= other for start in first)


@pytest.mark.parametrize("requests", [(Request(prefix_len=44),), (Request(prefix_len=30, new_tokens=9),)])
def test_a_partner_has_the_same_key_and_half_of_the_opposite_value(requests: tuple[Request, ...]) -> None:
    mode = "decode" if requests[0].new_tokens == 1 else "extend"
    for layers in ((FULL,), (SLIDING,), (FULL, SHARED)):
        case = ask(mode, *layers, requests=requests, seed=5)
        logical = make_logical(case)
        readers = [(layer, plan_probes(case, index)) for index, layer in enumerate(layers)]
        pairs = pairs_of(case, readers, starts(case), None)
        assert pairs
        k, v = logical.layers[0].k, logical.layers[0].v
        for (token, head), (other, beside) in pairs:
            assert torch.equal(k[token, head], k[other, beside])
            assert torch.equal(v[token, head, 32:], -v[other, beside, 32:])
            assert not torch.equal(v[token, head, :32], -v[other, beside, :32])


def test_what_is_left_is_small_beside_its_terms_in_half_of_the_numbers() -> None:
    posed = PosedCase(ask("decode", FULL, requests=(Request(prefix_len=600),), seed=5), CPU)
    problem = posed.problem(0, 0)
    (solved,) = solve([problem])
    terms = solved.weights.p @ scaled(problem.v, 1.0).abs().transpose(0, 1).repeat_interleave(3, dim=0)
    left = (solved.out.abs() / terms)[0, :, 0]
    assert float(left[:, 32:].median()) < float(left[:, :32].median()) / 4
    assert float(left[:, 32:].median()) < 0.1


def test_a_key_on_a_shared_page_has_one_partner_for_all_that_read_it() -> None:
    requests = (Request(prefix_len=44), Request(prefix_len=40, shares_with=0, shared_pages=4))
    case = ask("decode", requests=requests, paging=Paging(page_size=8), seed=5)
    logical = make_logical(case)
    assert torch.equal(logical.layers[0].k[:32], logical.layers[0].k[45:77])
    assert torch.equal(logical.layers[0].v[:32], logical.layers[0].v[45:77])


@pytest.mark.parametrize("name", ["weights-in-16-bits", "partial-sums-in-16-bits"])
def test_what_was_lost_before_the_answer_was_rounded_shows(name: str) -> None:
    found = []
    for seed in (5, 13, 21):
        case = served("decode", requests=(Request(prefix_len=300),), seed=seed)
        found.append(Trial(PosedCase(case, CPU), mutant_named(name).make(detect()), detect()).base_units(0, 0))
    assert min(found) > 5.0
