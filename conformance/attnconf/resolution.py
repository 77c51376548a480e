"""Resolution: the one backend that a policy gives an architecture on a platform, or the stated refusal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from attnconf.canonical import Value
from attnconf.conditions import Condition, Floor
from attnconf.policy import RequiredCell

if TYPE_CHECKING:
    from attnconf.platforms import Platform
    from attnconf.policy import Policy


class UserChoice(Value):
    """What the user named: ``attention`` for both sides, ``prefill`` and ``decode`` for one; None for nothing."""

    attention: str | None = None
    prefill: str | None = None
    decode: str | None = None


class BackendFloors(Value):
    """What one chosen backend needs, compared with the platform."""

    backend: str
    floors: tuple[Floor, ...]


class Resolution(Value):
    """What an architecture gets.

    ``rule`` is the one that holds here and ``default`` its backend, None when no rule holds. ``prefill`` and ``decode``
    are what will run, None when ``refusal`` says why there is no answer. ``by`` says who decided: the rule, the user,
    or both when the user named one side and the default filled the other.
    """

    policy: str
    architecture: str
    platform: str
    by: Literal["rule", "user", "both", "refused"]
    rule: str | None
    default: str | None
    prefill: str | None = None
    decode: str | None = None
    needs: tuple[BackendFloors, ...] = ()
    required: tuple[RequiredCell, ...] = ()
    refusal: str = ""

    @property
    def backend(self) -> str:
        """The backend in words: one name, or the two sides; empty for a refusal."""
        if self.prefill is None or self.decode is None:
            return ""
        return self.prefill if self.prefill == self.decode else f"{self.prefill} (prefill) and {self.decode} (decode)"

    @property
    def unmet_floors(self) -> tuple[tuple[str, Floor], ...]:
        """Each backend's needs that the platform does not meet."""
        return tuple((one.backend, floor) for one in self.needs for floor in one.floors if not floor.met)

    @property
    def sentence(self) -> str:
        """Say what the architecture gets and who decided."""
        if self.by == "refused":
            return f"{self.architecture} on {self.platform}: refused, {self.refusal}"
        reason = {
            "rule": f"rule {self.rule}",
            "user": "the user's choice",
            "both": f"the user's choice, the other side filled by rule {self.rule}",
        }[self.by]
        return f"{self.architecture} on {self.platform}: {self.backend}, by {reason}"


def resolve(
    policy: Policy, architecture: str, platform: Platform, user_choice: UserChoice | str | None = None
) -> Resolution:
    """Return what ``architecture`` gets on ``platform``: always exactly one answer or one stated refusal.

    The first rule that holds gives the default. A user's backend is respected, on each side; the side that the user
    left open gets the default.
    """
    user = UserChoice(attention=user_choice) if isinstance(user_choice, str) else user_choice or UserChoice()
    rule = next((rule for rule in policy.rules_of(architecture) if rule.holds(platform)), None)
    default = None if rule is None else rule.backend
    chosen = {"prefill": user.prefill or user.attention, "decode": user.decode or user.attention}
    sides = {side: name or default for side, name in chosen.items()}
    prefill, decode = sides["prefill"], sides["decode"]
    answer = Resolution(
        policy=policy.name,
        architecture=architecture,
        platform=platform_text(platform),
        by="refused",
        rule=None if rule is None else rule.name,
        default=default,
        refusal=_refusal(policy, architecture),
    )
    if prefill is None or decode is None:
        return answer
    named = [name is not None for name in chosen.values()]
    return answer.model_copy(
        update={
            "by": "user" if all(named) else "both" if any(named) else "rule",
            "refusal": "",
            "prefill": prefill,
            "decode": decode,
            "needs": tuple(_floors(policy, name, platform) for name in dict.fromkeys((prefill, decode))),
            "required": policy.required_cells(architecture, prefill=prefill, decode=decode),
        }
    )


def resolve_all(
    policy: Policy, platform: Platform, user_choice: UserChoice | str | None = None
) -> tuple[Resolution, ...]:
    """Resolve every architecture of the policy."""
    return tuple(resolve(policy, name, platform, user_choice) for name in policy.architectures)


def platform_text(platform: Platform) -> str:
    """Return the platform in words: ``SM 10.0 with CUDA 13.0``, ``no GPU``."""
    if platform.sm is None:
        return "no GPU"
    cuda = f" with CUDA {platform.cuda}" if platform.cuda else ""
    return f"SM {platform.sm_text}{cuda}{' (simulated)' if platform.simulated else ''}"


def _floors(policy: Policy, backend: str, platform: Platform) -> BackendFloors:
    needs = policy.backends.get(backend, Condition())
    return BackendFloors(backend=backend, floors=needs.floors(platform))


def _refusal(policy: Policy, architecture: str) -> str:
    if architecture not in policy.architectures:
        return f"no rule of {policy.name} names it, only {', '.join(policy.architectures)}"
    return f"no rule of {policy.name} for it holds on this platform"
