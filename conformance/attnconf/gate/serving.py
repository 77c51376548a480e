"""Serving: request conservation in the result of a serving benchmark. A request that is submitted must not vanish.

Read are the results of two programs, one JSON document or several behind each other (JSONL):

- sglang's ``bench_serving`` (``sglang/benchmark/serving.py`` of 0.5.23): ``completed``, and with ``--output-details``
  ``errors``, one text a submitted request, empty for one that went well. Without it no count of the submitted exists.
- vLLM's ``vllm bench serve`` (``vllm/benchmarks/serve.py``): ``num_prompts``, ``completed``, ``failed`` in newer
  releases, and ``errors`` as above with ``--save-detailed``.

A request is explained by its error text, or as one that the client itself gave up: their number may stand in
``aborted``, where vLLM's ``--metadata aborted=N`` writes it. ``failed`` alone says how many, not why.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attnconf.errors import InvalidInputError
from attnconf.fields import Fields
from attnconf.files import read_text
from attnconf.values import unambiguous
from attnconf.wording import cut, plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

ABORTED = "aborted by the client"
_DOCUMENT = "a serving benchmark's result, as JSON or JSONL"
_LONGEST_REASON = 120
_MOST_REASONS = 10
_HIGHEST = 10**12
_MOST_BYTES = 64 * 10**6
"""With details a result holds every generated text, and the times of all tokens."""

_MOST_VALUES = 6 * 10**6


@dataclass(frozen=True, kw_only=True)
class ServingResult:
    """The requests of one run of a serving benchmark.

    ``submitted`` is what was to be sent, ``recorded`` how many requests are listed one by one; each None where the
    file does not say. ``explained`` counts requests by the reason why they did not complete.
    """

    source: str
    completed: int
    submitted: int | None
    recorded: int | None
    explained: Mapping[str, int]

    @property
    def total(self) -> int | None:
        """How many requests were submitted: what the file says of it, or what it lists."""
        return self.recorded if self.submitted is None else self.submitted

    @property
    def faults(self) -> tuple[str, ...]:
        """Why this result does not show that every request was accounted for, in sentences; empty if it does."""
        total, accounted = self.total, self.completed + sum(self.explained.values())
        if total is None:
            unsaid = f"{self.source} does not say how many requests were submitted, so {self.completed} completed prove"
            return (f"{unsaid} nothing; run sglang's benchmark with --output-details",)
        if total == 0:
            return (f"{self.source}: no request was submitted, so nothing is proven",)
        found, submitted = [], f"{total} {plural('request', total)}"
        contradiction = f"{self.source} contradicts itself"
        if self.recorded is not None and self.recorded != total:
            found.append(f"{contradiction}: {submitted} submitted, {self.recorded} recorded")
        if accounted > total:
            found.append(
                f"{contradiction}: {accounted} {plural('request', accounted)} accounted for, {total} submitted"
            )
        if accounted < total:
            lost = total - accounted
            found.append(
                f"{self.source}: {lost} of {submitted} submitted {'is' if lost == 1 else 'are'} neither completed"
                " nor explained" + ("" if self.recorded is not None else "; run vLLM's benchmark with --save-detailed")
            )
        if self.completed == 0:
            found.append(f"{self.source}: none of {submitted} completed, so nothing is proven")
        return tuple(found)

    @property
    def text(self) -> str:
        """The counts in one line, the most frequent reasons first."""
        ranked = sorted(self.explained.items(), key=lambda item: (-item[1], item[0]))
        reasons = [f"{count} {reason}" for reason, count in ranked[:_MOST_REASONS]]
        rest = sum(count for _, count in ranked[_MOST_REASONS:])
        reasons += [f"{rest} for {len(ranked) - _MOST_REASONS} other reasons"] if rest else []
        submitted = "an unknown number" if self.total is None else str(self.total)
        because = f" ({'; '.join(reasons)})" if reasons else ""
        return (
            f"{self.source}: {submitted} submitted, {self.completed} completed,"
            f" {sum(self.explained.values())} explained{because}"
        )


def read_results(path: Path) -> tuple[ServingResult, ...]:
    """Read every result in ``path``. Raises ``InvalidInputError`` for a file that is not of such a benchmark."""
    documents = list(_documents(read_text(path, _MOST_BYTES), str(path)))
    names = [str(path) if len(documents) == 1 else f"{path}, result {i}" for i in range(1, len(documents) + 1)]
    return tuple(_result(data, name) for data, name in zip(documents, names, strict=True))


def _documents(text: str, source: str) -> Iterator[dict[str, Any]]:
    if sum(map(text.count, ",[{")) > _MOST_VALUES:
        raise InvalidInputError(source, given="too many values", allowed=f"at most {_MOST_VALUES}")
    decoder, at = json.JSONDecoder(object_pairs_hook=unambiguous(source)), _skip_space(text, 0)
    if at == len(text):
        raise InvalidInputError(source, given="is empty", allowed=_DOCUMENT)
    while at < len(text):
        try:
            data, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            line = f"line {error.lineno}"
            raise InvalidInputError(source, field=line, given=error.msg, allowed=_DOCUMENT) from None
        except (RecursionError, ValueError):  # nested too deeply, or a number of more than 4,300 digits
            raise InvalidInputError(source, given="cannot be parsed", allowed=_DOCUMENT) from None
        if not isinstance(data, dict):
            raise InvalidInputError(source, given=f"holds a {type(data).__name__}", allowed=_DOCUMENT)
        yield data
        at = _skip_space(text, at)


def _skip_space(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at


def _result(data: dict[str, Any], source: str) -> ServingResult:
    fields = Fields(source, data)
    errors = data.get("errors")
    if errors is not None and not (isinstance(errors, list) and all(isinstance(e, str | None) for e in errors)):
        fields.refuse("errors", errors, "a list with a text or null for each request")
    explained = Counter(_reason(error) for error in errors or () if error is not None and error.strip())
    if aborted := _aborted(fields):
        explained[ABORTED] += aborted
    return ServingResult(
        source=fields.source,
        completed=fields.integer("completed", low=0, high=_HIGHEST),
        submitted=fields.integer("num_prompts", low=0, high=_HIGHEST) if fields.has("num_prompts") else None,
        recorded=None if errors is None else len(errors),
        explained=dict(explained),
    )


def _aborted(fields: Fields) -> int:
    value = fields.data.get("aborted")
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < len(str(_HIGHEST)):
        return int(value)  # as --metadata writes it
    return fields.integer("aborted", 0, low=0, high=_HIGHEST)


def _reason(error: str) -> str:
    """Return the line of an error text that names it: of a traceback the last one."""
    return cut(error.strip().splitlines()[-1], _LONGEST_REASON)
