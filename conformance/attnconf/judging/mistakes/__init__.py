"""The semantic mistakes of attention backends, each as another question to the oracle or as another answer.

``effects.py`` and ``power.py`` measure how far each would move the answer of a case. ``diagnose.py`` finds the mistake
that explains a wrong answer.
"""

from __future__ import annotations

from attnconf.judging.mistakes.catalogue import MISTAKES
from attnconf.judging.mistakes.mistake import Mistake, answers_to
from attnconf.judging.mistakes.scene import Scene

__all__ = ["MISTAKES", "Mistake", "Scene", "answers_to"]
