"""Paired: results of a serving benchmark that ran with one backend and another in turn, as a file.

One run of each proves nothing: a server warms up, a neighbour comes and goes, and a load that is drawn at random
differs. So both sides run behind each other in pairs, the first of them in turn.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from attnconf.errors import InvalidInputError
from attnconf.files import read_bytes
from attnconf.gate.sealed import Digest, Sealed
from attnconf.gate.serving.documents import MOST_BYTES, read_documents, serving_result
from attnconf.gate.speeds.served import is_time, served_numbers
from attnconf.policy.claims import Served
from attnconf.policy.requirements import Name
from attnconf.speeds.estimate import estimate_pairs
from attnconf.values import Value
from attnconf.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from attnconf.speeds.estimate import Estimate

_Letter = Literal["A", "B"]
_MOST_RUNS = 200
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Text = Annotated[str, Field(max_length=1000)]


class ServedRun(Value):
    """One run of the benchmark: A with the candidate, B with the baseline.

    ``source`` is the name of its file and ``sha256`` that of the file's bytes. ``requests`` is how many completed,
    ``input_tokens`` what they brought, None where the file does not say. ``speeds`` are its numbers by name, and
    ``faults`` why ``verify-requests`` does not accept it.
    """

    side: _Letter
    source: _Text
    sha256: Digest
    date: _Text = ""
    requests: Annotated[int, Field(ge=0, strict=True)]
    input_tokens: Annotated[int, Field(ge=0, strict=True)] | None = None
    speeds: dict[Served, _Positive]
    faults: tuple[_Text, ...] = ()


class Paired(Sealed):
    """The ``runs`` of a serving benchmark in the order in which they ran: each two of them are a pair.

    ``git_sha`` is the commit whose backends were served, None outside a repository.
    """

    schema_id: Literal["attnconf.paired/1"] = Field(default="attnconf.paired/1", alias="schema")
    attnconf: str = __version__
    git_sha: str | None
    candidate: Name
    over: Name
    runs: Annotated[tuple[ServedRun, ...], Field(min_length=2, max_length=_MOST_RUNS)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        order = "".join(run.side for run in self.runs)
        if len(order) % 2 or any(order[at : at + 2] not in {"AB", "BA"} for at in range(0, len(order), 2)):
            raise ValueError(f"runs in pairs of A and B, such as ABBAAB, not {order}")
        if self.candidate == self.over:
            raise ValueError(f"over another backend than the candidate {self.candidate}")
        return self

    @property
    def pairs(self) -> tuple[tuple[ServedRun, ServedRun], ...]:
        """The runs of each pair, A first."""
        both = zip(self.runs[::2], self.runs[1::2], strict=True)
        return tuple((one, other) if one.side == "A" else (other, one) for one, other in both)

    def faults(self) -> Iterator[str]:
        """Yield why the runs prove nothing: a request is lost, a pair is none, or one side always ran first."""
        for run in self.runs:
            yield from (f"{run.source} does not pass verify-requests: {fault}" for fault in run.faults)
        for one, other in self.pairs:
            if (one.requests, one.input_tokens) != (other.requests, other.input_tokens):
                yield (
                    f"{one.source} and {other.source} are no pair: {one.requests} requests with {one.input_tokens}"
                    f" input tokens, and {other.requests} with {other.input_tokens}"
                )
        firsts = {run.side for run in self.runs[::2]}
        if len(self.pairs) > 1 and len(firsts) == 1:
            yield f"{firsts.pop()} ran first in every pair: the first must alternate, as in ABBAAB"
        if len({run.sha256 for run in self.runs}) < len(self.runs):
            yield "a result is there twice"
        dates = [run.date for run in self.runs]
        if all(dates) and dates != sorted(dates):
            yield "the runs are not in the order of their dates"

    def estimate(self, field: str) -> Estimate | None:
        """Return the candidate's speed over the baseline's in ``field``, None where a run does not report it.

        Of a time the ratio is the baseline's over the candidate's: above 1 the candidate is faster.
        """
        ratios = []
        for one, other in self.pairs:
            mine, theirs = one.speeds.get(field), other.speeds.get(field)  # type: ignore[call-overload]
            if mine is None or theirs is None:
                return None
            ratios.append(math.log(theirs / mine) if is_time(field) else math.log(mine / theirs))
        return estimate_pairs(ratios)


def pair_files(  # noqa: PLR0913 - whose runs, in which order
    files: Sequence[Path], order: str, *, candidate: str, over: str, git_sha: str | None, output_len: int | None = None
) -> Paired:
    """Read one result of each of ``files``, which ran in that order: A or B of ``order`` for each.

    ``output_len`` is how many tokens each request was asked for, where the files do not say. Raises
    ``InvalidInputError``.
    """
    if len(order) != len(files) or set(order) - {"A", "B"}:
        allowed = f"A (candidate) or B (baseline) for each of the {len(files)} files, such as ABBAAB"
        raise InvalidInputError("--order", given=ascii(order), allowed=allowed)
    runs = [_run(path, side, output_len) for path, side in zip(files, order, strict=True)]
    data = {"git_sha": git_sha, "candidate": candidate, "over": over, "runs": runs}
    return Paired.from_data(data, "the paired runs")


def _run(path: Path, side: str, output_len: int | None) -> dict[str, object]:
    found = read_documents(path)
    if len(found) != 1:
        raise InvalidInputError(str(path), given=f"holds {len(found)} results", allowed="one result a file")
    fields = found[0]
    result = serving_result(fields)
    if output_len is not None:
        result = replace(result, asked=output_len)
    return {
        "side": side,
        "source": path.name,
        "sha256": hashlib.sha256(read_bytes(path, MOST_BYTES)).hexdigest(),
        "date": fields.text("date", ""),
        "requests": result.completed,
        "input_tokens": result.input_total,
        "speeds": served_numbers(fields),
        "faults": result.faults,
    }
