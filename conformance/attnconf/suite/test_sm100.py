"""Family ``sm100``: what only an SM100-family GPU can prove: the trtllm-gen kernels behind ``trtllm_mha``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from attnconf.cases.drawing.families import Family
    from attnconf.running.judge import Judge


@pytest.mark.sm100
def test_trtllm_gen(attnconf: Judge, model: str, sm100_family: Family) -> None:
    attnconf.explore(sm100_family, model=model, backend="trtllm_mha")
