"""Views: FlashInfer's two forms of a paged cache, one tensor or a pair, as pages, heads, layout and storage."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from attnconf.capture.call import UnsayableError
from attnconf.capture.dumps.dump import Strided
from attnconf.cases.dtypes import BLOCK, FP8, NVFP4
from attnconf.errors import InvalidInputError

if TYPE_CHECKING:
    from pathlib import Path

    from attnconf.cases.case import KVLayout, Storage

_PAIR = 2
_JOINT_DIMS = 5
_DIMS = 4
_BYTES = "uint8"


@dataclass(frozen=True)
class Cache:
    """A paged cache: ``value_dim`` is the width of a value."""

    pages: int
    page_size: int
    heads: int
    value_dim: int
    dtype: str
    layout: KVLayout
    storage: Storage


def cache_of(found: Any, layout: KVLayout, folder: Path, field: str = "the KV cache") -> Cache:  # noqa: ANN401 - an argument
    """Return the cache. Raises ``InvalidInputError`` for a ``field`` that is none."""
    if isinstance(found, Strided) and len(found.shape) == _JOINT_DIMS and found.shape[1] == _PAIR:
        inner = (found.shape[0], *found.shape[2:])
        key = Strided(inner, (found.stride[0], *found.stride[2:]), found.dtype, found.tensor)
        return _of(key, key, layout, "interleaved")
    pair = found if isinstance(found, tuple) and len(found) == _PAIR else ()
    keys = [one for one in pair if isinstance(one, Strided) and len(one.shape) == _DIMS]
    if len(keys) != _PAIR:
        allowed = "a tensor of [pages, 2, ...], or a pair of [pages, ...]"
        raise InvalidInputError(str(folder), field=field, given=_form(found), allowed=allowed)
    return _of(keys[0], keys[1], layout, _storage(keys[0], keys[1]))


def with_blocks(cache: Cache, scales: Any, folder: Path) -> Cache:  # noqa: ANN401 - an argument
    """Return the cache as NVFP4 where ``scales``, FlashInfer's ``kv_cache_sf``, are given: a byte has two numbers.

    Raises ``UnsayableError`` for bytes without ``scales``, and ``InvalidInputError`` for ``scales`` that do not fit.
    """
    if scales is None:
        if cache.dtype == _BYTES:
            raise UnsayableError("a cache of bytes without scales of blocks")
        return cache
    found = cache_of(scales, cache.layout, folder, field="kv_cache_sf")
    width = 2 * cache.value_dim
    fitting = replace(cache, dtype=FP8, value_dim=width // BLOCK, storage=found.storage)
    if cache.dtype != _BYTES or found != fitting:
        given = f"{found.dtype} {_dims(found)} beside a cache of {cache.dtype} {_dims(cache)}"
        allowed = f"{FP8}, one for each {BLOCK} numbers of a cache of {_BYTES}"
        raise InvalidInputError(str(folder), field="kv_cache_sf", given=given, allowed=allowed)
    return replace(cache, dtype=NVFP4, value_dim=width)


def _dims(cache: Cache) -> list[int]:
    tokens = (cache.page_size, cache.heads) if cache.layout == "NHD" else (cache.heads, cache.page_size)
    return [cache.pages, *tokens, cache.value_dim]


def _of(k: Strided, v: Strided, layout: KVLayout, storage: Storage) -> Cache:
    heads, size = (k.shape[2], k.shape[1]) if layout == "NHD" else (k.shape[1], k.shape[2])
    return Cache(k.shape[0], size, heads, v.shape[3], k.dtype, layout, storage)


def _storage(k: Strided, v: Strided) -> Storage:
    """Return the storage that the strides allow: a dump keeps them, and not where one tensor lies beside another."""
    keys, values = (one.shape[1] * one.shape[2] * one.shape[3] for one in (k, v))
    if min(k.stride[1], k.stride[2]) == k.shape[3] + v.shape[3]:
        return "sliced"
    if k.stride[0] == keys + values and v.stride[0] == keys + values:
        return "interleaved"
    if k.stride[0] > keys:
        return "padded" if v.stride[0] > values else "unlike"
    return "apart"


def _form(found: Any) -> str:  # noqa: ANN401 - an argument
    if isinstance(found, Strided):
        return f"a tensor of {list(found.shape)}"
    return f"a sequence of {len(found)}" if isinstance(found, tuple) else ascii(found)
