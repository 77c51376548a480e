"""What a sequence's tokens make of it: the identity of each key, and the answer that follows.

Keys and values of a token depend on all tokens before it, and on nothing else. So a key's identity is a number that is
chained from token to token, and the model's next token is a function of the last one's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Content = int
"""The identity of one token's keys and values: two are equal if all tokens up to theirs are."""

VOCABULARY = 3
"""So few different tokens that sequences often begin alike."""

_START: Content = 1
_MODULUS = 2**61 - 1
_FACTOR = 1_000_003


def contents(tokens: Iterable[int], after: Content = _START) -> list[Content]:
    """Return the identity of each token's keys, for tokens that follow on ``after``."""
    found = []
    for token in tokens:
        after = (after * _FACTOR + token + 1) % _MODULUS
        found.append(after)
    return found


def next_token(content: Content) -> int:
    """Return the token that the model answers with behind a token of this identity."""
    return content // 7 % VOCABULARY


def continuation(tokens: Sequence[int], count: int) -> tuple[int, ...]:
    """Return the ``count`` tokens that the model answers with behind ``tokens``, computed alone."""
    known = list(tokens)
    last = contents(known)[-1]
    for _ in range(count):
        known.append(next_token(last))
        last = contents(known[-1:], last)[0]
    return tuple(known[len(tokens) :])
