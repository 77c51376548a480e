"""Touched: which required cells a change of policy, versions or kernels concerns. In doubt, all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from attnconf.errors import InvalidInputError
from attnconf.gate.plans.fleet import Fleet, parse_fleet
from attnconf.policy.policy import Policy, parse_policy
from attnconf.policy.requirements import merged
from attnconf.policy.resolution import resolve_all

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from attnconf.gate.plans.fleet import Runner
    from attnconf.gate.plans.repository import Repository
    from attnconf.policy.requirements import RequiredCell

_File = TypeVar("_File", Policy, Fleet)


@dataclass(frozen=True)
class Base:
    """What a change starts from: the ``commit``, policy and fleet as they were there, and the files changed since.

    A policy or fleet that was not there, or cannot be read any more, is None, and then everything is touched. Changes
    of the two files themselves are held against what they mean, so they are not among ``changed``.
    """

    commit: str
    policy: Policy | None
    fleet: Fleet | None
    changed: tuple[str, ...]


def base_of(repository: Repository, revision: str, policy: Path, fleet: Path) -> Base:
    """Return the base ``revision`` of a change of ``repository``. Raises ``InvalidInputError`` if there is none."""
    commit = repository.commit(revision)
    files = {repository.name_of(policy), repository.name_of(fleet)}
    return Base(
        commit=commit,
        policy=_if_valid(parse_policy, repository.text_at(commit, policy)),
        fleet=_if_valid(parse_fleet, repository.text_at(commit, fleet)),
        changed=tuple(path for path in repository.changed_since(commit) if path not in files),
    )


def _if_valid(parse: Callable[[str, str], _File], text: str | None) -> _File | None:
    try:
        return None if text is None else parse(text, "base")
    except InvalidInputError:
        return None


def touched(
    policy: Policy, fleet: Fleet, runner: Runner, cells: Sequence[RequiredCell], base: Base
) -> tuple[tuple[RequiredCell, ...], list[str]]:
    """Return which of the ``cells`` of ``runner`` the change since ``base`` touches, and why, in sentences."""
    whole = _why_all(fleet, runner, base)
    if whole or base.policy is None or base.fleet is None:
        return tuple(cells), whole
    before = {
        cell.id: cell
        for cell in merged(
            cell for one in resolve_all(base.policy, base.fleet.platform(runner)) for cell in one.required
        )
    }
    waivers = [one for one in policy.waivers if one not in base.policy.waivers]
    waivers += [one for one in base.policy.waivers if one not in policy.waivers]
    built = {name: path for path in base.changed for name in fleet.backends_of(path) or ()}
    found, reasons = [], []
    for cell in cells:
        if cell.backend in built:
            why = f"{built[cell.backend]} is part of the kernels of {cell.backend}"
        elif before.get(cell.id) != cell:
            why = f"the policy newly asks for {cell.backend} on {runner.name}"
        elif any(waiver.has(cell) for waiver in waivers):
            why = f"a waiver of {cell.backend} has changed"
        else:
            continue
        found.append(cell)
        reasons.append(why)
    return tuple(found), reasons


def _why_all(fleet: Fleet, runner: Runner, base: Base) -> list[str]:
    """Return why every cell of ``runner`` is touched, nothing if not every one is."""
    if base.policy is None:
        return ["the policy was not there, or not valid"]
    if base.fleet is None:
        return ["the fleet file was not there, or not valid"]
    before = base.fleet.by_name.get(runner.name)
    if before is None:
        return [f"runner {runner.name} is new"]
    if base.fleet.platform(before) != fleet.platform(runner):
        return [f"runner {runner.name} has another GPU or other versions"]
    unknown = [path for path in base.changed if fleet.backends_of(path) is None]
    if unknown:
        return [f"{unknown[0]} is neither among the fleet's kernels nor harmless"]
    # what the change itself calls harmless was not judged so before it
    moved = [path for path in base.changed if base.fleet.backends_of(path) != fleet.backends_of(path)]
    return [f"the fleet file newly says what {moved[0]} concerns"] if moved else []
