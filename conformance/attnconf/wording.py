"""Wording: counted nouns, and long texts made short."""

from __future__ import annotations

_GAP = " ... "
_LONGEST_WORD = 120
_KEPT_IN_FRONT = 0.6
"""The share of a cut text that its beginning gets: the rest is for its end, where a remedy stands."""


def plural(noun: str, count: int) -> str:
    """Return ``noun`` for so many: one that has its plural in ``s``."""
    return noun if count == 1 else f"{noun}s"


def counted(count: int, noun: str) -> str:
    """Return a number with its noun: ``1 layer``, ``2,000 layers``."""
    return f"{count:,} {plural(noun, count)}"


def clipped(text: str, most: int) -> str:
    """Return the first ``most`` characters of ``text``, with three dots if it has more."""
    return text if len(text) <= most else f"{text[:most]}..."


def cut(text: str, most: int) -> str:
    """Return ``text`` on one line of at most ``most`` characters.

    What is too long loses words in its middle: it begins with what went wrong, and ends with what would help. A long
    word, such as a path, loses its own middle first.
    """
    words = text.split()
    if sum(map(len, words)) + len(words) - 1 <= most:
        return " ".join(words)
    words = [_cut_word(word, min(_LONGEST_WORD, most // 3)) for word in words]
    line = " ".join(words)
    if len(line) <= most:
        return line
    room = most - len(_GAP)
    front = line[: int(room * _KEPT_IN_FRONT) + 1].rpartition(" ")[0]
    return f"{front}{_GAP}{line[-(room - len(front)) - 1 :].partition(' ')[2]}"


def _cut_word(word: str, most: int) -> str:
    if len(word) <= most:
        return word
    half = (most - len("...")) // 2
    return f"{word[:half]}...{word[-half:]}"
