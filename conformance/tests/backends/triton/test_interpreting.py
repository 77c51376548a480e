"""Triton's interpreter describes a type once: the answers keep every bit, and Triton is as it was afterwards."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import triton.language as tl
from triton.language import core, semantic
from triton.runtime import interpreter

from attnconf.backends.triton import interpreting, make
from attnconf.cases.case import Case
from attnconf.judging.posed import PosedCase
from attnconf.judging.trial import Trial
from attnconf.mutants.small_cases import CAPPED, SCALED, SINKS, SLIDING, ask
from attnconf.platforms import detect

PLACES = (interpreter, core, core.tensor, core.block_type, core.dtype, semantic.TritonSemantic)


def functions() -> list[dict[str, object]]:
    return [{name: value for name, value in vars(place).items() if callable(value)} for place in PLACES]


def answers(case: Case) -> list[torch.Tensor]:
    trial = Trial(PosedCase(case, torch.device("cpu")), make(detect()), detect())
    outputs = [trial.base(layer) for layer in range(len(case.layers))]
    return [one for output in outputs for one in (output.out, output.lse) if one is not None]


@pytest.mark.parametrize(
    "case",
    [
        ask("decode", SLIDING, CAPPED, SINKS),
        ask("extend", SLIDING, q_dtype="bfloat16", kv_dtype="bfloat16"),
        ask("verify", SCALED, q_dtype="float16", kv_dtype="float8_e4m3fn"),
    ],
    ids=["decode", "extend", "verify"],
)
def test_answers_keep_every_bit(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = answers(case)
    monkeypatch.setattr(interpreting, "described_once", contextlib.nullcontext)
    slow = answers(case)
    assert len(quick) == len(slow) > 0
    assert all(torch.equal(one, other) for one, other in zip(quick, slow, strict=True))


def test_triton_is_as_it_was_afterwards() -> None:
    before = functions()

    def interrupted() -> None:
        with interpreting.described_once():
            assert functions() != before
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert functions() == before


def test_types_are_told_apart_and_equal_shapes_are_one() -> None:
    with interpreting.described_once():
        blocks = [core.block_type(element, shape) for element in (tl.float32, tl.int8) for shape in ([4], [2, 2], [4])]
        names = [block.name for block in blocks]
        assert len(set(names)) == 4
        assert [block.element_ty for block in blocks] == [tl.float32] * 3 + [tl.int8] * 3
        assert blocks[0].shape is blocks[2].shape is blocks[3].shape
        assert blocks[0].shape is not blocks[1].shape
        assert blocks[0] == blocks[2] != blocks[3]
        made = [core.tensor(None, block) for block in blocks]
        assert [[size.value for size in tensor.shape] for tensor in made] == [[4], [2, 2], [4]] * 2
        assert [tensor.dtype for tensor in made] == [block.element_ty for block in blocks]
        assert [tensor.numel.value for tensor in (*made, core.tensor(None, tl.int32))] == [4] * 6 + [1]
    assert [core.block_type(block.element_ty, block.shape).name for block in blocks] == names  # by Triton alone


def test_a_triton_without_one_of_the_functions_keeps_its_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(semantic.TritonSemantic, "broadcast_impl_value")
    with interpreting.described_once():
        assert not hasattr(semantic.TritonSemantic, "broadcast_impl_value")
        assert core.block_type(tl.float32, [4]).numel == 4
    assert not hasattr(semantic.TritonSemantic, "broadcast_impl_value")


def test_a_loaded_number_is_the_end_of_a_loop_whatever_triton_asks_of_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    def as_triton_3_6_does(tensor: type, scope: object) -> None:
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data))  # type: ignore[attr-defined]

    class Scope:
        set_attr = staticmethod(setattr)

    class Loaded:
        handle = SimpleNamespace(data=np.array([3]))

    monkeypatch.setattr(interpreter, "_patch_lang_tensor", as_triton_3_6_does)
    with interpreting.described_once():
        interpreter._patch_lang_tensor(Loaded, Scope())
    assert list(range(Loaded())) == [0, 1, 2]  # type: ignore[arg-type]


def test_a_number_beside_bytes_has_the_type_that_the_operation_gives_it() -> None:
    semantic_ = interpreter.interpreter_semantic
    bytes_ = core.tensor(
        interpreter.TensorHandle(np.zeros(4, dtype=np.uint8), tl.uint8), core.block_type(tl.uint8, [4])
    )

    of_a_sum, of_bits = (True, True), (False, False, False)  # as Triton's add and bitwise operations pass them

    def types() -> list[str]:
        sums = semantic_.binary_op_type_checking_impl(bytes_, 15, *of_a_sum)
        bits = semantic_.binary_op_type_checking_impl(bytes_, 15, *of_bits)
        return [one.dtype.name for one in (*sums, *bits)]

    as_triton_does = types()
    with interpreting.described_once():
        assert types() == as_triton_does
