"""Counted nouns, and texts that are cut."""

from __future__ import annotations

import pytest

from attnconf.escape import terminal
from attnconf.wording import counted, cut

UNBUILT = "its kernel module {name} is not built (12 CPU minutes; attnconf build --module {name})"


@pytest.mark.parametrize(("count", "text"), [(0, "0 layers"), (1, "1 layer"), (2, "2 layers"), (2000, "2,000 layers")])
def test_one_is_singular(count: int, text: str) -> None:
    assert counted(count, "layer") == text


def test_what_is_short_stays_on_one_line() -> None:
    assert cut("a  b\nc", 5) == "a b c"


@pytest.mark.parametrize("most", [60, 100, 300])
def test_a_long_text_keeps_its_verb_and_its_remedy(most: int) -> None:
    text = f"backend x does not start: {'because ' * 100}; pip install y"
    short = cut(text, most)
    assert len(short) <= most
    assert short.startswith("backend x does not start:")
    assert short.endswith("pip install y")
    assert set(short.split()) <= {*text.split(), "..."}


def test_a_long_name_hides_neither_verb_nor_remedy() -> None:
    short = cut(UNBUILT.format(name="batch_prefill_" * 40), 300)
    assert len(short) <= 300
    assert " is not built (12 CPU minutes; attnconf build --module batch_prefill_" in short


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Gr\u00fc\u00dfe, \u4f60\u597d \u00d7 \U0001f600", "Gr\u00fc\u00dfe, \u4f60\u597d \u00d7 \U0001f600"),
        ("a\x1b[31m\r\n\u202e\u2028\ud800", "a\\x1b[31m\\r\\n\\u202e\\u2028\\ud800"),
        ("  ::error::x", "  \\x3a:error::x"),
        ("a::error::x", "a::error::x"),
        ("a ##[error]x ##VSO[y]", "a \\x23#[error]x \\x23#VSO[y]"),
    ],
)
def test_a_terminal_shows_what_prints_and_obeys_nothing(text: str, shown: str) -> None:
    assert terminal(text) == shown
    assert terminal(shown) == shown
