"""The catalogue of mistakes. If two explain an answer, ``diagnose.py`` names the first."""

from __future__ import annotations

from attnconf.judging.mistakes.bidirectional import BIDIRECTIONAL
from attnconf.judging.mistakes.chunks import CHUNKS
from attnconf.judging.mistakes.formats import FORMATS
from attnconf.judging.mistakes.memory import MEMORY
from attnconf.judging.mistakes.scores import SCORES
from attnconf.judging.mistakes.sight import SIGHT
from attnconf.judging.mistakes.sources import SOURCES
from attnconf.judging.mistakes.spans import SPANS
from attnconf.judging.mistakes.strides import QUERY_ROWS
from attnconf.judging.mistakes.trees import TREES
from attnconf.judging.mistakes.widths import WIDTHS

MISTAKES = (*SIGHT, *SPANS, *BIDIRECTIONAL, *TREES, *CHUNKS, *SCORES, *SOURCES, *FORMATS, *WIDTHS, *MEMORY, *QUERY_ROWS)
