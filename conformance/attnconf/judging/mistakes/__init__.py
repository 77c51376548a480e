"""The semantic mistakes that attention backends make, each as another question put to the oracle, or another reading.

``effects.py`` and ``power.py`` ask how far each would move the answer of a case; ``diagnose.py`` which one explains a
wrong answer.
"""

from __future__ import annotations

from attnconf.judging.mistakes.catalogue import MISTAKES
from attnconf.judging.mistakes.mistake import Mistake, answer_to
from attnconf.judging.mistakes.scene import Scene

__all__ = ["MISTAKES", "Mistake", "Scene", "answer_to"]
