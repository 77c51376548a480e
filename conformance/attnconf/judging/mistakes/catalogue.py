"""The catalogue of mistakes. Where no further answer tells two apart, the first clause is cited: narrow ones first."""

from __future__ import annotations

from attnconf.judging.mistakes.bidirectional import BIDIRECTIONAL
from attnconf.judging.mistakes.blocks import BLOCKS
from attnconf.judging.mistakes.chunks import CHUNKS
from attnconf.judging.mistakes.formats import FORMATS
from attnconf.judging.mistakes.memory import MEMORY
from attnconf.judging.mistakes.scores import SCORES
from attnconf.judging.mistakes.sight import SIGHT
from attnconf.judging.mistakes.sources import SOURCES
from attnconf.judging.mistakes.spans import SPANS
from attnconf.judging.mistakes.strides import QUERY_ROWS
from attnconf.judging.mistakes.traits import TRAITS
from attnconf.judging.mistakes.trees import TREES
from attnconf.judging.mistakes.values import VALUES
from attnconf.judging.mistakes.widths import WIDTHS

MISTAKES = (
    *(*SPANS, *BIDIRECTIONAL, *TREES, *CHUNKS, *SIGHT, *TRAITS),
    *(*SCORES, *SOURCES, *FORMATS, *BLOCKS, *WIDTHS, *MEMORY, *VALUES, *QUERY_ROWS),
)
