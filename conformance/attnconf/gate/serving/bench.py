"""Bench: the results of sglang's and vLLM's own serving benchmarks.

- sglang's ``bench_serving`` (``sglang/benchmark/serving.py`` of 0.5.23): ``completed``, totals, and with
  ``--output-details`` lists with an entry a submitted request: ``errors``, one text each, empty for one that went well,
  ``output_lens``, ``ttfts`` and others. Without them no count of the submitted exists. For its random data sets a
  request asks for ``random_output_len`` tokens times ``random_range_ratio`` or more.
- vLLM's ``vllm bench serve`` (``vllm/benchmarks/serve.py``): ``num_prompts``, ``completed``, totals, in newer releases
  ``failed``, and the lists with ``--save-detailed``.

A request that failed has an output length of 0 in both. It is explained by its error text, or as one that the client
itself gave up: their number may stand in ``aborted``, where vLLM's ``--metadata aborted=N`` writes it. ``failed`` alone
says how many, not why.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from attnconf.gate.serving.result import ABORTED, ServingResult
from attnconf.wording import cut

if TYPE_CHECKING:
    from attnconf.fields import Fields

HIGHEST = 10**12
"""More requests or tokens than any run has."""

LONGEST_REASON = 120
_LISTS = ("errors", "input_lens", "output_lens", "ttfts", "itls", "generated_texts")
"""The lists with an entry for every request that was sent."""

_VLLM = "run vLLM's benchmark with --save-detailed"
_SGLANG = "run sglang's benchmark with --output-details"


def bench_result(fields: Fields) -> ServingResult:
    """Read one result. Raises ``InvalidInputError`` for what is none."""
    data = fields.data
    errors = data.get("errors")
    if errors is not None and not (isinstance(errors, list) and all(isinstance(e, str | None) for e in errors)):
        fields.refuse("errors", errors, "a list with a text or null for each request")
    explained = Counter(reason_of(error) for error in errors or () if error is not None and error.strip())
    aborted = _aborted(fields)
    if aborted:
        explained[ABORTED] += aborted
    times = _numbers(fields, "ttfts")
    inputs = _numbers(fields, "input_lens")
    outputs = _numbers(fields, "output_lens")
    return ServingResult(
        source=fields.source,
        completed=fields.integer("completed", low=0, high=HIGHEST),
        submitted=count(fields, "num_prompts"),
        failed=count(fields, "failed"),
        explained=dict(explained),
        aborted=aborted,
        lists={name: len(data[name]) for name in _LISTS if isinstance(data.get(name), list)},
        output_lens=outputs,
        output_total=count(fields, "total_output_tokens"),
        input_sum=None if inputs is None else sum(inputs),
        input_total=count(fields, "total_input_tokens"),
        first_tokens=None if times is None else sum(time > 0 for time in times),
        asked=_asked(fields),
        advice=_VLLM if fields.has("num_prompts") else _SGLANG,
    )


def count(fields: Fields, name: str) -> int | None:
    """Return the count ``name``, None where it is missing."""
    return fields.integer(name, low=0, high=HIGHEST) if fields.has(name) else None


def reason_of(error: str) -> str:
    """Return the line of an error text that names it: of a traceback the last one."""
    return cut(error.strip().splitlines()[-1], LONGEST_REASON)


def _numbers(fields: Fields, name: str) -> list[Any] | None:
    given = fields.data.get(name)
    if given is None:
        return None
    kinds = int if name.endswith("lens") else int | float
    if not isinstance(given, list) or not all(
        isinstance(one, kinds) and not isinstance(one, bool) and 0 <= one <= HIGHEST for one in given
    ):
        what = "whole numbers" if kinds is int else "numbers"
        fields.refuse(name, given, f"a list of {what} of 0 or more, one for each request")
    return given


def _asked(fields: Fields) -> int | None:
    """Return the fewest output tokens that a request was asked for, None where the file does not say."""
    name = fields.data.get("dataset_name")
    if isinstance(name, str) and name.startswith("random") and fields.has("random_range_ratio"):
        length = count(fields, "random_output_len")
        ratio = fields.data["random_range_ratio"]
        if length is not None and isinstance(ratio, int | float) and 0 <= ratio <= 1:
            return max(1, int(length * ratio))
    return count(fields, "sharegpt_output_len") if name == "sharegpt" else None


def _aborted(fields: Fields) -> int:
    value = fields.data.get("aborted")
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < len(str(HIGHEST)):
        return int(value)  # as --metadata writes it
    return fields.integer("aborted", 0, low=0, high=HIGHEST)
