"""Ledger: how every single request of a scheduler ended, as ``attnconf machine --ledger`` or an engine writes it."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from attnconf.files import write_text
from attnconf.gate.serving.result import ServingResult
from attnconf.values import Value
from attnconf.wording import cut

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = "attnconf.ledger/1"
_LONGEST = 120


class LedgerEntry(Value):
    """One request: how it ``ended``, None where it did not, and why, which a finished one need not say.

    It gave ``output_tokens`` of the ``asked_tokens``; fewer of a finished one need a ``reason``, such as a stop token.
    """

    request: Annotated[str, Field(min_length=1, max_length=200)]
    ended: Literal["finished", "aborted", "refused"] | None = None
    reason: str = ""
    output_tokens: Annotated[int, Field(ge=0, strict=True)] | None = None
    asked_tokens: Annotated[int, Field(ge=1, strict=True)] | None = None

    @property
    def is_complete(self) -> bool:
        """Whether it finished, and was not cut short without a reason."""
        if self.ended != "finished":
            return False
        known = self.output_tokens is not None and self.asked_tokens is not None
        return not known or bool(self.reason.strip()) or (self.output_tokens or 0) >= (self.asked_tokens or 0)

    @property
    def is_explained(self) -> bool:
        """Whether it ended otherwise than finished, and says why."""
        return self.ended in {"aborted", "refused"} and bool(self.reason.strip())


class Ledger(Value):
    """Every request that was submitted, once."""

    schema_id: Literal["attnconf.ledger/1"] = Field(default="attnconf.ledger/1", alias="schema")
    requests: tuple[LedgerEntry, ...]

    def write(self, path: Path) -> None:
        """Write the ledger as JSON."""
        write_text(path, json.dumps(self.to_data(), indent=1) + "\n")

    def result(self, source: str) -> ServingResult:
        """Return what the ledger says of its requests: one that is there twice, or ends without a reason, is lost."""
        names = Counter(one.request for one in self.requests)
        finished = [one for one in self.requests if one.is_complete]
        explained = Counter(cut(f"{one.ended}: {one.reason}", _LONGEST) for one in self.requests if one.is_explained)
        lengths = [one.output_tokens for one in finished if one.output_tokens is not None]
        whole = bool(finished) and len(lengths) == len(finished)
        asked = whole and all(one.asked_tokens is not None for one in finished)
        return ServingResult(
            source=source,
            completed=len(finished),
            submitted=len(names),
            explained=dict(explained),
            aborted=sum(one.is_explained and one.ended == "aborted" for one in self.requests),
            lists={"requests": len(self.requests)},
            output_lens=lengths if whole else None,
            asked=1 if asked else None,  # of each as many as it was asked for, else it is not complete
        )
