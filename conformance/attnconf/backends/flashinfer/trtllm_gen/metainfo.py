"""Read FlashInfer's list of precompiled kernels: ``flashInferMetaInfo.h``, by the field names of its struct.

The header declares ``struct TllmGenFmhaKernelMetaInfo`` and an array of it, one kernel a line. Fields are found by
name, never by column, since releases add fields in the middle. A field that is unknown here may be part of what the
selector asks, so a list that has one is refused and not half understood.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from attnconf.backends.flashinfer.trtllm_gen.row import Row
from attnconf.errors import InvalidInputError
from attnconf.wording import clipped

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_STRUCT = re.compile(r"struct TllmGenFmhaKernelMetaInfo\s*\{([^}]*)\};")
_ARRAY = re.compile(r"sTllmGenFmhaKernelMetaInfos\[\]\s*=\s*\{\n(.*?)\n\};", re.DOTALL)
_FIELD = re.compile(r"\s*([A-Za-z_][\w ]*?(?: const)?\s*\*?)\s*(\w+)\s*")
_PATTERNS = {
    "Data_type": re.compile(r"DATA_TYPE_\w+"),
    "int": re.compile(r"-?\d+|kSM_\w+"),
    "unsigned int": re.compile(r"\d+"),
    "bool": re.compile(r"true|false"),
    "const char*": re.compile(r'"[^"]*"'),
    "const unsigned char*": re.compile(r"nullptr|\w+"),
}
_READ = {
    "mFuncName": "name",
    "mSM": "sm",
    "mDataTypeQ": "q_dtype",
    "mDataTypeK": "k_dtype",
    "mDataTypeV": "v_dtype",
    "mDataTypeO": "o_dtype",
    "mTileSizeQ": "tile_q",
    "mTileSizeKv": "tile_kv",
    "mStepQ": "step_q",
    "mStepKv": "step_kv",
    "mHeadDimPerCtaV": "head_dim_per_cta",
    "mHeadDimQk": "head_dim",
    "mNumTokensPerPage": "page_size",
    "mMaskType": "mask",
    "mKernelType": "kernel_type",
    "mTileScheduler": "scheduler",
    "mMultiCtasKvMode": "split",
    "mGroupsHeadsQ": "groups_heads",
    "mGroupsTokensHeadsQ": "groups_tokens_heads",
    "mSharedMemBytes": "shared_memory",
}
_PLAIN = {
    "mNumEltsPerSageAttnBlkQ": 0,
    "mNumEltsPerSageAttnBlkK": 0,
    "mNumEltsPerSageAttnBlkP": 0,
    "mNumEltsPerSageAttnBlkV": 0,
    "mReuseSmemKForV": False,
    "m2CtaMma": False,
    "mSparseAttn": 0,
    "mSkipsSoftmaxWhenPossible": False,
}
"""Fields that distinguish kernels which no launch of ours selects, with the value of those that one can."""

_UNREAD = frozenset({"mCubin", "mCubinSize", "mThreadsPerCTA", "mReserved1", "mReserved2", "sha256"})
_ONE_KV_DTYPE = "mDataTypeKv"
"""The only dtype of K and V up to 0.6.10; repeated beside both of them since."""

_PAGED = 2
_MASKS = frozenset({0, 1, 2})
_SAGE = "Sage"
"""In the names of SageAttention's kernels, which lists up to 0.6.10 mark in no other way."""

_KNOWN = frozenset({*_READ, *_PLAIN, *_UNREAD, _ONE_KV_DTYPE, "mHeadDimV", "mQkvLayout"})
_OPTIONAL = frozenset({"mDataTypeK", "mDataTypeV", *(name for name in _PLAIN if "Sage" in name)})
_LONGEST_QUOTE = 60

Cell = int | bool | str


def read_rows(text: str, source: str) -> tuple[Row, ...]:
    """Return the kernels for paged grouped-query attention, in the order of the list ``text``.

    Raises ``InvalidInputError`` for a list that is cut off, has no kernel, an unknown or missing field, or a column
    whose values do not fit its field.
    """
    fields = _fields(text, source)
    body = _ARRAY.search(text)
    if body is None:
        raise InvalidInputError(source, given="has no end of its array: it is cut off", allowed="a whole list")
    rows = tuple(_rows(body[1].splitlines(), fields, source))
    if not rows:
        raise InvalidInputError(source, given="lists no kernel of paged grouped-query attention")
    return rows


def _fields(text: str, source: str) -> dict[str, str]:
    """Return the type of each field of the struct, by name and in their order."""
    found = _STRUCT.search(text)
    if found is None:
        allowed = "a flashInferMetaInfo.h of trtllm-gen attention"
        raise InvalidInputError(source, given="declares no TllmGenFmhaKernelMetaInfo", allowed=allowed)
    fields: dict[str, str] = {}
    for declaration in filter(str.strip, found[1].split(";")):
        named = _FIELD.fullmatch(declaration)
        kind = "" if named is None else " ".join(named[1].split()).replace(" *", "*")
        if named is None or kind not in _PATTERNS:
            quoted = clipped(" ".join(declaration.split()), _LONGEST_QUOTE)
            allowed = f"fields of type {', '.join(_PATTERNS)}"
            raise InvalidInputError(source, field="TllmGenFmhaKernelMetaInfo", given=ascii(quoted), allowed=allowed)
        fields[named[2]] = kind
    for name in fields:
        if name not in _KNOWN:
            allowed = "a list whose fields attnconf knows; this one needs a newer attnconf"
            raise InvalidInputError(source, field="TllmGenFmhaKernelMetaInfo", given=f"field {name}", allowed=allowed)
    lacking = sorted(_KNOWN - _OPTIONAL - set(fields))
    if lacking:
        raise InvalidInputError(source, field="TllmGenFmhaKernelMetaInfo", given=f"without field {lacking[0]}")
    return fields


def _rows(lines: Iterable[str], fields: Mapping[str, str], source: str) -> Iterator[Row]:
    names, patterns = tuple(fields), tuple(_PATTERNS[kind] for kind in fields.values())
    for number, line in enumerate(lines, start=1):
        words = line.strip().removesuffix(",").removeprefix("{").removesuffix("}").split(",")
        values = [word.strip() for word in words]
        where = f"kernel {number}"
        if len(values) != len(names):
            given, allowed = f"{len(values)} columns", f"{len(names)} columns, as its struct has fields"
            raise InvalidInputError(source, field=where, given=given, allowed=allowed)
        for name, pattern, value in zip(names, patterns, values, strict=True):
            if not pattern.fullmatch(value):
                given = f"{name} {clipped(value, _LONGEST_QUOTE)!a}"
                raise InvalidInputError(source, field=where, given=given, allowed=f"a value of type {fields[name]}")
        row = _row(dict(zip(names, values, strict=True)))
        if row is not None:
            yield row


def _row(text: Mapping[str, str]) -> Row | None:
    """Return the kernel of one line, None for one that no launch of ours selects."""
    value = {name: _cell(word) for name, word in text.items()}
    both = value[_ONE_KV_DTYPE]
    value = {"mDataTypeK": both, "mDataTypeV": both, **value}
    ours = (
        value["mQkvLayout"] == _PAGED
        and value["mMaskType"] in _MASKS
        and value["mHeadDimQk"] == value["mHeadDimV"]
        and _SAGE not in text["mFuncName"]
        and all(value.get(name, plain) == plain for name, plain in _PLAIN.items())
    )
    return Row(**{ours: value[theirs] for theirs, ours in _READ.items()}) if ours else None  # type: ignore[arg-type]


def _cell(word: str) -> Cell:
    if word in {"true", "false"}:
        return word == "true"
    if word.startswith('"'):
        return word[1:-1]
    if word.lstrip("-").isdecimal():
        return int(word)
    return word.removeprefix("DATA_TYPE_").removeprefix("kSM_")
