"""GenAI: the summaries of NVIDIA's AIPerf and of GenAI-Perf before it.

``profile_export_aiperf.json`` (schema 1.5, ``docs/reference/json-export-schema.md`` of ai-dynamo/aiperf) and
``profile_export_genai_perf.json`` hold a block of statistics for each metric, older ones below ``records``:

- ``request_count`` are the requests that went well, ``error_request_count`` those that did not (``avg`` holds a count);
- ``error_summary`` has a reason and a count for each kind of error;
- ``output_sequence_length`` has the fewest tokens of a request in ``min``;
- ``input_config`` is what was asked for: the number of requests, and the output tokens of each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attnconf.gate.serving.bench import HIGHEST, reason_of
from attnconf.gate.serving.result import ServingResult

if TYPE_CHECKING:
    from attnconf.fields import Fields

_METRICS = ("request_count", "error_request_count", "output_sequence_length")
_SUBMITTED = (("loadgen", "request_count"), ("request_count",), ("measurement", "request_count"))
"""Where ``input_config`` says how many requests were to be sent."""

_OUTPUT = (("input", "prompt", "output_tokens"), ("prompt", "output_tokens"))
"""Where ``input_config`` has the mean and the deviation of the output tokens that a request is asked for."""


def is_genai(fields: Fields) -> bool:
    """Whether the document is a summary of these programs."""
    block = fields.data.get("records")
    return any(name in fields.data or (isinstance(block, dict) and name in block) for name in _METRICS)


def genai_result(fields: Fields) -> ServingResult:
    """Read one summary. Raises ``InvalidInputError`` for counts that are none."""
    metrics = fields.child("records") or fields
    if not metrics.has("request_count") and not metrics.has("error_request_count"):
        metrics.refuse_missing("request_count", "the number of requests that went well")
    failed = _metric(metrics, "error_request_count", "avg") or 0
    completed = _metric(metrics, "request_count", "avg") or 0
    config = fields.child("input_config")
    output = _metric(metrics, "output_sequence_length", "min")
    return ServingResult(
        source=fields.source,
        completed=completed,
        submitted=_at(config, _SUBMITTED),
        failed=failed,
        explained=_reasons(fields),
        lists={}
        if _at(config, _SUBMITTED) is not None
        else {"request_count and error_request_count": completed + failed},
        shortest=output,
        output_total=_metric(metrics, "output_sequence_length", "sum"),
        asked=_asked(config),
        cancelled=fields.boolean("was_cancelled", default=False),
    )


def _metric(fields: Fields, name: str, statistic: str) -> int | None:
    """Return a count that stands in a block of statistics as a number without a fraction, None without one."""
    block = fields.child(name)
    if block is None or not block.has(statistic):
        return None
    value = block.data[statistic]
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not 0 <= value <= HIGHEST
        or value != int(value)
    ):
        block.refuse(statistic, value, f"a whole number from 0 to {HIGHEST}")
    return int(value)


def _reasons(fields: Fields) -> dict[str, int]:
    given = fields.data.get("error_summary")
    if given is None:
        return {}
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        fields.refuse("error_summary", given, "a list of objects, each with error_details and count")
    found: dict[str, int] = {}
    for place in range(len(given)):
        one = type(fields)(fields.source, given[place], f"{fields.prefix}error_summary[{place}].")
        details = one.child("error_details")
        words = "" if details is None else f"{details.text('type', '')}: {details.text('message', '')}".strip(": \n")
        if words:
            reason = reason_of(words)
            found[reason] = found.get(reason, 0) + one.integer("count", low=0, high=HIGHEST)
    return found


def _at(config: Fields | None, places: tuple[tuple[str, ...], ...]) -> int | None:
    for place in places:
        value: Any = None if config is None else config.data
        for key in place:
            value = value.get(key) if isinstance(value, dict) else None
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= HIGHEST:
            return value
    return None


def _asked(config: Fields | None) -> int | None:
    for place in _OUTPUT:
        if not _at(config, ((*place, "stddev"),)):
            mean = _at(config, ((*place, "mean"),))
            if mean is not None:
                return mean
    return None
