"""Schemas: the JSON Schema files of the values that other programs read, made from the models themselves."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from attnconf.cases.case import Case
from attnconf.files import write_text
from attnconf.gate.evidence import Evidence
from attnconf.gate.plans.fleet import Fleet
from attnconf.gate.plans.fleet_plan import FleetPlan
from attnconf.gate.receipt import Receipt
from attnconf.gate.sealed import Sealed
from attnconf.gate.serving.ledger import Ledger
from attnconf.gate.speeds.paired import Paired
from attnconf.gate.speeds.speed_receipt import SpeedReceipt
from attnconf.policy.policy import Policy
from attnconf.serving.story import Story

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic.json_schema import JsonSchemaMode

    from attnconf.values import Value

_MODELS: dict[str, type[Value]] = {
    "case-1.json": Case,
    "evidence-1.json": Evidence,
    "fleet-1.json": Fleet,
    "ledger-1.json": Ledger,
    "paired-1.json": Paired,
    "plan-1.json": FleetPlan,
    "policy-1.json": Policy,
    "receipt-3.json": Receipt,
    "speed-1.json": SpeedReceipt,
    "story-1.json": Story,
}


def schemas() -> dict[str, str]:
    """Return the text of each schema file by its name."""
    return {name: _text(model) for name, model in _MODELS.items()}


def write_schemas(folder: Path) -> None:
    """Write every schema file into ``folder``."""
    for name, text in schemas().items():
        write_text(folder / name, text)


def _text(model: type[Value]) -> str:
    # a sealed file is written with every field, so its schema asks for them; the other files may leave defaults out
    mode: JsonSchemaMode = "serialization" if issubclass(model, Sealed) else "validation"
    schema = model.model_json_schema(by_alias=True, mode=mode)
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
    return json.dumps(schema, indent=2, ensure_ascii=True) + "\n"
