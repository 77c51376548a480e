"""Proof: which required cells the evidence of a run proves, and what each of the others lacks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from attnconf.cases.geometry import unsharded
from attnconf.wording import counted

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Mapping, Sequence

    from attnconf.gate.cells import Cell
    from attnconf.gate.provider import Provider
    from attnconf.policy.policy import Policy
    from attnconf.policy.requirements import RequiredCell

Providers: TypeAlias = "Mapping[str, Sequence[Provider]]"
"""By the name of a backend who provided it: several, where receipts of several runs are judged together."""

_Index: TypeAlias = dict[tuple[str, str, str, str], list["Cell"]]


@dataclass(frozen=True, kw_only=True)
class Proof:
    """Each required cell is in one of four fields; beside it stands what it lacks or what excuses it.

    ``needless`` are sentences on the waived cells that are proven all the same.
    """

    proven: tuple[RequiredCell, ...]
    unmet: tuple[tuple[RequiredCell, str], ...]
    waived: tuple[tuple[RequiredCell, str], ...]
    unsupported: tuple[tuple[RequiredCell, str], ...]
    needless: tuple[str, ...]


def prove(
    policy: Policy, wanted: Iterable[RequiredCell], cells: Iterable[Cell], today: dt.date, providers: Providers
) -> Proof:
    """Compare the evidence ``cells`` with each required cell, under the waivers that have not expired ``today``.

    ``providers`` are those of the backends, for a policy that demands one.
    """
    index = _index(cells)
    valid = [waiver for waiver in policy.waivers if not waiver.is_expired(today)]
    proven, needless = [], []
    unmet: list[tuple[RequiredCell, str]] = []
    waived: list[tuple[RequiredCell, str]] = []
    unsupported: list[tuple[RequiredCell, str]] = []
    for cell in wanted:
        found = index.get((cell.backend, cell.model, cell.layer_kind, cell.mode), [])
        found = [one for one in found if cell.dtypes in {"any", one.dtypes.text}]
        lack = _strange(cell, found, policy, providers) or _lack(cell, found)
        waiver = next((waiver for waiver in valid if waiver.has(cell)), None)
        if not lack:
            proven.append(cell)
            if waiver is not None:
                needless.append(f"{cell.text} is proven, so {waiver.text} must no longer select it")
        elif cell.unsupported and _declines(found):
            unsupported.append((cell, f"{cell.text} is declared unsupported, as the policy allows: {cell.unsupported}"))
        elif waiver is not None:
            waived.append((cell, f"{cell.text} is not proven ({lack}), under {waiver.text}"))
        else:
            unmet.append((cell, lack))
    return Proof(
        proven=tuple(proven),
        unmet=tuple(unmet),
        waived=tuple(waived),
        unsupported=tuple(unsupported),
        needless=tuple(needless),
    )


def _index(cells: Iterable[Cell]) -> _Index:
    index: _Index = {}
    for cell in cells:
        # a contract reading proves the adapter, not the kernel: it is kept to explain what is not proven
        index.setdefault((cell.backend, unsharded(cell.model), cell.layer_kind, cell.mode), []).append(cell)
    return index


def _strange(wanted: RequiredCell, found: Sequence[Cell], policy: Policy, providers: Providers) -> str:
    """Return why what ran is of another provider than the policy demands, empty if it is not, or if nothing ran."""
    demanded = policy.provider_of(wanted.backend)
    if not demanded or not any(cell.executed or cell.broken for cell in found):
        return ""
    given = providers.get(wanted.backend, ())
    strange = [one.name for one in given if not one.is_of(demanded)]
    if given and not strange:
        return ""
    by = " and ".join(dict.fromkeys(strange)) or "nobody knows whom"
    return f"it was provided by {by}, and the policy demands an entry point of {demanded}"


def _lack(wanted: RequiredCell, found: Sequence[Cell]) -> str:
    """Return what the evidence lacks, empty for a proven cell."""
    real = [cell for cell in found if cell.evidence == "kernel"]
    passed = sum(cell.passed for cell in real)
    broken = sum(cell.broken for cell in real)
    effects = {feature: sum(cell.effect_of(feature) for cell in real) for feature in wanted.effective}
    blind = [feature for feature, count in effects.items() if not count]
    few = [feature for feature, count in effects.items() if count < wanted.effective_cases]
    layers = counted(passed, "layer")
    if broken:
        return f"{broken} of its layers failed"
    if passed < wanted.executed:
        return f"{layers} passed, {wanted.executed} needed{_why(found)}"
    if blind:
        return f"{layers} passed, but none in which {' and '.join(blind)} mattered"
    if few:
        counts = " and ".join(f"{feature} mattered in {counted(effects[feature], 'layer')}" for feature in few)
        return f"{layers} passed, but {counts} only, {wanted.effective_cases} needed"
    vacuous = sum(cell.passed for cell in real if cell.is_vacuous)
    if passed - vacuous < wanted.executed:
        return f"{layers} passed, {wanted.executed} needed, but in {vacuous} of them no feature mattered"
    return ""


def _declines(found: Sequence[Cell]) -> bool:
    """Whether the backend itself declared all that it was asked of the cell unsupported."""
    real = [cell for cell in found if cell.evidence == "kernel"]
    executed = sum(cell.executed + cell.broken + cell.not_run for cell in real)
    return not executed and any(cell.unsupported for cell in real)


def _why(found: Sequence[Cell]) -> str:
    contract = sum(cell.contract_only for cell in found)
    if contract:
        return f" ({contract} by contract only, which proves no kernel)"
    reasons: dict[str, int] = {}
    for cell in found:
        for reason, count in cell.reasons.items():
            reasons[reason] = reasons.get(reason, 0) + count
    if not reasons:
        return "" if found else " (no case asked)"
    return f" ({max(sorted(reasons), key=reasons.__getitem__)})"
