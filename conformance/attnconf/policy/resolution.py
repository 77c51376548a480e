"""Resolution: the single answer of a policy to a question, a choice or a stated refusal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from attnconf.platforms import platform_text
from attnconf.policy.axes import settings_text
from attnconf.policy.conditions import Floor
from attnconf.policy.policy import Choice
from attnconf.policy.question import Question, UserChoice
from attnconf.policy.reach import reachable
from attnconf.policy.requirements import RequiredCell
from attnconf.values import Value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from attnconf.platforms import Platform
    from attnconf.policy.conditions import Condition
    from attnconf.policy.policy import Policy, Rule


class BackendFloors(Value):
    """The needs of one chosen backend, compared with the platform."""

    backend: str
    floors: tuple[Floor, ...]


class Resolution(Value):
    """The answer for one architecture.

    ``rule`` names the rule that takes the question and ``default`` its backends in words, None without a rule or if it
    refuses. ``prefill`` and ``decode`` are the backends that will run, None if ``refusal`` says why there are none;
    ``stated``: a rule or refusal of the policy refuses, and it is not a hole. ``by`` says who decided: the rule, the
    user, or both when the user named one side and the default filled the other. ``settings`` are the question's
    settings besides the platform, in words. ``required`` are the cells that must be proven, each with its ``id``.
    """

    policy: str
    architecture: str
    platform: str
    settings: str = ""
    by: Literal["rule", "user", "both", "refused"]
    rule: str | None
    default: str | None
    prefill: str | None = None
    decode: str | None = None
    needs: tuple[BackendFloors, ...] = ()
    required: tuple[RequiredCell, ...] = ()
    refusal: str = ""
    stated: bool = False

    @property
    def backend(self) -> str:
        """The backend in words: one name, or the two sides; empty for a refusal."""
        return "" if self.prefill is None or self.decode is None else _in_words(self.prefill, self.decode)

    @property
    def backends(self) -> tuple[str, ...]:
        """The chosen backends, each once; none for a refusal."""
        return tuple(dict.fromkeys(name for name in (self.prefill, self.decode) if name is not None))

    @property
    def unmet_floors(self) -> tuple[tuple[str, Floor], ...]:
        """The needs that the platform does not meet, each with its backend."""
        return tuple((one.backend, floor) for one in self.needs for floor in one.floors if not floor.met)

    @property
    def sentence(self) -> str:
        """The answer in words, and who decided."""
        subject = f"{self.architecture} on {self.platform}" + (f", {self.settings}" if self.settings else "")
        if self.by == "refused":
            return f"{subject}: refused, {self.refusal}"
        reason = {
            "rule": f"rule {self.rule}",
            "user": "the user's choice",
            "both": f"the user's choice, the other side filled by rule {self.rule}",
        }[self.by]
        return f"{subject}: {self.backend}, by {reason}"


def resolve(policy: Policy, question: Question) -> Resolution:
    """Return the policy's answer to ``question``: always exactly one choice or one refusal.

    The first rule that takes the question gives the default, or refuses. The user's backend replaces the default on
    each side for which the user named one. Then the first refusal that takes the question and concerns one of the two
    backends overrules everything.
    """
    rule = next((rule for rule in policy.rules_of(question.architecture) if rule.takes(question)), None)
    default = None if rule is None else rule.choice
    user = question.user
    prefill = user.of("prefill") or (default.prefill if default else None)
    decode = user.of("decode") or (default.decode if default else None)
    answer = Resolution(
        policy=policy.name,
        architecture=question.architecture,
        platform=platform_text(question.platform),
        settings=settings_text(question),
        by="refused",
        rule=None if rule is None else rule.name,
        default=None if default is None else _in_words(default.prefill, default.decode),
    )
    if prefill is None or decode is None:
        return answer.model_copy(update={"refusal": _no_choice(policy, question, rule), "stated": rule is not None})
    choice = Choice(prefill=prefill, decode=decode)
    refused = next(
        (one for one in policy.refusals if one.concerns(question.architecture, choice) and one.takes(question)), None
    )
    if refused is not None:
        reason = f"{_in_words(prefill, decode)}: {refused.reason} ({refused.name})"
        return answer.model_copy(update={"refusal": reason, "stated": True})
    by: dict[str, Literal["rule", "user", "both"]] = {"none": "rule", "both": "user", "split": "user"}
    return answer.model_copy(
        update={
            "by": by.get(user.named, "both"),
            "prefill": prefill,
            "decode": decode,
            "needs": tuple(_floors(policy, name, question.platform) for name in choice.backends),
            "required": policy.required_cells(question.architecture, answer.rule, choice),
        }
    )


def resolve_all(
    policy: Policy, platform: Platform, user_choice: UserChoice | str | None = None
) -> tuple[Resolution, ...]:
    """Resolve every architecture of the policy for every setting on which the answer depends.

    The default settings come first. Each further answer appears once, for the first setting that leads to it.
    """
    user = UserChoice(attention=user_choice) if isinstance(user_choice, str) else user_choice or UserChoice()
    return tuple(one for name in policy.architectures for one in _distinct(policy, name, platform, user))


def _distinct(policy: Policy, architecture: str, platform: Platform, user: UserChoice) -> Iterator[Resolution]:
    seen = set()
    conditions: tuple[Condition, ...] = (*policy.rules_of(architecture), *policy.refusals)
    start = Question(architecture=architecture, platform=platform, user=user)
    for question in reachable(conditions, start).values():
        resolution = resolve(policy, question)
        answer = resolution.model_copy(update={"settings": ""})
        if answer not in seen:
            seen.add(answer)
            yield resolution


def _floors(policy: Policy, backend: str, platform: Platform) -> BackendFloors:
    needs = policy.backends.get(backend)
    return BackendFloors(backend=backend, floors=() if needs is None else needs.floors(platform))


def _in_words(prefill: str, decode: str) -> str:
    return prefill if prefill == decode else f"{prefill} (prefill) and {decode} (decode)"


def _no_choice(policy: Policy, question: Question, rule: Rule | None) -> str:
    if rule is not None:
        return f"{rule.refuse} (rule {rule.name})"
    if question.architecture not in policy.architectures:
        return f"no rule of {policy.name} names it, only {', '.join(policy.architectures)}"
    return f"no rule of {policy.name} for it holds on this platform"
