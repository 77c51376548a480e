"""Table: for each kind of layer of a model, which kernel each launch of an engine ends in, and what changes it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

from attnconf.backends.flashinfer.trtllm_gen.prediction import MULTIPROCESSORS, Absent, Listed
from attnconf.backends.flashinfer.trtllm_gen.question import Question

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from attnconf.backends.flashinfer.trtllm_gen.prediction import Answer
    from attnconf.cases.geometry import LayerGeometry

DTYPES = (("BF16", "BF16", "BF16"), ("BF16", "E4M3", "BF16"), ("E4M3", "E4M3", "BF16"))
"""Dtypes of Q, of K and V, and of O: 16 bits, 8-bit KV under a 16-bit query, and 8-bit KV with the query cast to it."""

PAGE_SIZES = (16, 32, 64, 128, 256, 1024)
VERIFY_LENS = (2, 3, 4, 5, 6, 7, 8, 16)
CHUNK = 2048
"""New tokens of a request in mode extend."""

REQUESTS = (1, 8, 64, 256)
HINTS = (40, 400, 4_000, 40_000, 131_072)
"""Host hints of the longest request: a test's own lengths, to the context length that engines pass to a CUDA graph."""

_REQUESTS, _HINT = 8, 4_000


@dataclass(frozen=True)
class Launch:
    """One line: the launches of one layer kind that differ in the number of requests and in the hint alone.

    ``kernels`` are the names for 8 requests and a hint of 4,000 keys, two where the GPU's occupancy decides;
    ``missing`` is the key that is looked up in vain where there are none. ``by_requests`` and ``by_hint`` have the
    first kernel for each number of requests and for each hint, None for none. Lengths on the device pick nothing.
    """

    layer_kind: str
    mode: str
    q_len: int
    page_size: int
    dtypes: tuple[str, str, str]
    kernels: tuple[str, ...]
    missing: str
    by_requests: tuple[tuple[int, str | None], ...]
    by_hint: tuple[tuple[int, str | None], ...]


@dataclass(frozen=True)
class Line:
    """The questions behind one line: those that differ in the number of requests, and those that differ in the hint."""

    layer_kind: str
    mode: str
    base: Question
    by_requests: tuple[Question, ...]
    by_hint: tuple[Question, ...]

    @property
    def questions(self) -> tuple[Question, ...]:
        """All of them."""
        return (self.base, *self.by_requests, *self.by_hint)


def lines(layers: Iterable[LayerGeometry], sm: tuple[int, int]) -> Iterator[Line]:
    """Yield the lines of a model, whose layers of one kind and geometry count once.

    Asked for the smallest GPU of the compute capability.
    """
    kinds = {(layer.kind, layer.num_qo_heads, layer.num_kv_heads, layer.head_dim): layer for layer in layers}
    modes = [("decode", 1), *(("verify", q_len) for q_len in VERIFY_LENS), ("extend", CHUNK)]
    for layer, (mode, q_len), dtypes, page_size in product(kinds.values(), modes, DTYPES, PAGE_SIZES):
        base = Question(
            context=mode == "extend",
            q_dtype=dtypes[0],
            kv_dtype=dtypes[1],
            o_dtype=dtypes[2],
            num_qo_heads=layer.num_qo_heads,
            num_kv_heads=layer.num_kv_heads,
            head_dim=layer.head_dim,
            page_size=page_size,
            num_requests=_REQUESTS,
            max_q_len=q_len,
            max_kv_len=max(_HINT, q_len),
            window_left=layer.window_left,
            multiprocessors=MULTIPROCESSORS[sm][0],
        )
        yield Line(
            layer.kind,
            mode,
            base,
            tuple(replace(base, num_requests=requests) for requests in REQUESTS),
            tuple(replace(base, max_kv_len=max(hint, q_len)) for hint in HINTS),
        )


def launches(found: Iterable[Line], answer: Callable[[Question], Answer]) -> Iterator[Launch]:
    """Yield the lines of a model with their answers."""
    for line in found:
        base, told = line.base, answer(line.base)
        yield Launch(
            layer_kind=line.layer_kind,
            mode=line.mode,
            q_len=base.max_q_len,
            page_size=base.page_size,
            dtypes=(base.q_dtype, base.kv_dtype, base.o_dtype),
            kernels=_names(told),
            missing=told.key if isinstance(told, Absent) else "",
            by_requests=tuple((one.num_requests, _first(answer(one))) for one in line.by_requests),
            by_hint=tuple((hint, _first(answer(one))) for hint, one in zip(HINTS, line.by_hint, strict=True)),
        )


def _names(answer: Answer) -> tuple[str, ...]:
    return answer.names if isinstance(answer, Listed) else ()


def _first(answer: Answer) -> str | None:
    return next(iter(_names(answer)), None)
