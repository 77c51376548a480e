"""attnconf: the contract of paged-KV attention backends, and the suite that checks it.

What backends, tests and scripts import stands here, and each name is loaded when it is first used: ``import attnconf``
costs nothing. Every deeper module is private and may move between two releases.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from attnconf.version import __version__

if TYPE_CHECKING:
    from attnconf.backends.protocol import (
        Backend,
        Dispatching,
        EvidenceKind,
        Prepared,
        Promises,
        Replayable,
        Scratched,
        Unsupported,
        Workspace,
    )
    from attnconf.backends.reference import ReferenceBackend
    from attnconf.backends.registry import Registry
    from attnconf.backends.tables import block_tables_for
    from attnconf.capture.switch import capturing
    from attnconf.cases.case import Case, Layer, Paging, Poison, QuerySide
    from attnconf.cases.inputs.batch import Batch
    from attnconf.cases.models import load_model
    from attnconf.cases.request import Request
    from attnconf.cases.shape import KernelShape, batch_shape
    from attnconf.errors import (
        AttnconfError,
        BackendUnavailableError,
        InvalidInputError,
        UnknownBackendError,
        UnsupportedError,
    )
    from attnconf.gate.cells import Cell
    from attnconf.gate.plans.fleet_plan import FleetPlan
    from attnconf.gate.provider import Provider
    from attnconf.gate.receipt import Receipt, record_platform
    from attnconf.judging.result import CaseResult, Outcome
    from attnconf.judging.run import run_case
    from attnconf.platforms import Platform, detect, simulate
    from attnconf.precision import NumericsProfile

_HOME = {
    "attnconf.backends.protocol": (
        "Backend",
        "Dispatching",
        "EvidenceKind",
        "Prepared",
        "Promises",
        "Replayable",
        "Scratched",
        "Unsupported",
        "Workspace",
    ),
    "attnconf.backends.reference": ("ReferenceBackend",),
    "attnconf.backends.registry": ("Registry",),
    "attnconf.backends.tables": ("block_tables_for",),
    "attnconf.capture.switch": ("capturing",),
    "attnconf.cases.inputs.batch": ("Batch",),
    "attnconf.cases.case": ("Case", "Layer", "Paging", "Poison", "QuerySide"),
    "attnconf.cases.request": ("Request",),
    "attnconf.gate.cells": ("Cell",),
    "attnconf.errors": (
        "AttnconfError",
        "BackendUnavailableError",
        "InvalidInputError",
        "UnknownBackendError",
        "UnsupportedError",
    ),
    "attnconf.gate.plans.fleet_plan": ("FleetPlan",),
    "attnconf.cases.models": ("load_model",),
    "attnconf.precision": ("NumericsProfile",),
    "attnconf.platforms": ("Platform", "detect", "simulate"),
    "attnconf.gate.provider": ("Provider",),
    "attnconf.gate.receipt": ("Receipt", "record_platform"),
    "attnconf.judging.result": ("CaseResult", "Outcome"),
    "attnconf.judging.run": ("run_case",),
    "attnconf.cases.shape": ("KernelShape", "batch_shape"),
}
"""The module that each public name is loaded from."""

_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "AttnconfError",
    "Backend",
    "BackendUnavailableError",
    "Batch",
    "Case",
    "CaseResult",
    "Cell",
    "Dispatching",
    "EvidenceKind",
    "FleetPlan",
    "InvalidInputError",
    "KernelShape",
    "Layer",
    "NumericsProfile",
    "Outcome",
    "Paging",
    "Platform",
    "Poison",
    "Prepared",
    "Promises",
    "Provider",
    "QuerySide",
    "Receipt",
    "ReferenceBackend",
    "Registry",
    "Replayable",
    "Request",
    "Scratched",
    "UnknownBackendError",
    "Unsupported",
    "UnsupportedError",
    "Workspace",
    "__version__",
    "batch_shape",
    "block_tables_for",
    "capturing",
    "detect",
    "load_model",
    "record_platform",
    "run_case",
    "simulate",
]


def __getattr__(name: str) -> object:
    """Load a public name when it is first used (PEP 562)."""
    if name not in _MODULE_OF:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    value: object = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names, loaded or not."""
    return sorted({*globals(), *__all__})
