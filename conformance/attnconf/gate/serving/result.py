"""Result: the requests of one run of a serving benchmark, and which of its claims contradict each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from attnconf.wording import plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ABORTED = "aborted by the client"
_MOST_REASONS = 10


@dataclass(frozen=True, kw_only=True)
class ServingResult:
    """The requests of one run.

    ``submitted`` is what was to be sent and ``failed`` how many the program says failed, None where the file does not
    say. ``explained`` counts requests by the reason why they did not complete. ``lists`` has the length of each list
    with an entry a request, by name. ``aborted`` of the explained are those that the client gave up. ``output_lens``
    are the output tokens of each request; ``shortest`` is the fewest of a completed one, where only that is said, and
    ``output_total`` their sum as stated. ``input_total`` is the stated sum of input tokens, and ``input_sum`` that of
    the list. ``first_tokens`` counts the requests with a time of a first token. ``asked`` is the fewest output tokens
    that a request was asked for. ``cancelled``: the run was stopped. ``advice`` is how the program writes what lacks.
    """

    source: str
    completed: int
    submitted: int | None = None
    failed: int | None = None
    explained: Mapping[str, int] = field(default_factory=dict)
    aborted: int = 0
    lists: Mapping[str, int] = field(default_factory=dict)
    output_lens: Sequence[int] | None = None
    shortest: int | None = None
    output_total: int | None = None
    input_sum: int | None = None
    input_total: int | None = None
    first_tokens: int | None = None
    asked: int | None = None
    cancelled: bool = False
    advice: str = ""

    @property
    def recorded(self) -> int | None:
        """How many requests are listed one by one, None without a list."""
        return self.lists.get("errors", next(iter(self.lists.values()), None))

    @property
    def total(self) -> int | None:
        """How many requests were submitted: what the file says of it, or what it lists."""
        return self.recorded if self.submitted is None else self.submitted

    @property
    def faults(self) -> tuple[str, ...]:
        """Why this result does not show that every request was accounted for, in sentences; empty if it does."""
        total = self.total
        if total is None:
            unsaid = f"{self.source} does not say how many requests were submitted, so {self.completed} completed prove"
            return (f"{unsaid} nothing" + (f"; {self.advice}" if self.advice else ""),)
        if total == 0:
            return (f"{self.source}: no request was submitted, so nothing is proven",)
        against = [f"{self.source} contradicts itself: {claims}" for claims in self._contradictions(total)]
        lost = [f"{self.source}: {sentence}" for sentence in self._losses(total)]
        return (*against, *lost)

    def _contradictions(self, total: int) -> Iterator[str]:
        """Yield the pairs of counts that cannot both be right."""
        submitted = f"{_requests(total)} submitted"
        reasons = sum(self.explained.values())
        accounted, errors = self.completed + reasons, reasons - self.aborted
        for name, length in self.lists.items():
            if length != total:
                recorded = "recorded" if name == "errors" else "listed"
                yield f"{submitted}, {length} {recorded} in {name}"
        if accounted > total:
            yield f"{_requests(accounted)} accounted for, {submitted}"
        if self.failed is not None:
            if not self.completed + self.failed <= total <= self.completed + self.failed + self.aborted:
                yield f"{self.completed} completed and {self.failed} failed, {submitted}"
            if errors > self.failed:
                yield f"{self.failed} failed, {errors} with an error"
        yield from self._token_contradictions()

    def _token_contradictions(self) -> Iterator[str]:
        completed = f"{_requests(self.completed)} completed"
        if self.output_lens is not None:
            some, tokens = sum(length > 0 for length in self.output_lens), sum(self.output_lens)
            if some < self.completed:
                yield f"{completed}, {some} with an output token in output_lens"
            elif some > self.completed:
                yield f"{completed}, but {some} have output tokens in output_lens"
            if self.output_total is not None and self.output_total != tokens:
                yield f"{self.output_total} output tokens in all, {tokens} in output_lens"
        elif self.shortest == 0:
            yield f"{completed}, one of them at least without an output token"
        if self.output_total is not None and self.output_total < self.completed:
            yield f"{completed}, {self.output_total} output {plural('token', self.output_total)} in all"
        if self.first_tokens and self.first_tokens < self.completed:
            yield f"{completed}, {self.first_tokens} with a first token in ttfts"
        if self.input_total is not None and self.input_sum is not None and self.input_total > self.input_sum:
            yield f"{self.input_total} input tokens in all, {self.input_sum} in input_lens"

    def _losses(self, total: int) -> Iterator[str]:
        """Yield what was lost: requests without an end, streams cut short, runs of which nothing is left."""
        lost = total - self.completed - sum(self.explained.values())
        if lost > 0:
            advice = f"; {self.advice}" if self.advice and not self.lists else ""
            what = f"{_requests(total)} submitted {'is' if lost == 1 else 'are'}"
            yield f"{lost} of {what} neither completed nor explained{advice}"
        if self.cancelled:
            yield "the run was cancelled before its end"
        if self.completed == 0:
            yield f"none of {_requests(total)} completed, so nothing is proven"
        elif self.asked is not None:
            yield from self._short(self.asked)

    def _short(self, asked: int) -> Iterator[str]:
        tokens = f"before the {asked} output {plural('token', asked)} that were asked for"
        if self.output_lens is not None:
            short = [length for length in self.output_lens if 0 < length < asked]
            if short:
                yield f"{_requests(len(short))} ended {tokens}, one with {min(short)}"
        elif self.shortest is not None and 0 < self.shortest < asked:
            yield f"a request ended {tokens}, with {self.shortest}"

    @property
    def notes(self) -> tuple[str, ...]:
        """What this file cannot show, in sentences."""
        if self.asked is not None and (self.output_lens is not None or self.shortest is not None):
            return ()
        unsaid = "how many output tokens each request was asked for" if self.asked is None else "how many each one gave"
        seen = ""
        lengths = [length for length in self.output_lens or () if length > 0]
        if lengths and min(lengths) != max(lengths):
            seen = f"; its lengths are from {min(lengths)} to {max(lengths)}, and --output-len says what was asked"
        return (f"{self.source} does not say {unsaid}, so whether a stream was cut short cannot be told{seen}",)

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


def _requests(count: int) -> str:
    return f"{count} {plural('request', count)}"
