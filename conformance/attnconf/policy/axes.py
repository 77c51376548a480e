"""Axes: everything about which a condition may ask, in one table. No other code distinguishes axes.

A new axis is one value here, one field of ``Question`` with its value, and one field of ``Situation`` for its
condition.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, get_args

from packaging.utils import canonicalize_name

from attnconf.cases.dtypes import KVDtype
from attnconf.platforms import platform_text
from attnconf.policy.question import Deterministic, Mask, Named, Question, UserChoice
from attnconf.policy.ranges import UNSET, Sm, sm_in, sm_samples, version_in, version_samples, whole_in, whole_samples

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

Asked = TypeVar("Asked")
Found = TypeVar("Found")

_USERS: dict[Named, UserChoice] = {
    "none": UserChoice(),
    "prefill": UserChoice(prefill="user"),
    "decode": UserChoice(decode="user"),
    "both": UserChoice(attention="user"),
    "split": UserChoice(prefill="user", decode="another"),
}


def _text(value: object) -> str | None:
    return None if value is None else str(value)


@dataclass(frozen=True, kw_only=True)
class Axis(Generic[Asked, Found]):
    """One property of a question (``Found``) about which a condition may ask (``Asked``). Equality is by name.

    ``name`` is its field in a condition. ``role`` says who decides the value: the platform, the served model or the
    user. ``value_of`` reads it from a question, and ``put`` returns the question with another value. ``contains`` says
    whether a value meets a condition. ``samples`` returns enough values for the given conditions: every possible value
    meets exactly the same conditions as some sample. ``subject`` names the axis before a condition; ``words`` is a
    value with its subject (empty if there is nothing to say), and ``text`` a value alone (None without a value).
    """

    name: str
    role: Literal["platform", "setting", "user"] = field(compare=False)
    value_of: Callable[[Question], Found] = field(compare=False)
    put: Callable[[Question, Found], Question] = field(compare=False)
    contains: Callable[[Asked, Found], bool] = field(compare=False)
    samples: Callable[[Sequence[Asked]], Iterable[Found]] = field(compare=False)
    subject: str = field(compare=False)
    words: Callable[[Found], str] = field(compare=False)
    text: Callable[[Found], str | None] = field(default=_text, compare=False)


def _sm_text(sm: Sm | None) -> str | None:
    return None if sm is None else f"{sm[0]}.{sm[1]}"


def _put_platform(question: Question, **changes: object) -> Question:
    return question.model_copy(update={"platform": question.platform.model_copy(update=changes)})


def _setting(
    name: str, contains: Callable[[Asked, Found], bool], samples: Callable[[Sequence[Asked]], Iterable[Found]]
) -> Axis[Asked, Found]:
    """Return an axis of the served model; ``name`` is its field in a question, too."""
    return Axis(
        name=name,
        role="setting",
        value_of=attrgetter(name),
        put=lambda question, value: question.model_copy(update={name: value}),
        contains=contains,
        samples=samples,
        subject=name,
        words=lambda value: "" if value is None else f"{name} {value}",
    )


def _numbers(name: str) -> Axis[tuple[int | str, ...], int | None]:
    return _setting(name, _some_range_has, lambda given: whole_samples(_flat(given), 1))


def _some_range_has(asked: tuple[int | str, ...], value: int | None) -> bool:
    return any(whole_in(one, value) for one in asked)


def _open_numbers(name: str) -> Axis[tuple[int | str, ...], int | None]:
    """Return an axis whose number may be unset."""
    return _setting(name, _open_number_in, lambda given: whole_samples(_limited(_flat(given)), None))


def _open_number_in(asked: tuple[int | str, ...], value: int | None) -> bool:
    return UNSET in asked if value is None else _some_range_has(_limited(asked), value)


def _limited(asked: Iterable[int | str]) -> tuple[int | str, ...]:
    return tuple(one for one in asked if one != UNSET)


def _is_in(asked: tuple[str, ...], value: str) -> bool:
    return value in asked


def _flat(given: Iterable[tuple[Asked, ...]]) -> tuple[Asked, ...]:
    return tuple(one for some in given for one in some)


AXES: tuple[Axis[Any, Any], ...] = (
    Axis[tuple[str, ...], Sm | None](
        name="sm",
        role="platform",
        value_of=lambda question: question.platform.sm,
        put=lambda question, sm: _put_platform(question, sm=sm),
        contains=lambda asked, sm: any(sm_in(pattern, sm) for pattern in asked),
        samples=lambda given: sm_samples(_flat(given)),
        subject="SM",
        text=_sm_text,
        words=lambda sm: "no GPU" if sm is None else f"SM {_sm_text(sm)}",
    ),
    Axis[str, str | None](
        name="cuda",
        role="platform",
        value_of=lambda question: question.platform.cuda,
        put=lambda question, cuda: _put_platform(question, cuda=cuda),
        contains=version_in,
        samples=version_samples,
        subject="CUDA",
        words=lambda cuda: "no CUDA" if cuda is None else f"CUDA {cuda}",
    ),
    _setting("kv_dtype", _is_in, lambda _given: get_args(KVDtype)),
    _setting("mask", _is_in, lambda _given: get_args(Mask)),
    _numbers("q_len"),
    _setting("speculative", _is_in, lambda given: ("none", *_flat(given), "another")),
    _open_numbers("topk"),
    _open_numbers("page_size"),
    _setting("deterministic", _is_in, lambda _given: get_args(Deterministic)),
    Axis[tuple[Named, ...], Named](
        name="user",
        role="user",
        value_of=lambda question: question.user.named,
        put=lambda question, named: question.model_copy(update={"user": _USERS[named]}),
        contains=lambda asked, named: named in asked,
        samples=lambda _given: get_args(Named),
        subject="user's choice of",
        words=lambda named: "" if named == "none" else f"the user's choice of {named}",
    ),
)
"""All axes in the order of sentences, except those of packages: a condition may name any number of packages."""


@lru_cache(maxsize=1000)
def package_axis(distribution: str) -> Axis[str, str | None]:
    """Return the axis of a distribution's version. Spellings that pip considers equal give the same axis."""
    name = canonicalize_name(distribution)

    def value_of(question: Question) -> str | None:
        packages = question.platform.packages
        return next((version for other, version in packages.items() if canonicalize_name(other) == name), None)

    def put(question: Question, version: str | None) -> Question:
        packages = question.platform.packages
        kept = {other: text for other, text in packages.items() if canonicalize_name(other) != name}
        return _put_platform(question, packages=kept if version is None else {**kept, name: version})

    return Axis(
        name=f"package {name}",
        role="platform",
        value_of=value_of,
        put=put,
        contains=version_in,
        samples=version_samples,
        subject=name,
        words=lambda version: f"no {name}" if version is None else f"{name} {version}",
    )


def settings_text(question: Question) -> str:
    """Return the settings that are not the defaults, in words: ``kv_dtype float8_e4m3fn, q_len 4``."""
    fields = Question.model_fields
    settings = {axis: axis.value_of(question) for axis in AXES if axis.role == "setting"}
    return ", ".join(axis.words(value) for axis, value in settings.items() if value != fields[axis.name].default)


def question_text(question: Question) -> str:
    """Return the question in words: ``Gemma4ForCausalLM on SM 10.0 with CUDA 13.0, q_len 4``."""
    settings = settings_text(question)
    return f"{question.architecture} on {platform_text(question.platform)}" + (f", {settings}" if settings else "")
