"""Verdict: whether the evidence proves the policy's defaults on this platform, and what other platforms still owe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from attnconf.canonical import Value
from attnconf.geometry import unsharded
from attnconf.policy import RequiredCell
from attnconf.resolution import platform_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from attnconf.cells import Cell
    from attnconf.platforms import Platform
    from attnconf.policy import Policy, Rule
    from attnconf.resolution import Resolution


class Unmet(Value):
    """One requirement that does not hold here, in one sentence. ``cell`` is the one that lacks proof, if it is that."""

    kind: Literal["refused", "unavailable", "below_floor", "no_evidence"]
    backend: str
    sentence: str
    cell: RequiredCell | None = None


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
        count = f"{len(self.cells)} required cell{'' if len(self.cells) == 1 else 's'}"
        names = ", ".join(self.architectures)
        return f"{self.backend} needs a receipt from {self.where}: {count} for {names}, by rule {self.rule}"


class Verdict(Value):
    """The judgement: the policy is met here when ``unmet`` is empty; ``elsewhere`` fails nothing here."""

    unmet: tuple[Unmet, ...]
    elsewhere: tuple[Elsewhere, ...]

    @property
    def is_met(self) -> bool:
        """Whether every default of the policy is proven on this platform."""
        return not self.unmet


def judge(
    policy: Policy,
    resolutions: Sequence[Resolution],
    cells: Iterable[Cell],
    platform: Platform,
    backends: Mapping[str, str | None],
) -> Verdict:
    """Hold the evidence ``cells`` of this run against what the ``resolutions`` for ``platform`` ask.

    ``backends`` maps every registered backend to None when it works here, or to the reason why it does not. Nothing
    that ran here proves anything for a simulated platform.
    """
    unmet: list[Unmet] = []
    for resolution in resolutions:
        if resolution.by == "refused":
            unmet.append(Unmet(kind="refused", backend="", sentence=resolution.sentence))
        unmet += [
            Unmet(kind="below_floor", backend=name, sentence=f"{name} {floor.sentence}")
            for name, floor in resolution.unmet_floors
        ]
    wanted = list(dict.fromkeys(cell for resolution in resolutions for cell in resolution.required))
    chosen = {name: None for one in resolutions for name in (one.prefill, one.decode) if name is not None}
    if platform.simulated:
        unmet += _simulated(wanted, chosen, platform)
    else:
        missing = [_unavailable(name, backends) for name in chosen]
        unmet += [one for one in missing if one is not None]
        index = _index(cells)
        proofs = [_lack(cell, index) for cell in wanted]
        unmet += [one for one in proofs if one is not None]
    return Verdict(unmet=tuple(dict.fromkeys(unmet)), elsewhere=elsewhere(policy, resolutions))


def elsewhere(policy: Policy, resolutions: Sequence[Resolution]) -> tuple[Elsewhere, ...]:
    """Return what the rules ask of the platforms that they, and not the rule that holds here, decide."""
    here = {one.architecture: one.rule for one in resolutions}
    found = []
    for rule in policy.rules:
        others = tuple(name for name in rule.architectures if here.get(name) != rule.name)
        if not others:
            continue
        cells = [policy.required_cells(name, prefill=rule.backend, decode=rule.backend) for name in others]
        found.append(
            Elsewhere(
                rule=rule.name,
                backend=rule.backend,
                architectures=others,
                where=_where(rule),
                cells=tuple(dict.fromkeys(cell for some in cells for cell in some)),
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


_Index = dict[tuple[str, str, str, str], list["Cell"]]


def _index(cells: Iterable[Cell]) -> _Index:
    index: _Index = {}
    for cell in cells:
        # a contract reading proves the adapter, not the kernel: it is kept to explain, and never has passed cells
        name = cell.backend.removesuffix("[contract]")
        index.setdefault((name, unsharded(cell.model), cell.layer_kind, cell.mode), []).append(cell)
    return index


def _lack(wanted: RequiredCell, index: _Index) -> Unmet | None:
    found = index.get((wanted.backend, wanted.model, wanted.layer_kind, wanted.mode), [])
    real = [cell for cell in found if cell.backend == wanted.backend]
    passed = sum(cell.passed for cell in real)
    broken = sum(cell.broken for cell in real)
    features = {feature for cell in real for feature in cell.features}
    blind = [feature for feature in wanted.effective if feature not in features]
    if broken:
        lack = f"{broken} of its layers failed"
    elif passed < wanted.executed:
        lack = f"{passed} layers passed, {wanted.executed} needed{_why(found)}"
    elif blind:
        lack = f"{passed} layers passed, but none in which {' and '.join(blind)} mattered"
    else:
        return None
    return Unmet(
        kind="no_evidence", backend=wanted.backend, cell=wanted, sentence=f"{wanted.text} is not proven: {lack}"
    )


def _why(found: list[Cell]) -> str:
    contract = sum(cell.contract_only + (cell.passed if cell.backend.endswith("[contract]") else 0) for cell in found)
    if contract:
        return f" ({contract} by contract only, which proves no kernel)"
    reasons: dict[str, int] = {}
    for cell in found:
        for reason, count in cell.reasons.items():
            reasons[reason] = reasons.get(reason, 0) + count
    if not reasons:
        return "" if found else " (no case asked)"
    return f" ({max(sorted(reasons), key=reasons.__getitem__)})"
