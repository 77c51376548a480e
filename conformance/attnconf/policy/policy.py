"""Policy: the backend for each architecture and platform, its needs, and what must be proven for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic.json_schema import SkipJsonSchema  # noqa: TC002 - pydantic evaluates it

from attnconf.cases.geometry import ModelGeometry
from attnconf.errors import InvalidInputError
from attnconf.fields import quote
from attnconf.files import read_text
from attnconf.policy.claims import Claim
from attnconf.policy.conditions import Condition, PackageName, Situation
from attnconf.policy.own_models import with_own_models
from attnconf.policy.question import Side
from attnconf.policy.ranges import UNSET, whole_in, whole_samples
from attnconf.policy.requirements import MOST, Name, Names, RequiredCell, Requirement, Sentence, merged
from attnconf.policy.waivers import Waiver
from attnconf.values import Value, digest, parse_toml
from attnconf_fixtures import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST_CELLS = 50_000
"""The most cells that a policy may require, every combination of every requirement counted."""

_FOLDER = ROOT / "policies"


class Needs(Condition):
    """What a backend needs of its platform, and the installed distribution that must provide it, if one is named.

    ``provider`` is its name, such as ``attnconf``: what a conftest or another package registers is then no evidence.
    """

    provider: PackageName | None = None


class Provenance(Value):
    """The source of the rules: the engine, its version, and the file inside it."""

    engine: str
    version: str
    file: str


class Choice(Value):
    """The two backends of a rule."""

    prefill: Name
    decode: Name

    @property
    def backends(self) -> tuple[str, ...]:
        """Its backends, each once."""
        return tuple(dict.fromkeys((self.prefill, self.decode)))


class Rule(Situation):
    """The answer for ``architectures`` in a situation: ``backend``, or ``prefill`` and ``decode``, or a refusal.

    ``refuse`` is the reason why the engine does not start. ``unproven`` is why a choice for the masks of images, or for
    trees of drafts, stands although nothing proves it: without that reason, its required cells of layers that follow
    spans must show these, and those of verify steps trees.
    """

    name: Name
    architectures: Names
    backend: Name | None = None
    prefill: Name | None = None
    decode: Name | None = None
    refuse: Sentence | None = None
    unproven: Sentence | None = None

    @model_validator(mode="after")
    def _check_answer(self) -> Self:
        given = tuple(name for name in ("backend", "prefill", "decode", "refuse") if getattr(self, name) is not None)
        if given not in {("backend",), ("prefill", "decode"), ("refuse",)}:
            message = f"either backend, or prefill and decode, or refuse, not {' and '.join(given) or 'none of them'}"
            raise ValueError(message)
        return self

    @property
    def takes_images(self) -> bool:
        """Whether it chooses a backend for the masks of images."""
        return "images" in self.mask and self.refuse is None

    @property
    def takes_trees(self) -> bool:
        """Whether it chooses a backend for draft trees that are wider than a chain."""
        ranges = [one for one in self.topk if one != UNSET]
        widths = [width for width in whole_samples(ranges, 2) if width is not None and width > 1]
        return self.refuse is None and any(whole_in(one, width) for one in ranges for width in widths)

    @property
    def takes_chains(self) -> bool:
        """Whether it says of chains of drafts, or of no drafts, that it takes them, too."""
        return any(one == UNSET or whole_in(one, 1) for one in self.topk)

    @property
    def choice(self) -> Choice | None:
        """The backends that the rule chooses, None if it refuses."""
        prefill, decode = self.prefill or self.backend, self.decode or self.backend
        return None if prefill is None or decode is None else Choice(prefill=prefill, decode=decode)


class Refusal(Situation):
    """A situation in which the engine does not start with one of ``backends`` on one of the ``sides``.

    It does not matter whether a rule or the user chose the backend. ``other_than`` is the opposite: any backend but
    these. Without both every choice is refused. It holds for its ``architectures``, or for all without any.
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

    ``backends`` has the needs of each backend that a rule names. They are demands on the user and not conditions of a
    rule, since an engine may choose a backend without checking them. Others may be named, such as an engine's own.
    ``refusals`` apply to every choice, also to the user's. ``required`` lists what must be proven, ``waivers`` what
    need not be proven for a while, and ``claims`` assertions about speed. ``own_models`` are the geometries of the
    paths in ``models``, which reading fills in. With ``strict`` the run fails for a waiver that is not needed, has
    expired or matches nothing.
    """

    schema_id: Literal["attnconf.policy/1"] = Field(alias="schema")
    name: Name
    description: str = ""
    strict: bool = True
    provenance: Provenance
    backends: dict[Name, Needs]
    rules: Annotated[tuple[Rule, ...], Field(min_length=1, max_length=MOST)]
    refusals: Annotated[tuple[Refusal, ...], Field(max_length=MOST)] = ()
    required: Annotated[tuple[Requirement, ...], Field(max_length=MOST)] = ()
    waivers: Annotated[tuple[Waiver, ...], Field(max_length=MOST)] = ()
    claims: Annotated[tuple[Claim, ...], Field(max_length=MOST)] = ()
    own_models: SkipJsonSchema[dict[Name, ModelGeometry]] = Field(default_factory=dict, max_length=MOST)

    @model_validator(mode="after")
    def _check(self) -> Self:
        _refuse_twins("rules", (rule.name for rule in self.rules))
        _refuse_twins("refusals", (refusal.name for refusal in self.refusals))
        for rule in self.rules:
            strange = [name for name in (rule.choice.backends if rule.choice else ()) if name not in self.backends]
            if strange:
                message = f"rule {rule.name}: a backend of the table backends, not {strange[0]}"
                raise ValueError(message)
        _refuse_more("architectures", len(self.architectures), MOST)
        _refuse_more("required cells", sum(one.size for one in self.required), MOST_CELLS)
        names = {rule.name: rule for rule in self.rules}
        for required in self.required:
            _refuse_strangers("required: architectures that a rule names", required.architectures, self.architectures)
            _refuse_strangers("required: rules of this policy", required.rules, names)
        for refusal in self.refusals:
            _refuse_strangers("refusals: architectures that a rule names", refusal.architectures, self.architectures)
        for claim in self.claims:
            _refuse_strangers("claims: a rule of this policy", (claim.rule,), names)
            choice = names[claim.rule].choice
            if choice is None or claim.over in choice.backends:
                message = f"claims: over a backend that rule {claim.rule} does not choose itself, not {claim.over}"
                raise ValueError(message)
        return self

    @property
    def architectures(self) -> tuple[str, ...]:
        """All architectures of the rules, in order of appearance."""
        return tuple(dict.fromkeys(name for rule in self.rules for name in rule.architectures))

    def rules_of(self, architecture: str) -> tuple[Rule, ...]:
        """Return the rules of one architecture, in their order."""
        return tuple(rule for rule in self.rules if architecture in rule.architectures)

    def required_cells(self, architecture: str, rule: str | None, choice: Choice) -> tuple[RequiredCell, ...]:
        """Return the cells that must be proven for ``choice`` and an architecture under ``rule``, each once."""
        blocks = [
            block
            for block in self.required
            if architecture in block.architectures and (not block.rules or rule in block.rules)
        ]
        cells = merged(cell for block in blocks for cell in block.cells(prefill=choice.prefill, decode=choice.decode))
        proving = [one for one in self.rules if one.name == rule and one.unproven is None]
        if any(one.takes_images for one in proving):
            cells = tuple(cell.with_spans() for cell in cells)
        return tuple(cell.with_trees() for cell in cells) if any(one.takes_trees for one in proving) else cells

    def provider_of(self, backend: str) -> str:
        """Return the distribution that must provide ``backend``, empty if anybody may."""
        needs = self.backends.get(backend)
        return (needs.provider or "") if needs is not None else ""

    @property
    def all_required(self) -> tuple[RequiredCell, ...]:
        """The cells that must be proven for the choices of all rules, on any platform, each once."""
        pairs = [(rule, rule.choice, name) for rule in self.rules for name in rule.architectures]
        return merged(
            cell
            for rule, choice, architecture in pairs
            if choice is not None
            for cell in self.required_cells(architecture, rule.name, choice)
        )


def _refuse_more(what: str, count: int, most: int) -> None:
    if count > most:
        message = f"at most {most} {what}, and it has {count}"
        raise ValueError(message)


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
    data = with_own_models(parse_toml(text, source), source, Path(source).parent)
    return Policy.from_data(data, source)


def policy_digest(policy: Policy) -> str:
    """Return the SHA-256 of the policy's canonical content. Comments and explicit defaults do not change it."""
    return digest(policy.to_data())
