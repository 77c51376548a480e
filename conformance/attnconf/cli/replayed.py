"""Replay: judge recorded cases again, with every check, on the backends of this machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnconf.errors import BackendUnavailableError
from attnconf.escape import shell
from attnconf.judging.units import units_text
from attnconf.report.failure import render_failure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from attnconf.cases.case import Case
    from attnconf.judging.result import CaseResult, LayerResult
    from attnconf.running.session import Session


@dataclass
class Replay:
    """Judges cases one by one and counts how their layers ended."""

    session: Session
    path: str
    judged: int = 0
    failed: int = 0

    def run(self, name: str, case: Case, backends: Sequence[str]) -> Iterator[str]:
        """Yield the lines of one case, as the backends get to it. Raises ``InvalidInputError`` for one too large."""
        self.session.refuse_too_large(case, name)
        dtypes = f"q {case.q_dtype}, kv {case.kv_dtype}" + (f", out {case.out_dtype}" if case.out_dtype else "")
        yield f"case {case.id} ({name}): model {case.model}, mode {case.mode}, {dtypes}"
        for backend in backends:
            yield from self._on(case, backend)

    def _on(self, case: Case, backend: str) -> Iterator[str]:
        try:
            target = self.session.declaration(backend)
            result = self.session.run(case, backend, "all")
        except BackendUnavailableError as error:
            yield f"  {backend}: not_run: {error}"
            return
        yield f"  {target.name}, {target.evidence} evidence"
        self.judged += sum(layer.outcome.is_executed for layer in result.layers)
        self.failed += sum(layer.outcome.is_failure for layer in result.layers)
        yield from (f"    {_line(result, layer)}" for layer in result.layers)
        if result.is_failure:
            yield ""
            yield from render_failure(result, shell(["attnconf", "replay", self.path, "--backend", backend])).split(
                "\n"
            )
            yield ""


def _line(result: CaseResult, layer: LayerResult) -> str:
    kind = result.case.layers[layer.layer].cell_kind
    line = f"layer {layer.layer} {kind:<14} {layer.outcome.value}"
    if layer.worst_units is not None:
        line += f", {units_text(layer.worst_units)} x the bound"
    if layer.reason:
        return f"{line}: {layer.reason}"
    return f"{line}, kernel {layer.kernel}, effective: {', '.join(layer.effective) or 'nothing'}"
