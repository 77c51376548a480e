"""Hypothesis strategies for cases in tests of your own; the suite draws its cases without Hypothesis.

They filter no drawn case away, and shrink to one request, one page, one head. Importable without pytest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st

from attnconf.cases.drawing.choices import Choices
from attnconf.cases.drawing.layers import free_layers, model_layers
from attnconf.cases.drawing.whole_case import draw_case

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn

    from attnconf.cases.case import Case
    from attnconf.cases.drawing.space import Space

__all__ = ["cases", "free_layers", "model_layers"]


@st.composite
def cases(draw: DrawFn, space: Space) -> Case:
    """Draw one case of ``space``; Hypothesis shows each choice by its name."""
    return draw_case(Choices(lambda name, count: draw(st.integers(0, count - 1), name)), space)
