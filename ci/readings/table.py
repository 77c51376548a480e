"""Table: attnconf's reading of every configuration that was recorded, beside what transformers' code does.

    python -m ci.readings.table          write READINGS.md
    python -m ci.readings.table --check  end with 1 if the page is not that of the records, or a reading is wrong

Needs no transformers: ``record.py`` has asked it.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnconf.cases.hf_config import model_from_config
from attnconf.errors import InvalidInputError

if TYPE_CHECKING:
    from attnconf.cases.geometry import LayerGeometry

_HERE = Path(__file__).parent
RECORDS = _HERE / "records.jsonl"
PAGE = _HERE / "READINGS.md"
OUTCOMES = ("right", "refused", "wrong", "not compared")
_CLOSE = 1e-6
"""The relative difference of two scales that are the same number."""


@dataclass(frozen=True)
class Reading:
    """What became of one model type: an outcome of ``OUTCOMES``, and in words why."""

    model_type: str
    outcome: str
    words: str


def readings() -> tuple[dict[str, Any], tuple[Reading, ...]]:
    """Return the head of the records, and a reading of each."""
    head, *records = map(json.loads, RECORDS.read_text(encoding="utf-8").splitlines())
    return head, tuple(map(read, records))


def read(record: dict[str, Any]) -> Reading:
    """Read the configuration of one record, and compare the layers."""
    name = record["model_type"]
    if "config" not in record:
        return Reading(name, "not compared", record["error"])
    try:
        model = model_from_config(record["config"], "config.json", name)
    except InvalidInputError as error:
        return Reading(name, "refused", str(error).removeprefix("config.json: "))
    calls = [record["kinds"][place] for place in record["order"]]
    unknown = _not_compared(record, calls)
    if unknown:
        return Reading(name, "not compared", unknown)
    if len(calls) != len(model.layers):
        return Reading(name, "wrong", f"{len(model.layers)} attention layers are read, and {len(calls)} run")
    for index, (layer, call) in enumerate(zip(model.layers, calls, strict=True)):
        said = differences(layer, call, record["owners"].get(str(index)))
        if said:
            return Reading(name, "wrong", f"layer {index}: {'; '.join(said)}")
    return Reading(name, "right", _shape(model.layers, model.left_out, record))


def _not_compared(record: dict[str, Any], calls: list[dict[str, Any]]) -> str:
    """Return why nothing tells what the model does, empty if something does."""
    if not calls and (record.get("by") != "calls" or record.get("modules")):
        return str(record.get("error", "its attention calls no function that can be replaced"))
    if any("unknown" in call["sees"] for call in calls):
        return "nothing tells what its own masks let see"
    return ""


def differences(layer: LayerGeometry, call: dict[str, Any], owner: int | None) -> list[str]:
    """Return in which ways a layer that was read is not the one that ran."""
    window = None if layer.window_left == -1 else layer.window_left + 1
    sees = call["sees"]
    pairs = {
        "query heads": (layer.num_qo_heads, call["num_qo_heads"]),
        "KV heads": (layer.num_kv_heads, call["num_kv_heads"]),
        "head_dim": (layer.head_dim, call["head_dim"]),
        "head_dim of values": (layer.value_dim, call["head_dim_v"]),
        "keys in sight": ({"window": window} if layer.chunk_size is None else {"chunks": True}, sees),
        "window given to the kernel": (window, call["window"]),
        "sinks": (layer.sinks, call["sinks"]),
        "soft cap": (layer.logits_soft_cap, call["soft_cap"]),
        "owner of its keys": (layer.kv_owner, owner),
    }
    said = [f"{name} {here}, not {there}" for name, (here, there) in pairs.items() if here != there]
    said += [f"its calls have {' and '.join(call['extra'])}"] if call["extra"] else []
    scale = call["scale"]
    if scale is not None and abs(layer.sm_scale - scale) > _CLOSE * scale:
        said.append(f"scale {layer.sm_scale:g}, not {scale:g}")
    return said


def _shape(layers: tuple[LayerGeometry, ...], left_out: tuple[str, ...], record: dict[str, Any]) -> str:
    kinds: dict[str, int] = {}
    for layer in layers:
        window = "" if layer.reach == -1 else f" {layer.reach + 1}"
        sinks = " sinks" if layer.sinks else ""
        values = "" if layer.head_dim_v is None else f"+{layer.head_dim_v}"
        text = f"{layer.cell_kind}{window} {layer.num_qo_heads}/{layer.num_kv_heads}x{layer.head_dim}{values}{sinks}"
        kinds[text] = kinds.get(text, 0) + 1
    parts = [f"{count} {text}" for text, count in kinds.items()]
    parts += [f"without {' and '.join(left_out)}"] if left_out else []
    parts += (
        [f"with {json.dumps(record['added'])}, as its defaults alone are no causal model"] if record["added"] else []
    )
    parts += ["by its modules, as it does not run"] if record.get("by") == "modules" else []
    return "; ".join(parts)


def page() -> str:
    """Return READINGS.md."""
    head, found = readings()
    counts = {outcome: [one for one in found if one.outcome == outcome] for outcome in OUTCOMES}
    lines = [
        "# What attnconf reads of transformers' models",
        "",
        f"transformers {head['transformers']} has {head['types']} model types with a head for language. The default",
        "configuration of each is written as `config.json`, its model is built and run on PyTorch's meta device,",
        "and each attention call is recorded: heads, sizes, scale, soft cap, sinks, whose keys, and what its mask",
        "lets see. attnconf reads the same file. Right is what agrees layer by layer; refused is what attnconf says",
        "that it cannot express.",
        "",
        "Written by `make readings`; the records are [records.jsonl](records.jsonl).",
        "",
        "| outcome | model types |",
        "|---|---:|",
        *(f"| {outcome} | {len(some)} |" for outcome, some in counts.items()),
    ]
    records = [json.loads(line) for line in RECORDS.read_text(encoding="utf-8").splitlines()[1:]]
    right = {one.model_type for one in counts["right"]}
    helped = sum(bool(one["added"]) for one in records if one["model_type"] in right)
    modules = sum(one.get("by") == "modules" for one in records if one["model_type"] in right)
    lines += [
        "",
        f"Of those that are right, {helped} have defaults that are no causal model, and are asked with the values",
        f"that their row names; {modules} do not run without images or sound, and are compared by the modules that",
        "are built.",
    ]
    titles = {"right": "layers, query heads/KV heads x head_dim (+ that of values)", "refused": "what attnconf says"}
    for outcome, some in counts.items():
        if some:
            lines += [
                "",
                f"## {outcome.capitalize()}",
                "",
                f"| model type | {titles.get(outcome, 'why')} |",
                "|---|---|",
            ]
            lines += [f"| {one.model_type} | {_cell(one.words)} |" for one in some]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def main(words: list[str]) -> int:
    """Write or check the page."""
    text = page()
    _, found = readings()
    wrong = [one for one in found if one.outcome == "wrong"]
    counts = ", ".join(f"{sum(one.outcome == outcome for one in found)} {outcome}" for outcome in OUTCOMES)
    print(f"{len(found)} model types: {counts}")
    for one in wrong:
        print(f"WRONG {one.model_type}: {one.words}")
    if "--check" not in words:
        PAGE.write_text(text, encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != text:
        print(f"{PAGE.name} is not of these records; run python -m ci.readings.table")
        return 1
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
