"""What a backend declares once for all shapes, as plain values that come from another process."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from attnconf.backends.builds import Builder
from attnconf.backends.code_files import code_files
from attnconf.backends.protocol import Promises

if TYPE_CHECKING:
    from attnconf.backends.protocol import Backend, EvidenceKind
    from attnconf.backends.registry import Origin


@dataclass(frozen=True)
class Declaration:
    """What a backend is called in receipts, what its evidence is and what it promises.

    ``is_builder`` says whether it compiles kernels ahead, ``files`` where its code stands.
    """

    name: str
    evidence: EvidenceKind
    promises: Promises
    is_builder: bool
    files: tuple[str, ...]


def declaration_of(backend: Backend, origin: Origin) -> Declaration:
    """Return what ``backend``, registered at ``origin``, declares: copies, which know no class of its own."""
    evidence: EvidenceKind = "kernel" if backend.evidence == "kernel" else "contract"
    given = backend.promises
    promises = Promises(**{field.name: getattr(given, field.name) for field in fields(Promises)})
    return Declaration(
        name=str.__str__(backend.name),
        evidence=evidence,
        promises=promises,
        is_builder=isinstance(backend, Builder),
        files=code_files(origin, backend),
    )
