"""Policy: which backend a model family gets on which platform, what that needs, and what must be proven for it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from attnconf.canonical import Value, digest, read_text
from attnconf.case import Mode
from attnconf.cells import CellKind
from attnconf.conditions import Condition
from attnconf.errors import InvalidInputError
from attnconf.json_fields import quote
from attnconf.models import load_model, shipped_models
from attnconf_fixtures import ROOT

Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[\w.@-]+$")]
Names = Annotated[tuple[Name, ...], Field(min_length=1)]
Feature = Annotated[str, Field(pattern=r"^[a-z_]+$")]

_FOLDER = ROOT / "policies"


class Provenance(Value):
    """Where the rule was read: the engine, its version, and the file inside it."""

    engine: str
    version: str
    file: str


class Rule(Condition):
    """On a platform that fulfils the condition, the ``architectures`` get ``backend``."""

    name: Name
    architectures: Names
    backend: Name


class RequiredCell(Value):
    """One cell that must be proven: at least ``executed`` passed layers, with the ``effective`` features."""

    backend: str
    model: str
    layer_kind: CellKind
    mode: Mode
    executed: int
    effective: tuple[str, ...]

    @property
    def text(self) -> str:
        """The cell in words."""
        return f"{self.backend} {self.model} {self.layer_kind} {self.mode}"


class Required(Value):
    """The cells that the backend of these ``architectures`` must have proven, whichever backend it is.

    Every model in every mode, for those of the ``layer_kinds`` that the model has, on any shard of it. At least
    ``executed`` layers of a cell must have passed, and the features that ``effective`` names for the layer kind must
    have mattered.
    """

    architectures: Names
    models: Names
    layer_kinds: Annotated[tuple[CellKind, ...], Field(min_length=1)]
    modes: Annotated[tuple[Mode, ...], Field(min_length=1)]
    executed: Annotated[int, Field(ge=1, strict=True)] = 1
    effective: dict[CellKind, tuple[Feature, ...]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> Self:
        unknown = [name for name in self.models if name not in shipped_models()]
        if unknown:
            message = f"models of {', '.join(shipped_models())}, not {quote(unknown[0])}"
            raise ValueError(message)
        return self

    def cells(self, *, prefill: str, decode: str) -> tuple[RequiredCell, ...]:
        """Return the cells under these backends; modes other than decode belong to the prefill backend."""
        return tuple(
            RequiredCell(
                backend=decode if mode == "decode" else prefill,
                model=model,
                layer_kind=kind,
                mode=mode,
                executed=self.executed,
                effective=self.effective.get(kind, ()),
            )
            for model in self.models
            for kind in self.layer_kinds
            if kind in load_model(model).cell_kinds
            for mode in self.modes
        )


class Policy(Value):
    """A policy file. For each architecture the first rule that holds decides; see ``attnconf.resolution``.

    ``backends`` says of each backend that a rule names what it needs: a demand on its user, not a condition of the
    rule, since an engine may choose a backend without looking. ``required`` says what must be proven.
    """

    schema_id: Literal["attnconf.policy/1"] = Field(alias="schema")
    name: Name
    description: str = ""
    provenance: Provenance
    backends: dict[Name, Condition]
    rules: Annotated[tuple[Rule, ...], Field(min_length=1)]
    required: tuple[Required, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [rule.name for rule in self.rules]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            message = f"rules of distinct names, but two are called {twice}"
            raise ValueError(message)
        for rule in self.rules:
            if rule.backend not in self.backends:
                message = f"rule {rule.name}: a backend of the table backends, not {rule.backend}"
                raise ValueError(message)
        for architecture in self.architectures:
            self._check_default(architecture)
        for required in self.required:
            unruled = next((name for name in required.architectures if name not in self.architectures), None)
            if unruled is not None:
                message = f"required: architectures that a rule names, not {unruled}"
                raise ValueError(message)
        return self

    def _check_default(self, architecture: str) -> None:
        rules = self.rules_of(architecture)
        first = next((index for index, rule in enumerate(rules) if rule.is_always), None)
        if first is not None and first + 1 < len(rules):
            message = (
                f"rule {rules[first + 1].name} is never reached for {architecture}: {rules[first].name} always holds"
            )
            raise ValueError(message)

    @property
    def architectures(self) -> tuple[str, ...]:
        """Every architecture that a rule names, in order of appearance."""
        return tuple(dict.fromkeys(name for rule in self.rules for name in rule.architectures))

    def rules_of(self, architecture: str) -> tuple[Rule, ...]:
        """Return the rules of one architecture, in their order."""
        return tuple(rule for rule in self.rules if architecture in rule.architectures)

    def required_cells(self, architecture: str, *, prefill: str, decode: str) -> tuple[RequiredCell, ...]:
        """Return the cells that an architecture must have proven on these backends, without repetitions."""
        blocks = [block for block in self.required if architecture in block.architectures]
        cells = [cell for block in blocks for cell in block.cells(prefill=prefill, decode=decode)]
        return tuple(dict.fromkeys(cells))


def shipped_policies() -> tuple[str, ...]:
    """Return the names of the policies that attnconf ships, sorted."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


def load_policy(name_or_path: str) -> Policy:
    """Return a policy by its shipped name, or read it from a TOML file. Raises ``InvalidInputError``."""
    if name_or_path in shipped_policies():
        return read_policy(_FOLDER / f"{name_or_path}.toml")
    if not name_or_path.endswith(".toml"):
        allowed = f"a path to a .toml file, or one of {', '.join(shipped_policies())}"
        source = "policy"
        raise InvalidInputError(source, given=quote(name_or_path), allowed=allowed)
    return read_policy(Path(name_or_path))


def read_policy(path: Path) -> Policy:
    """Read the policy file ``path``. Raises ``InvalidInputError`` for anything that is not one."""
    allowed = "a TOML document"
    try:
        data = tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise InvalidInputError(str(path), given=quote(str(error)), allowed=allowed) from None
    except (ValueError, RecursionError):  # a number of too many digits, or brackets nested too deeply
        raise InvalidInputError(str(path), given="cannot be parsed", allowed=allowed) from None
    return Policy.from_data(data, str(path))


def policy_digest(policy: Policy) -> str:
    """Return the SHA-256 of the policy's canonical content; comments and written-out defaults do not change it."""
    return digest(policy.to_data())
