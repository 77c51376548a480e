"""What came of the backtest, as data: a side is one release, an outcome both of them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from attnconf.values import Value

Verdict = Literal["found", "missed", "not_runnable", "not_run"]


class Side(Value):
    """One release, asked by the suite.

    ``cases`` were asked, ``layers`` of them executed and ``failing`` of the cases failed, in ``seconds`` of CPU time.
    ``broken`` counts the failing cases of each clause. ``why`` says why nothing, or not everything, was asked.
    """

    release: str
    wheel: str = ""
    drawn: int = 0
    cases: int = 0
    layers: int = 0
    failing: int = 0
    seconds: float = 0.0
    broken: dict[str, int] = Field(default_factory=dict)
    why: str = ""


class Find(Value):
    """The first case in which a clause of the entry failed: ``cases`` and CPU ``seconds`` until then, it included.

    ``case`` is its smallest form, and ``passes`` says whether the fixed release passes the first form and the smallest.
    """

    clause: int
    check: str
    units: float | None = None
    summary: str
    diagnosis: str = ""
    cases: int
    seconds: float
    first: dict[str, Any]
    case: dict[str, Any]
    passes: bool | None = None


class Outcome(Value):
    """One entry of the table on this machine."""

    id: str
    verdict: Verdict
    why: str = ""
    broken: Side | None = None
    fixed: Side | None = None
    find: Find | None = None


class Backtest(Value):
    """One run: ``versions`` are those of what both sides share, ``seconds`` of CPU time are what a side had."""

    schema_id: Literal["attnconf.backtest-result/1"] = Field(default="attnconf.backtest-result/1", alias="schema")
    profile: str
    seed: int
    seconds: float
    machine: str
    versions: dict[str, str]
    outcomes: tuple[Outcome, ...]
