"""Calls beside calls: which siblings a case has, and what memory a check of clause 10 watches."""

from __future__ import annotations

import pytest
import torch

from attnconf.cases.case import QuerySide
from attnconf.cases.inputs.guards import GUARD_BYTES, guarded
from attnconf.cases.shape import kernel_shape
from attnconf.judging.checks.siblings import siblings
from attnconf.judging.posed import PosedCase
from attnconf.mutants.small_cases import CAPPED, FULL, SCALED, SLIDING, ask, quantised

CPU = torch.device("cpu")


def test_a_sibling_has_the_shape_of_the_case_and_another_answer_or_memory() -> None:
    rich = SLIDING.model_copy(update={"logits_soft_cap": 5.0})
    found = dict(siblings(ask("decode", rich), 0))
    assert set(found) == {
        "sm_scale",
        "the window",
        "the soft cap",
        "the strides of the query",
        "the host hint",
        "the strides of the table",
        "the strides of the cache",
    }
    for trait, case in found.items():
        assert case != ask("decode", rich), trait
        if trait not in {"the host hint", "the window", "the strides of the cache"}:
            assert kernel_shape(case, 0) == kernel_shape(ask("decode", rich), 0)
    assert {"k_scale", "v_scale", "the dtype of keys and values"} <= set(dict(siblings(quantised("decode"), 0)))


def test_the_sibling_of_another_cache_dtype_is_stored_so_and_has_no_infinity() -> None:
    case = ask("decode", q_dtype="bfloat16", kv_dtype="bfloat16", poison={"k": "inf", "v": "nan"})
    eight = dict(siblings(case, 0))["the dtype of keys and values"]
    assert (eight.kv_dtype, eight.poison.k, eight.poison.v) == ("float8_e4m3fn", "huge", "nan")
    sixteen = dict(siblings(quantised("decode"), 0))["the dtype of keys and values"]
    assert (sixteen.kv_dtype, sixteen.layers[0].k_scale, sixteen.layers[0].v_scale) == ("bfloat16", 1.0, 1.0)


@pytest.mark.parametrize("layer", [FULL, CAPPED, SCALED], ids=["full", "capped", "scaled"])
def test_every_sibling_is_a_valid_case(layer: object) -> None:
    case = quantised("mixed", SCALED) if layer is SCALED else ask("mixed", layer, query=QuerySide(context_len=2**20))  # type: ignore[arg-type]
    for _, one in siblings(case, 0):
        assert type(case).model_validate(one.model_dump(by_alias=True)) == one


def test_the_memory_of_every_input_has_guards_on_both_sides() -> None:
    batch = PosedCase(ask("decode", query=QuerySide(storage="packed")), CPU).batch
    named = dict(batch.tensors())
    for name, whole in batch.memory():
        offset = named[name].storage_offset() * named[name].element_size()
        assert offset == GUARD_BYTES, name
        assert whole[:GUARD_BYTES].eq(whole[0]).all()
        assert whole[-GUARD_BYTES:].eq(whole[0]).all()


def test_guards_keep_the_numbers_and_the_alignment() -> None:
    numbers = torch.arange(15, dtype=torch.float16).view(5, 3)
    kept = guarded(numbers)
    assert torch.equal(kept, numbers)
    assert kept.is_contiguous()
    assert kept.untyped_storage().nbytes() % GUARD_BYTES == 0
