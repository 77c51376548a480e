"""The catalogue of mistakes. Of two that explain one answer, the first is named (``diagnose.py``)."""

from __future__ import annotations

from attnconf.judging.mistakes.memory import MEMORY
from attnconf.judging.mistakes.scores import SCORES
from attnconf.judging.mistakes.sight import SIGHT
from attnconf.judging.mistakes.sources import SOURCES

MISTAKES = (*SIGHT, *SCORES, *SOURCES, *MEMORY)
