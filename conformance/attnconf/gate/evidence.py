"""Evidence: receipts put together, in any order and however often, without adding anything up.

A receipt's identity is the digest of its content, and evidence is a set of receipts. So merging is commutative,
associative and idempotent: a receipt that is merged twice counts once. Counts are added only when they are read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from attnconf.gate.receipt import Receipt
from attnconf.gate.sealed import Sealed
from attnconf.values import parse_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from attnconf.gate.provider import Provider


class Evidence(Sealed):
    """A set of receipts as one file, in the order of their digests. Raises ``ValueError`` for any other order."""

    schema_id: Literal["attnconf.evidence/1"] = Field(default="attnconf.evidence/1", alias="schema")
    receipts: tuple[Receipt, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [one.identity for one in self.receipts]
        if names != sorted(set(names)):
            message = "receipts are not in the order of their digests, each once"
            raise ValueError(message)
        return self

    def __or__(self, other: Evidence) -> Evidence:
        """Return the receipts of both."""
        return evidence_of((*self.receipts, *other.receipts))


def evidence_of(receipts: Iterable[Receipt]) -> Evidence:
    """Return the set of the ``receipts``, each under the digest of what is written of it now."""
    found: dict[str, Receipt] = {}
    for one in (receipt.renewed() for receipt in receipts):
        seen = found.get(one.identity)
        # of twins the one that carries its digest stays, whichever came first; none gets one here that it had not
        found[one.identity] = one if seen is None or seen.digest is None else seen
    return Evidence(receipts=tuple(found[name] for name in sorted(found)))


def providers_in(receipts: Iterable[Receipt]) -> dict[str, tuple[Provider, ...]]:
    """Return by backend who provided it, each once: several, where runs differ in it."""
    found: dict[str, dict[Provider, None]] = {}
    for receipt in receipts:
        for name, provider in receipt.providers.items():
            found.setdefault(name, {})[provider] = None
    return {name: tuple(providers) for name, providers in found.items()}


def parse_evidence(text: str, source: str) -> Evidence | Receipt:
    """Read the ``text`` of a receipt, or of several merged ones. Raises ``InvalidInputError`` for anything else.

    Every receipt in it is held against its own digest.
    """
    data = parse_json(text, source)
    if not (isinstance(data, dict) and data.get("schema") == "attnconf.evidence/1"):
        return Receipt.from_data(data, source)
    evidence = Evidence.from_data(data, source)
    for one in data.get("receipts", ()):
        Receipt.from_data(one, source)
    return evidence


def receipts_of(found: Evidence | Receipt) -> tuple[Receipt, ...]:
    """Return the receipts of a file that was read."""
    return (found,) if isinstance(found, Receipt) else found.receipts
