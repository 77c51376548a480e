"""Policy: which backend a model family gets on which platform, what that needs, and what must be proven for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from attnconf.errors import InvalidInputError
from attnconf.fields import quote
from attnconf.policy.conditions import Condition, Situation
from attnconf.policy.question import Side
from attnconf.policy.requirements import Name, Names, RequiredCell, Requirement, Sentence, merged
from attnconf.policy.waivers import Claim, Waiver
from attnconf.values import Value, digest, parse_toml, read_text
from attnconf_fixtures import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable

_FOLDER = ROOT / "policies"


class Provenance(Value):
    """Where the rule was read: the engine, its version, and the file inside it."""

    engine: str
    version: str
    file: str


class Choice(Value):
    """The two backends that a rule gives."""

    prefill: Name
    decode: Name

    @property
    def backends(self) -> tuple[str, ...]:
        """Its backends, each once."""
        return tuple(dict.fromkeys((self.prefill, self.decode)))


class Rule(Situation):
    """In a situation that it takes, the ``architectures`` get ``backend``, or ``prefill`` and ``decode``, or a refusal.

    ``refuse`` is the reason, for what the engine does not start on.
    """

    name: Name
    architectures: Names
    backend: Name | None = None
    prefill: Name | None = None
    decode: Name | None = None
    refuse: Sentence | None = None

    @model_validator(mode="after")
    def _check_answer(self) -> Self:
        given = tuple(name for name in ("backend", "prefill", "decode", "refuse") if getattr(self, name) is not None)
        if given not in {("backend",), ("prefill", "decode"), ("refuse",)}:
            message = f"either backend, or prefill and decode, or refuse, not {' and '.join(given) or 'none of them'}"
            raise ValueError(message)
        return self

    @property
    def choice(self) -> Choice | None:
        """What the rule gives, None if it refuses."""
        prefill, decode = self.prefill or self.backend, self.decode or self.backend
        return None if prefill is None or decode is None else Choice(prefill=prefill, decode=decode)


class Refusal(Situation):
    """What the engine does not start with, whoever chose it: one of ``backends`` on one of the ``sides``.

    ``other_than`` is the opposite: any backend but these. With neither it refuses every choice. It holds for the
    ``architectures`` that it names, or for all.
    """

    name: Name
    architectures: tuple[Name, ...] = ()
    backends: tuple[Name, ...] = ()
    other_than: tuple[Name, ...] = ()
    sides: Annotated[tuple[Side, ...], Field(min_length=1)] = ("prefill", "decode")
    reason: Sentence

    @model_validator(mode="after")
    def _check_backends(self) -> Self:
        if self.backends and self.other_than:
            raise ValueError("either backends or other_than, not both")
        return self

    def concerns(self, architecture: str, choice: Choice) -> bool:
        """Whether ``choice`` for ``architecture`` puts one of the backends on one of the sides."""
        if self.architectures and architecture not in self.architectures:
            return False
        chosen = {getattr(choice, side) for side in self.sides}
        if self.other_than:
            return not chosen <= set(self.other_than)
        return not self.backends or not chosen.isdisjoint(self.backends)


class Policy(Value):
    """A policy file. For each architecture the first rule that takes a question decides; see ``resolution.py``.

    ``backends`` says of each backend that a rule names what it needs: a demand on its user, not a condition of the
    rule, since an engine may choose a backend without looking. ``refusals`` hold for every choice, the user's too.
    ``required`` says what must be proven, ``waivers`` what need not be for a while, and ``claims`` what is asserted of
    speed. With ``strict`` a waiver that is not needed, expired or matches nothing fails the run.
    """

    schema_id: Literal["attnconf.policy/1"] = Field(alias="schema")
    name: Name
    description: str = ""
    strict: bool = True
    provenance: Provenance
    backends: dict[Name, Condition]
    rules: Annotated[tuple[Rule, ...], Field(min_length=1, max_length=200)]
    refusals: Annotated[tuple[Refusal, ...], Field(max_length=200)] = ()
    required: tuple[Requirement, ...] = ()
    waivers: tuple[Waiver, ...] = ()
    claims: tuple[Claim, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        _refuse_twins("rules", (rule.name for rule in self.rules))
        _refuse_twins("refusals", (refusal.name for refusal in self.refusals))
        for rule in self.rules:
            strange = [name for name in (rule.choice.backends if rule.choice else ()) if name not in self.backends]
            if strange:
                raise ValueError(f"rule {rule.name}: a backend of the table backends, not {strange[0]}")
        names = {rule.name: rule for rule in self.rules}
        for required in self.required:
            _refuse_strangers("required: architectures that a rule names", required.architectures, self.architectures)
            _refuse_strangers("required: rules of this policy", required.rules, names)
        for refusal in self.refusals:
            _refuse_strangers("refusals: architectures that a rule names", refusal.architectures, self.architectures)
        for claim in self.claims:
            _refuse_strangers("claims: a rule of this policy", (claim.rule,), names)
            choice = names[claim.rule].choice
            if choice is None or claim.baseline in choice.backends:
                message = f"claims: a baseline that rule {claim.rule} does not choose itself, not {claim.baseline}"
                raise ValueError(message)
        return self

    @property
    def architectures(self) -> tuple[str, ...]:
        """Every architecture that a rule names, in order of appearance."""
        return tuple(dict.fromkeys(name for rule in self.rules for name in rule.architectures))

    def rules_of(self, architecture: str) -> tuple[Rule, ...]:
        """Return the rules of one architecture, in their order."""
        return tuple(rule for rule in self.rules if architecture in rule.architectures)

    def required_cells(self, architecture: str, rule: str | None, choice: Choice) -> tuple[RequiredCell, ...]:
        """Return the cells that ``choice`` must have proven for an architecture under ``rule``, each once."""
        blocks = [
            block
            for block in self.required
            if architecture in block.architectures and (not block.rules or rule in block.rules)
        ]
        return merged(cell for block in blocks for cell in block.cells(prefill=choice.prefill, decode=choice.decode))

    @property
    def all_required(self) -> tuple[RequiredCell, ...]:
        """The cells that the choices of all rules must have proven, on whatever platform, each once."""
        pairs = [(rule, rule.choice, name) for rule in self.rules for name in rule.architectures]
        return merged(
            cell
            for rule, choice, architecture in pairs
            if choice is not None
            for cell in self.required_cells(architecture, rule.name, choice)
        )


def _refuse_twins(what: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{what} of distinct names, but two are called {name}")
        seen.add(name)


def _refuse_strangers(what: str, names: Iterable[str], known: Iterable[str]) -> None:
    stranger = next((name for name in names if name not in known), None)
    if stranger is not None:
        raise ValueError(f"{what}, not {stranger}")


def shipped_policies() -> tuple[str, ...]:
    """Return the names of the policies that attnconf ships, sorted."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


def load_policy(name_or_path: str) -> Policy:
    """Return a policy by its shipped name, or read it from a TOML file. Raises ``InvalidInputError``."""
    return read_policy(policy_path(name_or_path))


def policy_path(name_or_path: str) -> Path:
    """Return the file of a policy by its shipped name or its path. Raises ``InvalidInputError``."""
    if name_or_path in shipped_policies():
        return _FOLDER / f"{name_or_path}.toml"
    if not name_or_path.endswith(".toml"):
        allowed = f"a path to a .toml file, or one of {', '.join(shipped_policies())}"
        raise InvalidInputError("policy", given=quote(name_or_path), allowed=allowed)
    return Path(name_or_path)


def read_policy(path: Path) -> Policy:
    """Read the policy file ``path``. Raises ``InvalidInputError`` for anything that is not one."""
    return parse_policy(read_text(path), str(path))


def parse_policy(text: str, source: str) -> Policy:
    """Read a policy from the ``text`` of ``source``. Raises ``InvalidInputError`` for anything that is not one."""
    return Policy.from_data(parse_toml(text, source), source)


def policy_digest(policy: Policy) -> str:
    """Return the SHA-256 of the policy's canonical content; comments and written-out defaults do not change it."""
    return digest(policy.to_data())
