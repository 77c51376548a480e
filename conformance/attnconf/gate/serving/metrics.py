"""Metrics: what a server itself counted of its requests, in Prometheus' text format (exposition format 0.0.4).

- vLLM 0.33.0 (``vllm/v1/metrics/loggers.py``): ``vllm:request_success_total`` by ``finished_reason`` (stop, length,
  repetition, abort, error), and the gauges ``vllm:num_requests_running`` and ``_waiting``.
- sglang 0.5.23 (``srt/observability/metrics_collector.py``, with ``--enable-metrics``): ``sglang:num_requests_total``
  counts requests that ended, aborted ones among them or not, ``sglang:num_aborted_requests_total`` calls that abort
  one, and the gauges are ``sglang:num_running_reqs`` and ``sglang:num_queue_reqs``.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnconf.errors import InvalidInputError
from attnconf.fields import quote
from attnconf.files import read_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

_LINE = re.compile(r"(?P<name>[A-Za-z_:][\w:]*)(?:\{(?P<labels>.*)\})?\s+(?P<value>\S+)(?:\s+-?\d+)?\s*\Z")
_LABEL = re.compile(r'([A-Za-z_]\w*)="((?:[^"\\]|\\.)*)"')
_HIGHEST = 10**12

Samples = list[tuple[str, "Mapping[str, str]", int]]


@dataclass(frozen=True)
class ServerCounts:
    """Requests by what became of them. The number that ``finished`` lies between both, where aborts are not apart.

    ``aborted`` is None where the server does not count them by themselves. ``running`` and ``waiting`` have no end yet.
    """

    source: str
    finished: tuple[int, int]
    aborted: int | None
    failed: int
    running: int
    waiting: int

    def since(self, before: ServerCounts) -> ServerCounts:
        """Return what was counted since ``before``. Raises ``InvalidInputError`` where a counter fell: it restarted."""
        finished = (self.finished[0] - before.finished[0], self.finished[1] - before.finished[1])
        aborted = None if self.aborted is None or before.aborted is None else self.aborted - before.aborted
        failed = self.failed - before.failed
        if finished[1] < 0 or (aborted or 0) < 0 or failed < 0:
            given = f"lower counts than {before.source}"
            raise InvalidInputError(self.source, given=given, allowed="metrics of one server, which did not restart")
        return ServerCounts(
            self.source, (max(0, finished[0]), finished[1]), aborted, failed, self.running, self.waiting
        )

    @property
    def text(self) -> str:
        """The counts in one line."""
        low, high = self.finished
        finished = str(high) if low == high else f"{low} to {high}"
        aborted = "" if self.aborted is None else f", {self.aborted} aborted"
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.source}: {finished} finished{aborted}{failed}, {self.running} running, {self.waiting} waiting"


def read_metrics(path: Path) -> ServerCounts:
    """Read the metrics of a server. Raises ``InvalidInputError`` for a file that has none of vLLM's or sglang's."""
    source = str(path)
    samples = list(_samples(read_text(path), source))
    names = {name for name, _, _ in samples}
    if "vllm:request_success_total" in names:
        return _vllm(samples, source)
    if "sglang:num_requests_total" in names:
        return _sglang(samples, source)
    allowed = "vllm:request_success_total or sglang:num_requests_total among its metrics"
    raise InvalidInputError(source, given="it counts no requests", allowed=allowed)


def _vllm(samples: Samples, source: str) -> ServerCounts:
    def ended(*reasons: str) -> int:
        return _sum(samples, "vllm:request_success_total", lambda labels: labels.get("finished_reason") in reasons)

    known = ("stop", "length", "repetition", "abort", "error")
    other = _sum(samples, "vllm:request_success_total", lambda labels: labels.get("finished_reason") not in known)
    if other:
        given, allowed = f"{other} requests ended for another reason", f"finished_reason of {', '.join(known)}"
        raise InvalidInputError(source, given=given, allowed=allowed)
    finished = ended(*known[:3])
    running, waiting = (_sum(samples, f"vllm:num_requests_{what}") for what in ("running", "waiting"))
    return ServerCounts(source, (finished, finished), ended("abort"), ended("error"), running, waiting)


def _sglang(samples: Samples, source: str) -> ServerCounts:
    ended, aborts = (_sum(samples, f"sglang:num_{what}_total") for what in ("requests", "aborted_requests"))
    running, waiting = (_sum(samples, f"sglang:num_{what}_reqs") for what in ("running", "queue"))
    return ServerCounts(source, (max(0, ended - aborts), ended), None if aborts else 0, 0, running, waiting)


def _sum(samples: Samples, name: str, counts: Callable[[Mapping[str, str]], bool] = lambda _labels: True) -> int:
    """Return the sum of one metric over all engines and models of the server."""
    return sum(value for one, labels, value in samples if one == name and counts(labels))


def _samples(text: str, source: str) -> Iterator[tuple[str, Mapping[str, str], int]]:
    """Yield the samples about requests. Raises ``InvalidInputError`` for a line that is none, and for no count."""
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        found = _LINE.match(stripped)
        if found is None:
            allowed = "a line of Prometheus' text format"
            raise InvalidInputError(source, field=f"line {number}", given=quote(stripped), allowed=allowed)
        if not found["name"].startswith(("vllm:", "sglang:")) or "req" not in found["name"]:
            continue
        if found["name"].endswith(("_bucket", "_sum", "_count", "_created", "_info", "_seconds")):
            continue
        labels = dict(_LABEL.findall(found["labels"] or ""))
        yield found["name"], labels, _count(found["value"], f"line {number}", source)


def _count(text: str, field: str, source: str) -> int:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value == int(value) and 0 <= value <= _HIGHEST):
        raise InvalidInputError(source, field=field, given=quote(text), allowed="a count")
    return int(value)
