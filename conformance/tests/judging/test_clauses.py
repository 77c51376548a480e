"""A right backend fails no check on cases from the real strategies; what is declared unsupported is probed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings

from attnconf.backends import reference
from attnconf.backends.protocol import Backend, EvidenceKind, Prepared, Promises, Unsupported
from attnconf.backends.reference import ReferenceBackend
from attnconf.cases.case import Case
from attnconf.cases.drawing.space import Space
from attnconf.cases.drawing.strategies import cases, free_layers
from attnconf.cases.inputs.batch import Batch
from attnconf.cases.shape import KernelShape
from attnconf.errors import UnbuiltError, UnsupportedError
from attnconf.judging.checks.catalogue import all_checks
from attnconf.judging.checks.refusal import STALE, probe_refusal
from attnconf.judging.result import CaseResult, Outcome
from attnconf.judging.run import run_case
from attnconf.mutants.registry import mutant_named
from attnconf.platforms import Platform
from attnconf.precision import NumericsProfile

CPU = torch.device("cpu")


@lru_cache(maxsize=1)
def pool() -> tuple[Case, ...]:
    """Draw cases from the real strategies, the same ones every time; small ones, since all checks run on each."""
    drawn: dict[str, Case] = {}
    space = Space(name="free", layers=free_layers(), max_kv_len=70, max_new_tokens=6)

    @seed(11)
    @settings(
        max_examples=120,
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


def ask(case: Case, backend: Backend) -> CaseResult:
    return run_case(case, backend, Platform(), CPU, choose=all_checks)


def test_the_reference_backend_passes_everything() -> None:
    for case in pool()[:60]:
        result = ask(case, ReferenceBackend())
        assert not result.is_failure, (case, result.failures)


@dataclass
class Declared:
    """A backend that declares everything unsupported, and does ``instead`` when it is asked all the same."""

    make: Callable[[Platform], Backend] = reference.make
    instead: Callable[[torch.Tensor], None] = lambda _out: None
    name: str = "declared"
    evidence: EvidenceKind = "kernel"
    promises: Promises = field(default_factory=lambda: Promises(lse="natural"))

    def supports(self, _shape: KernelShape, _platform: Platform) -> Unsupported | None:
        return Unsupported("head_dim is not one of the kernel's")

    def numerics(self, _shape: KernelShape) -> NumericsProfile:
        return NumericsProfile()

    def prepare(self, batch: Batch) -> Prepared:
        inner, instead = self.make(Platform()).prepare(batch), self.instead

        class Run:
            def run(self, layer: int, out: torch.Tensor, lse: torch.Tensor | None) -> str:
                instead(out)
                return inner.run(layer, out, lse)

        return Run()


def refuse(_out: torch.Tensor) -> None:
    message = "head_dim 17 has no kernel"
    raise UnsupportedError(message)


def refuse_late(out: torch.Tensor) -> None:
    out[0].fill_(0.0)
    refuse(out)


def refuse_bare(_out: torch.Tensor) -> None:
    raise NotImplementedError


def crash(_out: torch.Tensor) -> None:
    message = "CUDA error: an illegal memory access was encountered"
    raise RuntimeError(message)


def run_out(_out: torch.Tensor) -> None:
    raise MemoryError


def like(mutant: str) -> Declared:
    return Declared(mutant_named(mutant).make)


@pytest.mark.parametrize(
    ("backend", "outcome", "reason"),
    [
        (Declared(instead=refuse), Outcome.UNSUPPORTED, "UnsupportedError: head_dim 17 has no kernel"),
        (Declared(), Outcome.UNSUPPORTED, STALE),
        (like("scale-without-log2e"), Outcome.FAILED, "and wrongly"),
        (like("tile-dropped"), Outcome.FAILED, "elements unwritten, and raised nothing"),
        (like("store-past-the-end"), Outcome.FAILED, "memory around the output"),
        (like("write-null-page"), Outcome.FAILED, "changed its input caches"),
        (Declared(instead=refuse_late), Outcome.FAILED, "wrote to the output before it refused"),
        (Declared(instead=refuse_bare), Outcome.FAILED, "naming no reason"),
        (Declared(instead=crash), Outcome.CRASHED, "RuntimeError: CUDA error"),
        (Declared(instead=run_out), Outcome.OOM, "MemoryError"),
    ],
)
def test_refusal_is_probed(backend: Declared, outcome: Outcome, reason: str) -> None:
    case = next(case for case in pool() if any(request.new_tokens > 1 for request in case.requests))
    results = probe_refusal(case, backend, Platform(), CPU)
    assert len(results) == len(case.layers)
    assert results[0].outcome is outcome
    said = results[0].reason or results[0].failures[0].summary
    assert reason in said
    assert all((failure.clause, failure.check) == (20, "refusal") for failure in results[0].failures)


class Dispatched(ReferenceBackend):
    """A backend that says which kernels serve a shape."""

    def __init__(self, *served: str) -> None:
        self.served = frozenset(served)

    def kernels(self, _shape: KernelShape) -> frozenset[str]:
        return self.served


def test_another_kernel_than_those_that_are_named_is_a_silent_fallback() -> None:
    case = pool()[0]
    assert not ask(case, Dispatched("torch-paged", "torch-dense")).is_failure
    result = ask(case, Dispatched("xqa"))
    assert {layer.outcome for layer in result.layers} == {Outcome.FAILED}
    assert {(failure.clause, failure.check, failure.summary) for failure in result.failures} == {
        (20, "fallback", "torch-paged ran, and not xqa: a silent fallback")
    }


class Compiling(Declared):
    """A backend whose library would compile for half an hour before it refuses."""

    compiles = True

    def without_compiling(self) -> AbstractContextManager[None]:
        @contextmanager
        def kept() -> Iterator[None]:
            Compiling.compiles = False
            try:
                yield
            finally:
                Compiling.compiles = True

        return kept()


def compile_first(_out: torch.Tensor) -> None:
    assert not Compiling.compiles
    message = "it would be compiled first"
    raise UnbuiltError(message)


def test_nothing_is_compiled_for_a_probe() -> None:
    results = probe_refusal(pool()[0], Compiling(instead=compile_first), Platform(), CPU)
    assert {(layer.outcome, layer.reason) for layer in results} == {(Outcome.NOT_RUN, "it would be compiled first")}


class Undecided(ReferenceBackend):
    def supports(self, shape: KernelShape, platform: Platform) -> Unsupported | None:
        del platform
        message = f"no rule for head_dim {shape.head_dim}"
        raise KeyError(message)


def test_a_declaration_that_raises_is_a_crash_of_its_layer_when_it_is_probed() -> None:
    results = probe_refusal(pool()[0], Undecided(), Platform(), CPU)
    assert [layer.outcome for layer in results] == [Outcome.CRASHED] * len(pool()[0].layers)
    assert "in supports: KeyError: " in results[0].reason


def test_what_is_declared_supported_is_not_probed() -> None:
    assert probe_refusal(pool()[0], ReferenceBackend(), Platform(), CPU) == []
