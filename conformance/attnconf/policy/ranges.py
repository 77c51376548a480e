"""Ranges: sets of compute capabilities, whole numbers and versions, as text. No expression is ever evaluated.

Each kind of set has *samples*: enough values that every possible value is in exactly the same of the given sets as some
sample. So questions about every platform ("is there one that no rule takes?") become finite.
"""

from __future__ import annotations

import operator
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version
from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Sm = tuple[int, int]

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_TOO_MANY = 10**6
"""No size or count of an engine is as large as this."""

_PART = re.compile(r"(>=|<=|>|<)(.+)")
_SM = r"\d{1,2}\.\d"
_NUMBER = r"\d{1,6}"


def _comparisons(number: str) -> str:
    return rf"(>=|<=|>|<){number}(,(>=|<=|>|<){number})*"


SmPattern = Annotated[str, Field(pattern=rf"^(none|\d{{1,2}}\.(\d|x)|{_comparisons(_SM)})$")]
"""A set of compute capabilities: ``"9.0"`` exactly, ``"10.x"`` for every minor of 10 and no other major,
``">=9.0,<11.0"`` for a range in the order of (major, minor), ``"none"`` for a machine without a GPU."""

_WHOLE = re.compile(_comparisons(_NUMBER))


_NUMERAL = re.compile("[0-9]{1,6}")
"""A number in quotes, beside the texts of the same list."""

UNSET = "none"
"""What a condition calls the number of an axis that is unset: a page size that is left to the engine, no tree."""


def _open_range(value: object) -> object:
    if value == UNSET:
        return value
    try:
        return _whole_range(value)
    except ValueError as error:
        message = f"{UNSET}, {error}"
        raise ValueError(message) from None


def _whole_range(value: object) -> object:
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        return value
    if isinstance(value, str) and _NUMERAL.fullmatch(value):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _TOO_MANY:
        return value
    raise ValueError(f'a whole number from 0 to {_TOO_MANY - 1}, or comparisons with such, as in ">=2,<=8"')


_SCHEMA = [
    {"type": "integer", "minimum": 0, "exclusiveMaximum": _TOO_MANY},
    {"type": "string", "pattern": f"^({_WHOLE.pattern}|{_NUMERAL.pattern})$"},
]
WholeRange = Annotated[int | str, BeforeValidator(_whole_range), WithJsonSchema({"anyOf": _SCHEMA})]
"""A set of whole numbers: one number, or ``">=2,<=8"``."""

OpenRange = Annotated[
    int | str, BeforeValidator(_open_range), WithJsonSchema({"anyOf": [*_SCHEMA, {"const": UNSET, "type": "string"}]})
]
"""A set of whole numbers of an axis that may be unset, or ``none``, which is unset."""


def _specifier(text: str) -> str:
    try:
        parsed = SpecifierSet(text)
    except InvalidSpecifier:
        parsed = SpecifierSet()
    if not len(parsed) or any(part.operator == "===" for part in parsed):
        raise ValueError('version specifiers such as ">=12.8" or ">=0.6.10.post1,<0.8", and no ===')
    return text


Specifier = Annotated[str, AfterValidator(_specifier)]
"""A set of versions as in PEP 440, but without ``===``, which compares text and not versions."""


@lru_cache(maxsize=20_000)
def sm_in(pattern: str, sm: Sm | None) -> bool:
    """Return whether the compute capability ``sm`` (None without a GPU) is in the set ``pattern``."""
    if pattern == "none" or sm is None:
        return pattern == "none" and sm is None
    if pattern[0] in "<>":
        return all(compare(sm, _sm(text)) for compare, text in _parts(pattern))
    major, minor = pattern.split(".")
    return sm[0] == int(major) and minor in {"x", str(sm[1])}


def whole_in(numbers: int | str, value: int | None) -> bool:
    """Return whether ``value`` is in the set ``numbers``; an unknown value, None, is in no set."""
    if value is None:
        return False
    if isinstance(numbers, int):
        return value == numbers
    return all(compare(value, int(text)) for compare, text in _parts(numbers))


@lru_cache(maxsize=2**18)
def version_in(specifier: str, version: str | None) -> bool:
    """Return whether ``version`` is in the set ``specifier``; a missing or unreadable version is in no set."""
    try:
        return version is not None and SpecifierSet(specifier).contains(Version(version), prereleases=True)
    except InvalidVersion:
        return False


def sm_samples(patterns: Iterable[str]) -> tuple[Sm | None, ...]:
    """Return known compute capabilities, None, and those on, below and above every border of the patterns."""
    known: list[Sm | None] = [(10, 0), (9, 0), (8, 0), (12, 0), None, (10, 3), (8, 9), (11, 0), (12, 1), (7, 5)]
    named = {_sm(text) for pattern in patterns for text in re.findall(_SM, pattern.replace("x", "0"))}
    ranks = {rank for major, minor in named for rank in (10 * major, 10 * major + 9, 10 * major + minor)}
    near = sorted({rank + step for rank in ranks for step in (-1, 0, 1)} & set(range(1000)))
    return tuple(dict.fromkeys([*known, *(divmod(rank, 10) for rank in near)]))


def whole_samples(sets: Iterable[int | str], default: int | None) -> tuple[int | None, ...]:
    """Return ``default`` and numbers of at least 1 on, below and above every limit in ``sets``."""
    texts = [
        text for one in sets for text in ([str(one)] if isinstance(one, int) else [text for _, text in _parts(one)])
    ]
    limits = [int(text) for text in texts]
    near = {number for limit in limits for number in (limit - 1, limit, limit + 1)} | {1}
    return tuple(dict.fromkeys([default, *sorted(number for number in near if number >= 1)]))


def version_samples(specifiers: Iterable[str]) -> tuple[str | None, ...]:
    """Return None, and versions on, just below and just above every border of the specifiers."""
    named = [Version(part.version.removesuffix(".*")) for text in specifiers for part in SpecifierSet(text)]
    found = {near for version in named for near in _near(version)} | {Version("0.dev0")}
    return (*(str(version) for version in sorted(found, reverse=True)), None)


def _near(version: Version) -> Iterator[Version]:
    epoch = f"{version.epoch}!" if version.epoch else ""
    release = version.release
    text = epoch + ".".join(map(str, release))
    yield version
    for suffix in ("", ".dev0", "a0", ".post0", "+local", ".0.0.0.0.0.0.1"):  # the last: above every post-release
        yield Version(text + suffix)
    for attribute, word in (("post", ".post"), ("dev", ".dev")):
        number = getattr(version, attribute)
        if number is not None:
            yield from (Version(f"{text}{word}{near}") for near in (max(number - 1, 0), number, number + 1))
    if version.pre is not None:
        letter, number = version.pre
        yield from (Version(f"{text}{letter}{near}") for near in (max(number - 1, 0), number, number + 1))
    for length in range(1, len(release) + 1):  # where ==1.2.* and ~=1.2.3 end
        bumped = epoch + ".".join(map(str, (*release[: length - 1], release[length - 1] + 1)))
        yield Version(bumped)
        yield Version(f"{bumped}.dev0")


def _parts(text: str) -> Iterator[tuple[Callable[[Any, Any], bool], str]]:
    """Yield the comparison and the limit of each part of ``">=2,<=8"``."""
    for part in text.split(","):
        match = _PART.fullmatch(part)
        if match is not None:
            yield _COMPARE[match[1]], match[2]


def _sm(text: str) -> Sm:
    major, minor = text.split(".")
    return int(major), int(minor)
