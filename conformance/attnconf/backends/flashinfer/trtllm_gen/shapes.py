"""Shapes: what the list of precompiled kernels and FlashInfer's selector say of a kernel shape of a case."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from attnconf.backends.flashinfer.package import PACKAGE, library_version
from attnconf.backends.flashinfer.trtllm_gen.prediction import MULTIPROCESSORS, Absent, Listed, predict, why_unknown
from attnconf.backends.flashinfer.trtllm_gen.question import DTYPES, Question

if TYPE_CHECKING:
    from collections.abc import Iterator

    from attnconf.cases.shape import KernelShape
    from attnconf.platforms import Platform

_ANY_LENGTHS = (40, 400, 4_000, 40_000)
_ANY_REQUESTS = (1, 8, 64)
"""What stands for any lengths and numbers of requests: a launch with few CTAs to one that fills every GPU."""


def is_known(platform: Platform) -> bool:
    """Return whether list and selector of the platform's FlashInfer are known."""
    return why_unknown(library_version(platform), platform.sm) is None


def why_absent(shape: KernelShape, platform: Platform) -> str | None:
    """Return why there is no kernel for ``shape``, as a clause, or None where there is one or nobody knows.

    A shape with lengths needs one on every GPU of its compute capability; one without needs one for some lengths.
    """
    first = ""
    for launch in _launches(shape):
        answers = [predict(question, library_version(platform), platform.sm) for question in _asked(launch, platform)]
        absent = next((answer for answer in answers if isinstance(answer, Absent)), None)
        if absent is None:
            return None
        first = first or absent.key
    if not first:
        dtypes = f"{shape.q_dtype} queries over {shape.kv_dtype} keys and {shape.out_dtype} answers"
        return f"trtllm-gen has no kernels for {dtypes}"
    return f"trtllm-gen of {PACKAGE} {library_version(platform)} has no such kernel ({first})"


def names(shape: KernelShape, platform: Platform) -> frozenset[str]:
    """Return the names of the kernels in which a launch for ``shape`` can end, empty where there is none or unknown."""
    found: set[str] = set()
    for launch in _launches(shape):
        for question in _asked(launch, platform):
            answer = predict(question, library_version(platform), platform.sm)
            found.update(answer.names if isinstance(answer, Listed) else ())
    return frozenset(found)


def _launches(shape: KernelShape) -> Iterator[KernelShape]:
    """Yield ``shape`` with every length, or with some where it leaves them open."""
    if not {shape.q_dtype, shape.kv_dtype, shape.out_dtype} <= DTYPES.keys():
        return
    lengths = _ANY_LENGTHS if shape.max_kv_len is None else (shape.max_kv_len,)
    requests = _ANY_REQUESTS if shape.num_requests is None else (shape.num_requests,)
    for max_kv_len in lengths:
        for num_requests in requests:
            yield replace(shape, max_kv_len=max(max_kv_len, shape.max_q_len), num_requests=num_requests)


def _asked(shape: KernelShape, platform: Platform) -> Iterator[Question]:
    """Yield the question of a launch for ``shape`` on each GPU that ``platform`` may be."""
    window = shape.window_left
    if window is None:
        window = 0 if shape.windowed else -1
    for multiprocessors in MULTIPROCESSORS.get(platform.sm or (0, 0), ()):
        yield Question(
            context=shape.mode in {"extend", "mixed"},
            q_dtype=DTYPES[shape.q_dtype],
            kv_dtype=DTYPES[shape.kv_dtype],
            o_dtype=DTYPES[shape.out_dtype],
            num_qo_heads=shape.num_qo_heads,
            num_kv_heads=shape.num_kv_heads,
            head_dim=shape.head_dim,
            page_size=shape.page_size,
            num_requests=shape.num_requests or 1,
            max_q_len=shape.max_q_len,
            max_kv_len=shape.max_kv_len or shape.max_q_len,
            window_left=window,
            multiprocessors=multiprocessors,
        )
