"""Clause 15 on scratch memory: what the check does to it, and what it says."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from attnconf.backends import triton
from attnconf.backends.flashinfer.trtllm_mha import make as trtllm_mha
from attnconf.backends.protocol import Promises, Scratched, Workspace
from attnconf.backends.reference import ReferenceBackend
from attnconf.cases.case import Case, Layer
from attnconf.cases.request import Request
from attnconf.judging.checks.determinism import WORKSPACE as CHECK
from attnconf.judging.posed import PosedCase
from attnconf.judging.run import run_case
from attnconf.judging.trial import Trial
from attnconf.platforms import Platform, detect

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.backends.protocol import Backend, Prepared
    from attnconf.cases.inputs.batch import Batch
    from attnconf.judging.result import CaseResult

CPU = torch.device("cpu")
FULL = Layer(kind="full", num_qo_heads=2, num_kv_heads=1, head_dim=16, sm_scale=0.25)
CASE = Case(mode="decode", layers=(FULL, FULL), requests=(Request(prefix_len=20), Request(prefix_len=3)))
KEPT, FREE = 8, 24


class Scratching(ReferenceBackend):
    """The reference with a workspace, of which ``use(memory, layer, out)`` makes use behind every run."""

    def __init__(self, use: Callable[[torch.Tensor, int, torch.Tensor], None], **promises: bool) -> None:
        self.memory = torch.zeros(KEPT + FREE, dtype=torch.uint8)
        self.use = use
        self.promises = replace(Promises(lse="natural"), **promises)  # type: ignore[arg-type]

    def prepare(self, batch: Batch) -> Prepared:
        backend, inner = self, super().prepare(batch)

        class Run:
            def run(self, layer: int, out: torch.Tensor, lse: torch.Tensor | None) -> str:
                kernel = inner.run(layer, out, lse)
                backend.use(backend.memory, layer, out)
                return kernel

            def workspaces(self) -> tuple[Workspace, ...]:
                return (Workspace(memory=backend.memory, zero_bytes=KEPT),)

        return Run()


def ask(backend: Backend, case: Case = CASE, platform: Platform | None = None) -> CaseResult:
    return run_case(case, backend, platform or Platform(), CPU, choose=lambda _: (CHECK,))


def prepared(backend: Backend, case: Case = CASE) -> Any:  # noqa: ANN401 - what the backend prepares
    return backend.prepare(PosedCase(case, CPU).batch)


def test_the_run_sees_dirt_behind_the_bytes_that_must_be_zero_and_zeros_follow() -> None:
    seen: list[list[int]] = []
    backend = Scratching(lambda memory, _layer, _out: seen.append(memory.tolist()))
    backend.memory[KEPT:] = 5
    assert not ask(backend).is_failure
    dirty = [0] * KEPT + [0xFF] * FREE
    assert seen.count(dirty) == len(CASE.layers)
    assert not backend.memory.any()


def test_a_run_that_reads_what_it_did_not_write_is_named() -> None:
    def use(memory: torch.Tensor, _layer: int, out: torch.Tensor) -> None:
        out[1] += memory[KEPT]

    first, _ = ask(Scratching(use)).failures
    assert (first.clause, first.check) == (15, "workspace")
    assert first.summary.startswith("the same call over scratch memory full of 0xFF bytes: 32 of 32 output elements")
    assert first.place is not None
    assert first.place.request == 1


@pytest.mark.parametrize(("shift", "fails"), [(2.0**-24, False), (1.0, True)])
def test_without_a_bitwise_promise_dirt_may_move_the_answer_within_its_bound(shift: float, *, fails: bool) -> None:
    def use(memory: torch.Tensor, _layer: int, out: torch.Tensor) -> None:
        out += shift * bool(memory[KEPT])

    case = CASE.model_copy(update={"q_dtype": "float32", "kv_dtype": "float32"})
    assert ask(Scratching(use, deterministic=False), case).is_failure is fails
    assert ask(Scratching(use), case).is_failure


def test_bytes_that_are_not_left_zero_are_named_on_the_layer_that_left_them_and_cleared() -> None:
    def use(memory: torch.Tensor, layer: int, _out: torch.Tensor) -> None:
        if layer == 1:
            memory[3] = 1

    backend = Scratching(use)
    (failure,) = ask(backend).failures
    assert (failure.clause, failure.check, failure.layer) == (15, "workspace", 1)
    assert failure.summary == (
        "1 of the first 8 bytes of the workspace, which must be zero at every launch, are not zero after the run; "
        "the first of them is byte 3"
    )
    assert not backend.memory.any()


def test_a_backend_without_a_workspace_is_not_asked() -> None:
    trial = Trial(PosedCase(CASE, CPU), ReferenceBackend(), Platform())
    assert not CHECK.applies(trial, 0)


def test_triton_names_its_split_results_and_reads_none_that_it_did_not_write() -> None:
    backend = triton.make(detect())
    long = CASE.model_copy(update={"requests": (Request(prefix_len=1900), Request(prefix_len=30))})
    names = prepared(backend, long)
    assert isinstance(names, Scratched)
    partial, stats = names.workspaces()
    assert partial.memory.numel() == 2 * 2 * 3 * 16  # tokens, heads, splits of at least 768 keys, head_dim
    assert stats.memory.numel() == 2 * 2 * 3 * 2
    assert not ask(backend, long, detect()).is_failure


@pytest.mark.parametrize("mode", ["decode", "extend"])
def test_the_contract_reading_bears_dirt(mode: str) -> None:
    backend = trtllm_mha(detect())
    layer = FULL.model_copy(update={"head_dim": 128})
    case = CASE.model_copy(update={"mode": mode, "layers": (layer,), "requests": (Request(prefix_len=20),)})
    (workspace,) = prepared(backend, case).workspaces()
    assert workspace.memory.numel() == 1024
    result = ask(backend, case, detect())
    assert [layer.outcome.value for layer in result.layers] == ["contract_only"], result.layers
