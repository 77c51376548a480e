"""Lengths of long contexts: those between short and long, and shorter versions of a case that failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from attnconf.cases.case import Case
    from attnconf.cases.request import Request

BETWEEN = (4096, 8192, 16384)
"""Lengths between the short ones and the longest, in keys."""

_SHORT = (512, 2048)


def shortened(case: Case) -> Iterator[Case]:
    """Return ``case`` with its requests cut to 512 keys, to 2048, and so on, while that makes it shorter.

    To shrink at full length would take minutes a step, and most failures of a long case do not need its length.
    """
    lengths = (*_SHORT, *BETWEEN)
    return (_cut(case, most) for most in lengths if most + case.paging.page_size <= case.max_kv_len)


def _cut(case: Case, most: int) -> Case:
    """Return ``case`` with at most ``most`` keys in each request and a part of a page: its last page stays as full."""
    size = case.paging.page_size
    requests: list[Request] = []
    for request in case.requests:
        kv_len = min(request.kv_len, most // size * size + request.kv_len % size)
        prefix_len = max(0, kv_len - request.new_tokens)
        changed: dict[str, int | None] = {}
        if request.shares_with is not None:
            pages = min(request.shared_pages, min(prefix_len, requests[request.shares_with].prefix_len) // size)
            changed |= {"shared_pages": pages, "shares_with": request.shares_with if pages else None}
        requests.append(request.resized(prefix_len, request.new_tokens).model_copy(update=changed))
    return case.model_copy(update={"requests": tuple(requests)})
