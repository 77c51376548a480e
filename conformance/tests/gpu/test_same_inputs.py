"""A GPU and a CPU derive the same inputs, bit for bit: what failed on the one is asked again on the other."""

from __future__ import annotations

import pytest
import torch

from attnconf.cases.drawing.drawn import DrawnCases
from attnconf.cases.drawing.families import pairs_of
from attnconf.cases.drawing.profiles import profile_named
from attnconf.cases.inputs.assemble import assemble
from attnconf.cases.inputs.layout import place
from attnconf.cases.inputs.logical import make_logical
from attnconf.cases.inputs.poison import bits

PAIRS = pairs_of([], ["gemma4-e2b", "gemma4-31b"])


@pytest.mark.parametrize(("family", "model"), PAIRS, ids=str)
def test_every_tensor_of_every_drawn_case_is_the_same(family: str, model: str) -> None:
    drawn = DrawnCases(profile_named("smoke"), 0, accelerated=True)
    for case in drawn.cases(family, model):
        layout = place(case)
        batches = [assemble(case, layout, make_logical(case, one), one) for one in map(torch.device, ("cpu", "cuda"))]
        for (name, on_cpu), (_, on_gpu) in zip(*(batch.tensors() for batch in batches), strict=True):
            assert torch.equal(bits(on_cpu.contiguous()), bits(on_gpu.cpu().contiguous())), (case.id, name)
