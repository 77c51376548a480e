"""Verdict: whether the evidence proves the policy's defaults on this platform, and what other platforms still owe."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Literal

from attnconf.gate.proof import Proof, prove
from attnconf.platforms import platform_text
from attnconf.policy.check import waiver_faults
from attnconf.policy.requirements import RequiredCell, merged
from attnconf.values import Value
from attnconf.wording import plural

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from attnconf.gate.cells import Cell
    from attnconf.gate.proof import Providers
    from attnconf.platforms import Platform
    from attnconf.policy.policy import Policy, Rule
    from attnconf.policy.resolution import Resolution


class Unmet(Value):
    """One requirement that does not hold here, in one sentence.

    ``cell`` is the unproven cell, or None for other complaints.
    """

    kind: Literal["refused", "unavailable", "below_floor", "no_evidence", "nothing_proven", "waiver"]
    backend: str
    sentence: str
    cell: RequiredCell | None = None


class Excused(Value):
    """A required cell that is not proven and fails nothing: waived, or declared unsupported as the policy allows."""

    cell: RequiredCell
    sentence: str

    @property
    def backend(self) -> str:
        """The backend of its cell."""
        return self.cell.backend


class Elsewhere(Value):
    """What a rule for other platforms asks to be proven there: ``where`` says on which."""

    rule: str
    backend: str
    architectures: tuple[str, ...]
    where: str
    cells: tuple[RequiredCell, ...]

    @property
    def sentence(self) -> str:
        """Say what is needed, and from where."""
        count = f"{len(self.cells)} {plural('required cell', len(self.cells))}"
        names = ", ".join(self.architectures)
        return f"{self.backend} needs a receipt from {self.where}: {count} for {names}, by rule {self.rule}"


class Verdict(Value):
    """The judgement: the policy is met here when ``unmet`` is empty; nothing else fails anything.

    ``required`` is what was asked here, ``elsewhere`` what other platforms owe, ``waived`` and ``unsupported`` what is
    not proven here and may be so, ``notes`` what is wrong with waivers of a policy that is not strict. ``claims`` are
    sentences of what the policy asserts of speed, or of what no case has: shown, never measured here, never counted.
    """

    unmet: tuple[Unmet, ...]
    elsewhere: tuple[Elsewhere, ...]
    required: tuple[RequiredCell, ...] = ()
    waived: tuple[Excused, ...] = ()
    unsupported: tuple[Excused, ...] = ()
    notes: tuple[str, ...] = ()
    claims: tuple[str, ...] = ()

    @property
    def is_met(self) -> bool:
        """Whether every default of the policy is proven on this platform."""
        return not self.unmet


def reach_verdict(  # noqa: PLR0913 - what is judged, by what, where and when
    policy: Policy,
    resolutions: Sequence[Resolution],
    cells: Iterable[Cell],
    platform: Platform,
    backends: Mapping[str, str | None],
    *,
    providers: Providers | None = None,
    today: dt.date | None = None,
) -> Verdict:
    """Hold the evidence ``cells`` of this run against what the ``resolutions`` for ``platform`` ask.

    ``backends`` maps every registered backend to None when it works here, or to the reason why it does not. Nothing
    that ran here proves anything for a simulated platform. ``providers`` are those of the backends, as far as is known.
    ``today`` (of UTC; now, if left out) ends waivers.
    """
    day = today or dt.datetime.now(dt.UTC).date()
    unmet: list[Unmet] = []
    for resolution in resolutions:
        if resolution.by == "refused" and not resolution.stated:
            unmet.append(Unmet(kind="refused", backend="", sentence=resolution.sentence))
        unmet += [
            Unmet(kind="below_floor", backend=name, sentence=f"{name} {floor.sentence}")
            for name, floor in resolution.unmet_floors
        ]
    wanted = merged(cell for resolution in resolutions for cell in resolution.required)
    chosen = dict.fromkeys(name for one in resolutions for name in one.backends)
    complaints = [fault.sentence for fault in waiver_faults(policy, day)]
    proof = Proof(proven=(), unmet=(), waived=(), unsupported=(), needless=())
    if platform.simulated:
        unmet += _simulated(wanted, chosen, platform)
    else:
        missing = [_unavailable(name, backends) for name in chosen]
        unmet += [one for one in missing if one is not None]
        proof = prove(policy, wanted, cells, day, providers or {})
        unmet += [
            Unmet(kind="no_evidence", backend=cell.backend, cell=cell, sentence=f"{cell.text} is not proven: {lack}")
            for cell, lack in proof.unmet
        ]
        complaints += proof.needless
    if policy.strict:
        unmet += [Unmet(kind="waiver", backend="", sentence=sentence) for sentence in complaints]
    unmet += _unproven(resolutions, proof, {one.backend for one in unmet})
    return Verdict(
        unmet=tuple(dict.fromkeys(unmet)),
        elsewhere=elsewhere(policy, resolutions),
        required=wanted,
        waived=tuple(Excused(cell=cell, sentence=sentence) for cell, sentence in proof.waived),
        unsupported=tuple(Excused(cell=cell, sentence=sentence) for cell, sentence in proof.unsupported),
        notes=() if policy.strict else tuple(complaints),
        claims=(*unprovable(policy, resolutions), *(claim.sentence for claim in policy.claims)),
    )


def unprovable(policy: Policy, resolutions: Sequence[Resolution]) -> tuple[str, ...]:
    """Return what the rules that decide here assert without proof, in sentences."""
    found = []
    deciding = {resolution.rule for resolution in resolutions if resolution.by != "refused"}
    for rule in policy.rules:
        if rule.name in deciding and rule.unproven is not None:
            names = " and ".join(rule.choice.backends) if rule.choice else ""
            taken = {"the masks of images": rule.takes_images, "trees of drafts": rule.takes_trees}
            whom = " and ".join(what for what, takes in taken.items() if takes)
            what = f"rule {rule.name} gives {whom} {names}, and requires no case of them"
            found.append(f"not proven: {what} ({rule.unproven})")
    return tuple(found)


def narrowed(verdict: Verdict, cells: Collection[RequiredCell]) -> Verdict:
    """Return ``verdict`` as far as it is about ``cells``, a part of what was judged; at least one must be proven."""
    ids = {cell.id for cell in cells}
    unmet = [one for one in verdict.unmet if one.kind != "nothing_proven" and (one.cell is None or one.cell.id in ids)]
    waived = tuple(one for one in verdict.waived if one.cell.id in ids)
    unsupported = tuple(one for one in verdict.unsupported if one.cell.id in ids)
    unproven = {one.cell.id for one in unmet if one.cell is not None}
    if ids <= {*unproven, *(one.cell.id for one in (*waived, *unsupported))} and not unmet:
        unmet.append(Unmet(kind="nothing_proven", backend="", sentence="not one of the planned cells is proven"))
    # a choice of the whole policy of which nothing is proven still fails where all of its cells are planned
    if all(cell.id in ids for cell in verdict.required):
        unmet += [one for one in verdict.unmet if one.kind == "nothing_proven"]
    return verdict.model_copy(update={"unmet": tuple(unmet), "waived": waived, "unsupported": unsupported})


def _unproven(resolutions: Sequence[Resolution], proof: Proof, complained: set[str]) -> Iterator[Unmet]:
    """Yield the choices of which not one cell is proven, whatever was waived or allowed: nothing run is not green."""
    proven = {cell.id for cell in proof.proven}
    answers = [resolution for resolution in resolutions if resolution.by != "refused"]
    for resolution in answers:
        for name in resolution.backends:
            if name not in complained and not any(
                cell.backend == name and cell.id in proven for cell in resolution.required
            ):
                sentence = f"{resolution.sentence}: not one required cell of {name} is proven"
                yield Unmet(kind="nothing_proven", backend=name, sentence=sentence)
    if not answers and not complained:
        yield Unmet(
            kind="nothing_proven", backend="", sentence="the policy refuses everything here, so nothing is proven"
        )


def elsewhere(policy: Policy, resolutions: Sequence[Resolution]) -> tuple[Elsewhere, ...]:
    """Return what the rules ask of the platforms that they, and not the rules that hold here, decide."""
    here = {(one.architecture, one.rule) for one in resolutions}
    found = []
    for rule in policy.rules:
        choice = rule.choice
        others = tuple(name for name in rule.architectures if (name, rule.name) not in here)
        if choice is None or not others:
            continue
        found.append(
            Elsewhere(
                rule=rule.name,
                backend=" and ".join(choice.backends),
                architectures=others,
                where=_where(rule),
                cells=merged(cell for name in others for cell in policy.required_cells(name, rule.name, choice)),
            )
        )
    return tuple(found)


def _where(rule: Rule) -> str:
    return "a platform that no earlier rule takes" if rule.is_always else rule.text


def _simulated(wanted: Iterable[RequiredCell], chosen: Iterable[str], platform: Platform) -> list[Unmet]:
    counts = {name: sum(cell.backend == name for cell in wanted) for name in chosen}
    return [
        Unmet(
            kind="no_evidence",
            backend=name,
            sentence=f"{name} needs a receipt from SM {platform.sm_text}: none of its {count} required cells can be"
            f" proven on a simulated platform, {platform_text(platform)}",
        )
        for name, count in counts.items()
        if count
    ]


def _unavailable(name: str, backends: Mapping[str, str | None]) -> Unmet | None:
    reason = backends.get(name, f"no backend of that name is registered, only {', '.join(sorted(backends)) or 'none'}")
    if reason is None:
        return None
    return Unmet(kind="unavailable", backend=name, sentence=f"{name} is the default here but unavailable: {reason}")
