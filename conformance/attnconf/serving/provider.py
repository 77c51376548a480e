"""Draws of the machine: the same ones in every process, whatever modules that has loaded.

Hypothesis draws one number in twenty from the constants that it finds in loaded modules of the user's own. So a worker
would play other stories than the controller that planned for it, and than the next worker.
"""

from __future__ import annotations

from hypothesis.internal.conjecture.providers import AVAILABLE_PROVIDERS, HypothesisProvider

NAME = "attnconf-machine"
"""What ``settings(backend=...)`` calls it: https://hypothesis.readthedocs.io/en/latest/extensions.html."""


class WithoutConstants(HypothesisProvider):
    """Hypothesis' own way to draw, but for constants."""

    def _maybe_draw_constant(self, *_: object, **__: object) -> None:
        return None


AVAILABLE_PROVIDERS[NAME] = WithoutConstants
