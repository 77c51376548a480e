"""Own cases: a backend is asked what it supports until the profile's count is reached, and the rest is named."""

from __future__ import annotations

from functools import partial

import pytest

from attnconf.backends.protocol import Promises, Unsupported
from attnconf.backends.reference import ReferenceBackend
from attnconf.cases.case import Case
from attnconf.cases.drawing.families import FAMILIES
from attnconf.cases.drawing.profiles import profile_named
from attnconf.cases.shape import KernelShape, kernel_shape
from attnconf.gate.asked import Asked, asked_lines
from attnconf.platforms import Platform
from attnconf.policy.requirements import RequiredCell
from attnconf.running.explore import explore
from attnconf.running.own_cases import Selection, keys_of, required_layers
from attnconf.running.session import Session

PAGES = (16, 32)


class Picky(ReferenceBackend):
    """Right, but it takes some page sizes only, and neither float16 nor sinks."""

    name = "picky"
    promises = Promises()

    def supports(self, shape: KernelShape, platform: Platform) -> Unsupported | None:
        del platform
        if shape.q_dtype == "float16":
            return Unsupported("takes no float16")
        return None if shape.page_size in PAGES and not shape.sinks else Unsupported("takes small pages without sinks")


class Narrow(Picky):
    """Picky, and for decodes alone: one case in thirty of those that are drawn."""

    name = "narrow"

    def supports(self, shape: KernelShape, platform: Platform) -> Unsupported | None:
        if shape.mode != "decode":
            return Unsupported("takes decodes")
        return super().supports(shape, platform)


def a_session(**fields: object) -> Session:
    session = Session(platform=Platform(), profile=profile_named("gate"), **fields)  # type: ignore[arg-type]
    session.registry.register("picky", lambda _: Picky())
    session.registry.register("narrow", lambda _: Narrow())
    return session


SESSION = a_session()


def executed(selection: Selection) -> list[tuple[str, ...]]:
    """Return the key of each layer that the backend takes."""
    return [
        key
        for case in selection.cases
        if case.paging.page_size in PAGES and case.q_dtype != "float16"
        for key, layer in zip(keys_of(case), case.layers, strict=True)
        if not layer.sinks
    ]


@pytest.mark.parametrize("family", FAMILIES[:4])
def test_what_is_declined_is_made_up_by_cases_of_its_own(family: str) -> None:
    shared = SESSION.drawn.cases(family, "gemma4-31b")  # type: ignore[arg-type]
    found = SESSION.selection("picky", family, "gemma4-31b")  # type: ignore[arg-type]
    assert found.cases[: len(shared)] == shared
    assert len(found.cases) == len(shared) + found.own
    counted = [key for case in shared for key in keys_of(case)]
    for key in set(counted):
        if key[2].startswith("float16"):
            assert executed(found).count(key) == 0
        else:
            assert executed(found).count(key) >= counted.count(key), key
    assert found.asked == sum(not key[2].startswith("float16") for key in counted) == found.planned
    assert {reason.rpartition(": ")[2] for reason in found.unreached} <= {"takes no float16"}
    assert sum(found.unreached.values()) == sum(key[2].startswith("float16") for key in counted)


def test_who_takes_everything_gets_the_shared_cases_alone() -> None:
    for family, model in (("decode", "gemma4-e2b"), ("free", "free")):
        found = SESSION.selection("reference", family, model)  # type: ignore[arg-type]
        assert found.cases == SESSION.drawn.cases(family, model)  # type: ignore[arg-type]
        assert (found.own, found.unreached) == (0, {})


def test_nine_layers_of_ten_that_are_asked_are_executed() -> None:
    found = [SESSION.selection("picky", family, "gemma4-e2b") for family in FAMILIES[:4]]
    found.append(SESSION.selection("picky", "windows", "gemma4-31b"))
    assert sum(one.planned for one in found) >= 0.9 * sum(one.asked for one in found) > 0
    assert sum(one.own for one in found) > 0


def test_who_takes_a_corner_of_the_space_still_executes_as_many_cases() -> None:
    shared = SESSION.drawn.cases("free", "free")
    found = SESSION.selection("narrow", "free", "free")
    takes = partial(Narrow().supports, platform=Platform())
    met = [any(takes(kernel_shape(case, i)) is None for i in range(len(case.layers))) for case in found.cases]
    assert 10 * sum(met[: len(shared)]) < len(shared)
    assert sum(met) >= len(shared)
    assert all(met[len(shared) :])


def test_who_takes_nothing_is_soon_believed() -> None:
    assert SESSION.selection("narrow", "extend", "gemma4-31b").own == 0


def test_the_same_backend_gets_the_same_cases_elsewhere_and_another_seed_others() -> None:
    own = SESSION.selection("picky", "decode", "gemma4-31b").cases
    assert a_session().selection("picky", "decode", "gemma4-31b").cases == own
    assert a_session(seed=1).selection("picky", "decode", "gemma4-31b").cases != own


def test_what_a_policy_requires_is_drawn_where_the_profile_counts_less() -> None:
    cell = RequiredCell(
        backend="picky",
        model="gemma4-31b",
        layer_kind="full",
        mode="decode",
        dtypes="bfloat16+float8_e4m3fn",
        executed=9,
        effective=(),
    )
    anyway = cell.model_copy(update={"dtypes": "any", "layer_kind": "sliding", "executed": 30})
    session = a_session(required=required_layers([cell, anyway]))
    keys = executed(session.selection("picky", "decode", "gemma4-31b"))
    assert keys.count(("full", "decode", "bfloat16+float8_e4m3fn")) >= 9
    assert sum(key[0] == "sliding" for key in keys) >= 30
    other = session.selection("picky", "extend", "gemma4-31b")
    assert other.cases == SESSION.selection("picky", "extend", "gemma4-31b").cases


def test_a_failure_in_an_own_case_is_shrunk_within_them() -> None:
    from attnconf.judging.result import CaseResult, Failure, LayerResult, Outcome

    selection = SESSION.selection("picky", "mixed", "gemma4-31b")
    own = selection.draws[-1].cases
    outcome = partial(CaseResult, backend="picky", evidence="kernel")

    def run(case: Case) -> CaseResult:
        failure = Failure(clause=3, check="numerics", summary="planted", layer=0)
        if case.paging.page_size in PAGES and case.q_dtype != "float16":
            return outcome(case=case, layers=(LayerResult(layer=0, outcome=Outcome.FAILED, failures=(failure,)),))
        return outcome(case=case, layers=(LayerResult(layer=0, outcome=Outcome.PASSED),))

    found = explore([selection.draws[-1]], run)
    assert found.failure is not None
    assert found.failure.case not in own
    assert (found.failure.case.paging.page_size, found.failure.case.q_dtype) == (PAGES[0], "bfloat16")


def test_what_is_asked_and_executed_stands_in_one_line() -> None:
    one = Asked(layers=30, own=2, unreached={"full decode float16: no": 4})
    total = one + Asked(layers=10, unreached={"full decode float16: no": 1, "sliding verify float32: none": 1})
    assert total == Asked(layers=40, own=2, unreached={"full decode float16: no": 5, "sliding verify float32: none": 1})
    assert asked_lines({"b": total, "idle": Asked(layers=0)}, {"b": 38}) == [
        "b: 40 layers asked, 38 executed (95 %), with 2 cases of its own; 6 layers out of its reach"
    ]
