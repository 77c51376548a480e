"""Clause 17 asks another kernel the same question: it is judged by that kernel's own profile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import torch

from attnconf.backends.reference import ReferenceBackend
from attnconf.cases.case import Case, Layer, Request
from attnconf.judging.checks import consistency
from attnconf.judging.result import Outcome
from attnconf.judging.run import run_case
from attnconf.numerics import NumericsProfile
from attnconf.platforms import Platform

if TYPE_CHECKING:
    from attnconf.backends.protocol import Prepared
    from attnconf.cases.case import Mode
    from attnconf.cases.inputs.batch import Batch
    from attnconf.cases.shape import KernelShape

LAYER = Layer(kind="full", num_qo_heads=2, num_kv_heads=1, head_dim=16, sm_scale=0.25)
HALF = 1 + 2.0**-12


@dataclass
class Coarse(ReferenceBackend):
    """Its kernel of one mode keeps P in 16 bits, and says so or not."""

    coarse: Mode
    declared: bool

    def numerics(self, shape: KernelShape) -> NumericsProfile:
        return NumericsProfile(p="float16" if self.declared and shape.mode == self.coarse else "float32")

    def prepare(self, batch: Batch) -> Prepared:
        exact, coarse = super().prepare(batch), batch.mode == self.coarse

        class Run:
            def run(self, layer: int, out: torch.Tensor, lse: torch.Tensor | None) -> str:
                kernel = exact.run(layer, out, lse)
                if coarse:
                    out.mul_(HALF)
                return kernel

        return Run()


@pytest.mark.parametrize(
    ("mode", "coarse", "tokens"), [("decode", "extend", 1), ("extend", "decode", 5), ("verify", "extend", 3)]
)
@pytest.mark.parametrize("declared", [True, False])
def test_each_kernel_is_judged_by_its_own_profile(mode: Mode, coarse: Mode, tokens: int, *, declared: bool) -> None:
    case = Case(
        mode=mode,
        q_dtype="float32",
        kv_dtype="float32",
        layers=(LAYER,),
        requests=(Request(prefix_len=50, new_tokens=tokens),),
    )
    backend = Coarse(coarse, declared)
    result = run_case(case, backend, Platform(), torch.device("cpu"), choose=lambda _: (consistency.CHECK,))
    assert result.layers[0].outcome is (Outcome.PASSED if declared else Outcome.FAILED)


@pytest.mark.parametrize("mode", ["decode", "extend"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_layers_that_ask_for_different_requests_get_their_own(mode: Mode, seed: int) -> None:
    sliding = LAYER.model_copy(update={"kind": "sliding", "window_left": 30})
    case = Case(
        mode=mode,
        q_dtype="float32",
        kv_dtype="float32",
        layers=(LAYER, sliding),
        requests=tuple(
            Request(prefix_len=prefix, new_tokens=1 if mode == "decode" else tokens)
            for prefix, tokens in ((5, 3), (50, 4), (9, 2))
        ),
        seed=seed,
    )
    result = run_case(case, ReferenceBackend(), Platform(), torch.device("cpu"), choose=lambda _: (consistency.CHECK,))
    assert [layer.outcome for layer in result.layers] == [Outcome.PASSED, Outcome.PASSED]
