"""The kernel table: which trtllm-gen kernels a model's launches end in, as a Markdown page; it proves nothing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from attnconf.wording import plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from attnconf.backends.flashinfer.trtllm_gen.table import Launch

_PAGE = re.compile(r"P(?:16|32|64)(?=MultiCtas|VarSeq)|Paged(?=MultiCtas|VarSeq)")
_PREFIX = re.compile(r"^fmha(Sm\w+?)Kernel_(.*?)H\d+(?:HVPerCta\d+)?PagedKv")
_SHORT = {"BF16": "bf16", "FP16": "fp16", "E4M3": "e4m3"}
_HEAD = (
    "layers",
    "Q/KV/O",
    "mode",
    "q_len",
    "pages",
    "kernel (8 requests, hint 4,000)",
    "other requests",
    "other hints",
)

Group = tuple[str, str, str, str, str, str]


def kernel_table(launches: Iterable[Launch]) -> list[str]:
    """Return the lines of the table; launches that differ in q_len or page size alone share one."""
    groups: dict[Group, dict[int, list[int]]] = {}
    for one in launches:
        dtypes = "/".join(_SHORT[name] for name in one.dtypes)
        base = _short(one.kernels[0]) if one.kernels else "**none**"
        rest = f" or {_short(one.kernels[1])}" if len(one.kernels) > 1 else ""
        key = (
            one.layer_kind,
            dtypes,
            one.mode,
            base + rest,
            _changes(one.by_requests, base, "request"),
            _changes(one.by_hint, base, "key"),
        )
        groups.setdefault(key, {}).setdefault(one.q_len, []).append(one.page_size)
    rows = [
        (kind, dtypes, mode, _numbers(q_lens), pages, kernels, requests, hints)
        for (kind, dtypes, mode, kernels, requests, hints), found in groups.items()
        for pages, q_lens in _by_pages(found).items()
    ]
    lines = [f"| {' | '.join(_HEAD)} |", f"|{'---|' * len(_HEAD)}"]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows)]


def _by_pages(found: dict[int, list[int]]) -> dict[str, list[int]]:
    pages: dict[str, list[int]] = {}
    for q_len, sizes in found.items():
        pages.setdefault(_numbers(sizes), []).append(q_len)
    return pages


def _numbers(values: Sequence[int]) -> str:
    return ", ".join(f"{value:,}" for value in values)


def _changes(answers: Sequence[tuple[int, str | None]], base: str, noun: str) -> str:
    """Return what other values of one axis run instead, each answer once with its values."""
    others: dict[str, list[int]] = {}
    for value, name in answers:
        text = "**none**" if name is None else _short(name)
        if text != base:
            others.setdefault(text, []).append(value)
    return "; ".join(f"{text} at {_numbers(values)} {plural(noun, values[-1])}" for text, values in others.items())


def _short(name: str) -> str:
    """Return a name without what the line says already: dtypes, head_dim and the page size."""
    return f"`{_PREFIX.sub('', _PAGE.sub('', name))}`"
