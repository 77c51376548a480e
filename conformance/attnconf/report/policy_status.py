"""Policy statuses: which policies receipts name, and whether each holds on the platform of its runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from attnconf.gate.receipt import recorded_platform
from attnconf.gate.verdict import narrowed, reach_verdict
from attnconf.policy.policy import load_policy, policy_digest, shipped_policies
from attnconf.policy.resolution import resolve_all
from attnconf.report.gaps import Gap, gaps_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from attnconf.gate.cells import Cell
    from attnconf.gate.proof import Providers
    from attnconf.gate.receipt import PlatformRecord, Receipt
    from attnconf.policy.policy import Policy
    from attnconf.policy.requirements import RequiredCell

Status = Literal["met", "not met", "open"]


@dataclass(frozen=True)
class PolicyStatus:
    """Whether one policy holds on one platform: the gaps where it does not, and what other platforms still owe.

    ``waived`` and ``allowed`` are not proven, and the policy lets them pass; ``remarks`` are what is wrong with waivers
    that fail nothing, ``claims`` what is asserted of speed. The status is ``open``, and ``note`` says why, where the
    policy of the receipts is not at hand.
    """

    policy: str
    status: Status
    gaps: tuple[Gap, ...] = ()
    elsewhere: tuple[str, ...] = ()
    note: str = ""
    waived: tuple[Gap, ...] = ()
    allowed: tuple[Gap, ...] = ()
    remarks: tuple[str, ...] = ()
    claims: tuple[str, ...] = ()


def policies_of(receipts: Sequence[Receipt], policy: Policy | None) -> dict[str, Policy | None]:
    """Return the policies to judge by, by name; None where the policy has changed since or is not shipped."""
    if policy is not None:
        return {policy.name: policy}
    found: dict[str, Policy | None] = {}
    for ref in dict.fromkeys(receipt.policy for receipt in receipts if receipt.policy is not None):
        shipped = load_policy(ref.name) if ref.name in shipped_policies() else None
        found[ref.name] = None if shipped is None or policy_digest(shipped) != ref.digest else shipped
    return found


def held_rules(runs: Mapping[str, Receipt], policy: Policy | None) -> frozenset[str]:
    """Return the rules that decide on the platform of these runs: others need not owe them any more."""
    receipts = list(runs.values())
    platform = recorded_platform(receipts[0].platform)
    if platform.simulated:
        return frozenset()
    found = [one for one in policies_of(receipts, policy).values() if one is not None]
    return frozenset(resolved.rule for one in found for resolved in resolve_all(one, platform) if resolved.rule)


def verdict_of(  # noqa: PLR0913 - what a verdict is about
    name: str,
    policy: Policy | None,
    record: PlatformRecord,
    cells: Sequence[Cell],
    providers: Providers,
    held_elsewhere: frozenset[str],
    wanted: tuple[RequiredCell, ...] | None,
    where: str,
) -> PolicyStatus:
    """Judge the policy ``name`` by the ``cells`` of one platform: where a plan says, ``wanted`` alone.

    ``where`` stands in front of what is not met.
    """
    if policy is None:
        note = f"policy {name} is not at hand as it was when the receipt was written: name its file with --policy"
        return PolicyStatus(name, "open", note=note)
    platform = recorded_platform(record)
    resolutions = resolve_all(policy, platform)
    # a receipt says by its reasons what did not load; here every backend counts as one that would
    backends = dict.fromkeys(backend for one in resolutions for backend in (one.prefill, one.decode) if backend)
    verdict = reach_verdict(policy, resolutions, cells, platform, backends, providers=providers)
    if wanted is not None:
        verdict = narrowed(verdict, wanted).model_copy(update={"elsewhere": ()})  # the plan says who owes what
    elsewhere = tuple(other.sentence for other in verdict.elsewhere if other.rule not in held_elsewhere)
    return PolicyStatus(
        name,
        "met" if verdict.is_met else "not met",
        gaps_of(verdict.unmet, where),
        elsewhere,
        waived=gaps_of(verdict.waived, where),
        allowed=gaps_of(verdict.unsupported, where),
        remarks=verdict.notes,
        claims=verdict.claims,
    )
