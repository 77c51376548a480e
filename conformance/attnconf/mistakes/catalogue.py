"""The catalogue of mistakes. Of two that explain one answer, the first is named (``diagnose.py``)."""

from __future__ import annotations

from attnconf.mistakes.memory import MEMORY
from attnconf.mistakes.scores import SCORES
from attnconf.mistakes.sight import SIGHT
from attnconf.mistakes.sources import SOURCES

MISTAKES = (*SIGHT, *SCORES, *SOURCES, *MEMORY)
