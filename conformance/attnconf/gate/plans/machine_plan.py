"""Plan: which required cells a platform can execute, and which need another one; nothing is executed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attnconf.gate.verdict import Elsewhere, elsewhere
from attnconf.platforms import platform_text
from attnconf.policy.requirements import RequiredCell, grouped, merged
from attnconf.policy.resolution import Resolution, resolve_all
from attnconf.values import Value
from attnconf.wording import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from attnconf.platforms import Platform
    from attnconf.policy.policy import Policy
    from attnconf.policy.question import UserChoice


class PlannedCell(Value):
    """A required cell of this platform; ``blocked`` says why it cannot run here, and is empty when it can."""

    cell: RequiredCell
    blocked: str = ""


class Plan(Value):
    """What a policy asks of one platform, and of the others."""

    policy: str
    platform: str
    resolutions: tuple[Resolution, ...]
    here: tuple[PlannedCell, ...]
    elsewhere: tuple[Elsewhere, ...]

    def to_data(self) -> dict[str, Any]:
        """Return plain JSON data with every field, and the sentences beside their values."""
        return {
            "policy": self.policy,
            "platform": self.platform,
            "resolutions": [{**one.model_dump(mode="json"), "sentence": one.sentence} for one in self.resolutions],
            "here": [one.model_dump(mode="json") for one in self.here],
            "elsewhere": [{**one.model_dump(mode="json"), "sentence": one.sentence} for one in self.elsewhere],
        }

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
) -> Plan:
    """Return which required cells ``platform`` can execute, and which another one must.

    ``backends`` maps each registered backend to None when it works, or to the reason why not; without it every
    backend is taken to work, as for a platform that is not this machine.
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
    return Plan(
        policy=policy.name,
        platform=platform_text(platform),
        resolutions=resolutions,
        here=tuple(PlannedCell(cell=cell, blocked=blocked.get(cell.backend, "")) for cell in wanted),
        elsewhere=elsewhere(policy, resolutions),
    )
