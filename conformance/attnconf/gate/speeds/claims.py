"""Claims: what speed receipts and paired serving results prove of a policy's claims.

A claim about kernels asks every required cell of its rule that it selects, on a platform where the rule decides. A
claim about serving is proven by paired serving results alone. Times of kernels are shown beside it and decide nothing
there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from attnconf.cases.geometry import unsharded
from attnconf.gate.invariants import cell_contradictions, contradictions
from attnconf.gate.provider import provider_fault
from attnconf.gate.receipt import recorded_platform
from attnconf.policy.requirements import merged
from attnconf.policy.resolution import resolve_all
from attnconf.speeds.verdicts import judge_gain
from attnconf.version import __version__
from attnconf.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from attnconf.gate.speeds.cell import SpeedCell
    from attnconf.gate.speeds.paired import Paired
    from attnconf.gate.speeds.speed_receipt import SpeedReceipt
    from attnconf.policy.claims import Claim
    from attnconf.policy.policy import Policy, Rule
    from attnconf.policy.requirements import RequiredCell
    from attnconf.speeds.estimate import Estimate

Standing = Literal["proven", "at least", "refuted", "undecided", "a single run"]

_WORST: tuple[Standing, ...] = ("refuted", "undecided", "at least", "proven")
"""Verdicts of cells, the one that stands for all of them first."""


@dataclass(frozen=True)
class JudgedClaim:
    """A claim, how it stands, and the sentences that say why, the worst first."""

    claim: Claim
    standing: Standing
    why: tuple[str, ...] = ()

    @property
    def is_proven(self) -> bool:
        """Whether no less was gained than claimed."""
        return self.standing in {"proven", "at least"}

    @property
    def fails(self) -> bool:
        """Whether a gate stays shut for it."""
        return self.claim.unproven == "fail" and not self.is_proven

    @property
    def sentence(self) -> str:
        """The claim and its standing in one sentence."""
        if self.standing == "a single run":
            return f"claimed of a single run, which proves nothing: {self.claim.assertion}"
        return f"claim {self.standing}: {self.claim.assertion}"


@dataclass(frozen=True)
class SpeedEvidence:
    """What there is to judge by: speed receipts and paired results, by the names of their files."""

    speeds: Mapping[str, SpeedReceipt]
    paired: Mapping[str, Paired]

    @property
    def is_empty(self) -> bool:
        """Whether nothing was brought."""
        return not self.speeds and not self.paired


def judge_claims(policy: Policy, evidence: SpeedEvidence, sha: str | None) -> tuple[JudgedClaim, ...]:
    """Judge every claim of ``policy`` by what of the ``evidence`` counts for the commit ``sha``."""
    rules = {rule.name: rule for rule in policy.rules}
    return tuple(_judge(policy, rules[claim.rule], claim, evidence, sha) for claim in policy.claims)


def why_not(found: SpeedReceipt | Paired, sha: str | None) -> tuple[str, ...]:
    """Return why a file of evidence does not count for the commit ``sha``, empty if it does."""
    return tuple(_why_not(found, sha))


def _why_not(found: SpeedReceipt | Paired, sha: str | None) -> Iterator[str]:
    if found.digest is None:
        yield "has no digest, so an edit would not show"
    if found.git_sha is None or found.git_sha != sha:
        yield f"is of commit {found.git_sha or 'none'}, not of {sha or 'none'}"
    if found.attnconf != __version__:
        yield f"was written by attnconf {found.attnconf}, and this is {__version__}"
    if found.schema_id == "attnconf.speed/1":
        if found.platform.simulated:
            yield f"is of a SIMULATED machine, {found.platform.device}: no kernel was timed"
        if found.correctness.digest is None:
            yield "its correctness receipt has no digest"
        wrong = [*contradictions(found.correctness), *cell_contradictions(found.correctness)]
        yield from (f"its correctness receipt contradicts itself: {text}" for text in wrong[:1])
        names = dict.fromkeys(side.backend for cell in found.cells for side in (cell.candidate, cell.baseline))
        yield from filter(None, (provider_fault(name, found.correctness.providers.get(name)) for name in names))
    yield from found.faults()


def _judge(policy: Policy, rule: Rule, claim: Claim, evidence: SpeedEvidence, sha: str | None) -> JudgedClaim:
    if claim.evidence == "single run":
        return JudgedClaim(claim, "a single run")
    if claim.measure == "end to end":
        return _judge_served(rule, claim, evidence, sha)
    refused: list[str] = []
    counting: list[tuple[str, SpeedReceipt]] = []
    for name, receipt in evidence.speeds.items():
        reasons = why_not(receipt, sha) or _off_platform(policy, rule, receipt)
        if reasons:
            refused.append(f"{name} does not count: {reasons[0]}" + _more(reasons))
        else:
            counting.append((name, receipt))
    wanted = _wanted(policy, rule, claim)
    if not wanted:
        return JudgedClaim(claim, "undecided", ("it selects no required cell of its rule",))
    found: list[tuple[Standing, str]] = []
    for cell in wanted:
        timed = [one for _, receipt in counting for one in receipt.cells if _is(one, cell, claim.over, rule)]
        if not timed:
            found.append(("undecided", f"{cell.text} over {claim.over} was not timed"))
        found += [_told(one.text, one.estimate(), claim) for one in timed]
    return _summed(claim, found, refused)


def _judge_served(rule: Rule, claim: Claim, evidence: SpeedEvidence, sha: str | None) -> JudgedClaim:
    backends = rule.choice.backends if rule.choice else ()
    refused: list[str] = []
    found: list[tuple[Standing, str]] = []
    for name, paired in evidence.paired.items():
        if paired.candidate not in backends or paired.over != claim.over:
            continue
        reasons = why_not(paired, sha)
        if reasons:
            refused.append(f"{name} does not count: {reasons[0]}" + _more(reasons))
        else:
            found.append(_told(f"{name}, {claim.field}", paired.estimate(claim.field or ""), claim))
    if not found:
        found.append(("undecided", f"no paired serving results of {' or '.join(backends)} over {claim.over} count"))
        if evidence.speeds:
            refused.append("speed receipts are of kernels, which are a part of a step: they cannot prove this claim")
    return _summed(claim, found, refused)


def _told(what: str, estimate: Estimate | None, claim: Claim) -> tuple[Standing, str]:
    if estimate is None:
        return "undecided", f"{what} is not reported by every run"
    gain, low, high = estimate.gain
    standing = judge_gain(estimate, claim.at_least, claim.at_most)
    lack = f": {estimate.lack}" if estimate.lack else ""
    return standing, f"{what}: {gain:+.1f} % ({low:+.1f} to {high:+.1f} %), {standing}{lack}"


def _summed(claim: Claim, found: list[tuple[Standing, str]], refused: list[str]) -> JudgedClaim:
    ranked = sorted(found, key=lambda one: _WORST.index(one[0]))
    return JudgedClaim(claim, ranked[0][0], (*(text for _, text in ranked), *refused))


def _wanted(policy: Policy, rule: Rule, claim: Claim) -> tuple[RequiredCell, ...]:
    """Return the required cells of the rule that the claim selects."""
    if rule.choice is None:
        return ()
    choice = rule.choice
    cells = merged(cell for name in rule.architectures for cell in policy.required_cells(name, rule.name, choice))
    return tuple(cell for cell in cells if claim.has(cell))


def _is(timed: SpeedCell, cell: RequiredCell, over: str, rule: Rule) -> bool:
    """Return whether ``timed`` is about ``cell``, of an engine's own backends where it asks for those."""
    backends = rule.choice.backends if rule.choice else ()
    engine = next((cell.backend.removesuffix(name) for name in backends if cell.backend.endswith(f":{name}")), "")
    return (
        (timed.candidate.backend, timed.baseline.backend) == (cell.backend, engine + over)
        and "contract" not in {timed.candidate.evidence, timed.baseline.evidence}
        and (unsharded(timed.model), timed.layer_kind, timed.mode) == (cell.model, cell.layer_kind, cell.mode)
        and cell.dtypes in {"any", timed.dtypes.text}
    )


def _off_platform(policy: Policy, rule: Rule, receipt: SpeedReceipt) -> tuple[str, ...]:
    platform = recorded_platform(receipt.platform)
    if any(one.rule == rule.name for one in resolve_all(policy, platform)):
        return ()
    return (f"rule {rule.name} does not decide on {receipt.platform.machine}",)


def _more(reasons: tuple[str, ...]) -> str:
    return f", and {counted(len(reasons) - 1, 'other reason')}" if len(reasons) > 1 else ""
