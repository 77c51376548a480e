"""What a receipt says of the machine of serving."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from attnconf.gate.played import BrokenClause, PlayedStories, broken_lines, played_lines

RIGHT = PlayedStories(
    backend="triton", model="free", memory="own", stories=2, batches=9, asked=5, events={"Step": 9, "Submit": 3}
)
BROKEN = BrokenClause(clause=22, said="page 3 is lost", story=("a", "b"), replay="attnconf machine --story f.json")


def test_backends_of_the_same_stories_share_a_line() -> None:
    other = RIGHT.model_copy(update={"backend": "reference"})
    assert played_lines((RIGHT, other)) == [
        (
            "machine, free over the memory 'own': 12 events in 2 stories, 5 cases of 9 batches asked of reference,"
            " triton; clauses 21 to 26 hold"
        )
    ]
    assert not broken_lines((RIGHT, other))


def test_a_broken_clause_is_cited_with_the_command() -> None:
    (line,) = broken_lines((RIGHT, PlayedStories(backend="b", model="free", memory="own", broken=BROKEN)))
    assert line == (
        "machine, free over the memory 'own': clause 22 (conservation of pages): page 3 is lost, after 2 events"
        " (attnconf machine --story f.json)"
    )


def test_a_clause_of_a_backend_is_none_of_serving() -> None:
    with pytest.raises(ValidationError):
        BrokenClause(clause=20, said="", story=(), replay="")
