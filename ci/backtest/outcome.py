"""What came of the backtest, as data: a side is one release, an outcome both of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from attnconf.values import Value

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    """One entry of the table on this machine; ``commit`` is that of the checkout whose draws were asked."""

    id: str
    verdict: Verdict
    commit: str = ""
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

    def keeping(self, earlier: Backtest, order: Sequence[str]) -> Backtest:
        """Return this run with the outcomes of ``earlier`` that it has not, in the ``order`` of ids.

        Those of a run under other conditions (profile, seed, time, machine, versions) are dropped.
        """
        same = self._conditions() == earlier._conditions()
        known = {one.id: one for one in (*(earlier.outcomes if same else ()), *self.outcomes)}
        return self.model_copy(update={"outcomes": tuple(known[name] for name in order if name in known)})

    def _conditions(self) -> tuple[object, ...]:
        return self.profile, self.seed, self.seconds, self.machine, self.versions


def joined(results: Sequence[Backtest]) -> dict[str, Outcome]:
    """Return the outcome of each entry, in the order of the first result: that of the machine on which it ran."""
    found: dict[str, Outcome] = {}
    for one in (outcome for result in results for outcome in result.outcomes):
        if one.id not in found or found[one.id].verdict == "not_run":
            found[one.id] = one
    return found
