"""Plan: which required cells a platform can execute, and which need another one; nothing is executed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attnconf.gate.listed import why_unlisted
from attnconf.gate.verdict import Elsewhere, elsewhere, unprovable
from attnconf.platforms import platform_text
from attnconf.policy.requirements import RequiredCell, grouped, merged
from attnconf.policy.resolution import Resolution, resolve_all
from attnconf.values import Value
from attnconf.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from attnconf.cases.drawing.profiles import Profile
    from attnconf.platforms import Platform
    from attnconf.policy.policy import Policy
    from attnconf.policy.question import UserChoice


class PlannedCell(Value):
    """A required cell of this platform; ``blocked`` says why it cannot run here, and is empty when it can.

    ``undrawn`` names the profile whose cases have too few layers of it, and is empty where they have enough.
    It can be executed ``nowhere`` where it is blocked because its kernel is in no list.
    """

    cell: RequiredCell
    blocked: str = ""
    undrawn: str = ""
    nowhere: bool = False


class Plan(Value):
    """What a policy asks of one platform, and of the others."""

    policy: str
    platform: str
    resolutions: tuple[Resolution, ...]
    here: tuple[PlannedCell, ...]
    elsewhere: tuple[Elsewhere, ...]
    unprovable: tuple[str, ...] = ()

    def to_data(self) -> dict[str, Any]:
        """Return plain JSON data with every field, and the sentences beside their values."""
        return {
            "policy": self.policy,
            "platform": self.platform,
            "resolutions": [{**one.model_dump(mode="json"), "sentence": one.sentence} for one in self.resolutions],
            "unprovable": list(self.unprovable),
            "here": [one.model_dump(mode="json") for one in self.here],
            "elsewhere": [{**one.model_dump(mode="json"), "sentence": one.sentence} for one in self.elsewhere],
        }

    @property
    def nowhere(self) -> tuple[str, ...]:
        """Sentences: what the policy requires, and no machine of this kind can execute."""
        return tuple(f"{one.cell.text} can be executed nowhere: {one.blocked}" for one in self.here if one.nowhere)

    @property
    def lines(self) -> list[str]:
        """The plan in lines of plain text."""
        runs = [one.cell for one in self.here if not one.blocked]
        lines = [f"policy {self.policy} on {self.platform}", ""]
        lines += [f"  {one.sentence}" for one in self.resolutions]
        lines += ["", f"{len(runs)} of {counted(len(self.here), 'required cell')} can run on this platform"]
        lines += [f"  {line}" for line in grouped(runs)]
        reasons = dict.fromkeys(one.blocked for one in self.here if one.blocked)
        for reason in reasons:
            blocked = [one.cell for one in self.here if one.blocked == reason]
            lines += ["", f"{len(blocked)} blocked here: {reason}", *(f"  {line}" for line in grouped(blocked))]
        missing = [one for one in self.here if one.undrawn and not one.blocked]
        for name in dict.fromkeys(one.undrawn for one in missing):
            cells = [one.cell for one in missing if one.undrawn == name]
            lines += ["", f"{len(cells)} not drawn by profile {name}, so its run alone cannot meet them; see --profile"]
            lines += [f"  {one.text}" for one in cells]
        if self.unprovable:
            lines += ["", "beyond all cases", *(f"  {one}" for one in self.unprovable)]
        if self.elsewhere:
            lines += ["", "on other platforms"]
            lines += [f"  {one.sentence}" for one in self.elsewhere]
        return lines


def plan(
    policy: Policy,
    platform: Platform,
    *,
    user_choice: UserChoice | str | None = None,
    backends: Mapping[str, str | None] | None = None,
    profile: Profile | None = None,
) -> Plan:
    """Return which required cells ``platform`` can execute, and which another one must.

    ``backends`` maps each registered backend to None when it works, as all are taken to do on a platform that is not
    this machine, or to the reason why not; without it any name is taken for one. With a ``profile`` each cell of which
    it draws too few layers says so.
    """
    resolutions = resolve_all(policy, platform, user_choice)
    blocked: dict[str, str] = {}
    for resolution in resolutions:
        for name, floor in resolution.unmet_floors:
            blocked.setdefault(name, f"{name} {floor.sentence}")
    wanted = merged(cell for resolution in resolutions for cell in resolution.required)
    if backends is not None:
        for name in {cell.backend: None for cell in wanted}:
            reason = backends.get(name, "no backend of that name is registered")
            if reason is not None:
                blocked.setdefault(name, f"{name} is unavailable: {reason}")
    missed = set() if profile is None else _missed(wanted, profile, platform)
    unlisted = {cell.id: why_unlisted(cell, platform) for cell in wanted}
    return Plan(
        policy=policy.name,
        platform=platform_text(platform),
        resolutions=resolutions,
        here=tuple(
            PlannedCell(
                cell=cell,
                blocked=unlisted[cell.id] or blocked.get(cell.backend, ""),
                nowhere=bool(unlisted[cell.id]),
                undrawn=profile.name if profile is not None and cell.id in missed else "",
            )
            for cell in wanted
        ),
        elsewhere=elsewhere(policy, resolutions),
        unprovable=unprovable(policy, resolutions),
    )


def _missed(wanted: Iterable[RequiredCell], profile: Profile, platform: Platform) -> set[str]:
    from attnconf.gate.plans.undrawn import undrawn  # it draws, with torch: a plan without a profile needs none

    return {cell.id for cell in undrawn(wanted, profile, accelerated=platform.sm is not None)}
