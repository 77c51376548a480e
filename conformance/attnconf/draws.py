"""Repeatable draws: what Hypothesis draws for one seed must not depend on what else the process has imported."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING
from unittest.mock import patch

from hypothesis.internal.conjecture import providers

if TYPE_CHECKING:
    from collections.abc import Iterator

_DRAW_CONSTANT = "_maybe_draw_constant"


@contextmanager
def own_draws_only() -> Iterator[None]:
    """Keep Hypothesis from mixing in constants of the loaded modules.

    Since 6.131 it takes one value in twenty from the source of the modules that are neither installed nor tests. The
    cases of a seed would then differ between an editable and a wheel installation, between the workers of xdist, and
    between the tests before and after an import. Where that private function is absent, nothing has to be done.
    """
    owner = getattr(providers, "HypothesisProvider", None)
    if not hasattr(owner, _DRAW_CONSTANT):
        yield
        return
    with patch.object(owner, _DRAW_CONSTANT, _none):
        yield


def _none(*_args: object, **_constraints: object) -> None:
    """Draw no constant."""
