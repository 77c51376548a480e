"""Replay: judge recorded cases again, with every check, on the backends of this machine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnconf.cases.inputs.layout import pages_needed
from attnconf.errors import BackendUnavailableError, InvalidInputError
from attnconf.report.failure import render_failure, units_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from attnconf.cases.case import Case
    from attnconf.judging.result import CaseResult, LayerResult
    from attnconf.running.session import Session

_FALLBACK_MEMORY = 8 * 2**30


@dataclass
class Replay:
    """Judges cases one by one and counts how their layers ended."""

    session: Session
    path: str
    judged: int = 0
    failed: int = 0

    def run(self, name: str, case: Case, backends: Sequence[str]) -> Iterator[str]:
        """Yield the lines of one case, as the backends get to it. Raises ``InvalidInputError`` for one too large."""
        check_size(case, name)
        dtypes = f"q {case.q_dtype}, kv {case.kv_dtype}"
        yield f"case {case.id} ({ascii(name)[1:-1]}): model {ascii(case.model)[1:-1]}, mode {case.mode}, {dtypes}"
        for backend in backends:
            yield from self._on(case, backend)

    def _on(self, case: Case, backend: str) -> Iterator[str]:
        try:
            target = self.session.backend(backend)
        except BackendUnavailableError as error:
            yield f"  {backend}: not_run: {error}"
            return
        yield f"  {target.name}, {target.evidence} evidence"
        result = self.session.run(case, backend, "all")
        self.judged += sum(layer.outcome.is_executed for layer in result.layers)
        self.failed += sum(layer.outcome.is_failure for layer in result.layers)
        yield from (f"    {_line(result, layer)}" for layer in result.layers)
        if result.is_failure:
            yield ""
            yield render_failure(result, f"attnconf replay {self.path} --backend {backend}")
            yield ""


def _line(result: CaseResult, layer: LayerResult) -> str:
    kind = result.case.layers[layer.layer].cell_kind
    line = f"layer {layer.layer} {kind:<14} {layer.outcome.value}"
    if layer.worst_units is not None:
        line += f", {units_text(layer.worst_units)} x the bound"
    if layer.reason:
        return f"{line}: {layer.reason}"
    return f"{line}, kernel {layer.kernel}, effective: {', '.join(layer.effective) or 'nothing'}"


def check_size(case: Case, source: str) -> None:
    """Raise ``InvalidInputError`` when the memory of this machine cannot hold ``case``."""
    need, have = bytes_needed(case), _memory()
    if need > have:
        given = f"needs about {need / 2**30:.0f} GiB"
        raise InvalidInputError(source, given=given, allowed=f"cases that fit into the {have / 2**30:.0f} GiB here")


def bytes_needed(case: Case) -> int:
    """Return roughly what judging ``case`` takes: pools, keys and values in float64, and one layer's scores."""
    paging = case.paging
    pages = 2 * sum(pages_needed(request.kv_len, paging.page_size) for request in case.requests) + paging.slack_pages
    tokens = sum(request.kv_len for request in case.requests)
    stored = sum(layer.num_kv_heads * layer.head_dim for layer in case.layers)
    rows = len(case.requests) + case.padding_rows
    columns = max(pages_needed(request.kv_len, paging.page_size) for request in case.requests) + paging.extra_columns
    heads = max(layer.num_qo_heads for layer in case.layers)
    widest = max(layer.num_qo_heads * layer.head_dim for layer in case.layers)
    scores = max(request.new_tokens * request.kv_len for request in case.requests) * heads
    queries = (sum(request.new_tokens for request in case.requests) + case.padding_rows) * widest
    elements = pages * paging.page_size * stored + 2 * tokens * stored + 4 * scores + 4 * queries + rows * columns
    return 8 * elements


def _memory() -> int:
    """Return this machine's physical memory in bytes, where the system tells."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return _FALLBACK_MEMORY
