"""What attnconf reads of transformers' models, held to what transformers' own code was recorded to do."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ci.readings import table

RIGHT = 200
"""Of transformers 5.24's model types with a head for language, at least so many are read right, layer by layer."""


def test_nothing_is_read_wrong_and_the_page_is_of_these_records(capsys: pytest.CaptureFixture[str]) -> None:
    assert table.main(["--check"]) == 0, capsys.readouterr().out
    head, found = table.readings()
    counts = {outcome: sum(one.outcome == outcome for one in found) for outcome in table.OUTCOMES}
    assert len(found) == head["types"] == 296
    assert counts["wrong"] == 0
    assert counts["right"] >= RIGHT


def records() -> list[dict[str, Any]]:
    return [json.loads(line) for line in table.RECORDS.read_text(encoding="utf-8").splitlines()[1:]]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_qo_heads", 3),
        ("num_kv_heads", 3),
        ("head_dim", 24),
        ("head_dim_v", 24),
        ("sees", {"window": 77}),
        ("sees", {"ahead": True}),
        ("sees", {"chunks": True}),
        ("window", 77),
        ("sinks", "others"),
        ("soft_cap", 7.0),
        ("scale", 0.3),
        ("extra", ["position_bias"]),
    ],
)
def test_each_difference_of_one_layer_is_wrong(field: str, value: object) -> None:
    (record,) = [one for one in records() if one["model_type"] == "gpt_oss"]
    assert table.read(record).outcome == "right"
    record["kinds"][-1][field] = value
    assert table.read(record).outcome == "wrong"


def test_another_owner_or_number_of_layers_is_wrong() -> None:
    (record,) = [one for one in records() if one["model_type"] == "gemma3n_text"]
    assert table.read(record).outcome == "right"
    assert record["owners"]
    assert table.read({**record, "owners": {}}).outcome == "wrong"
    assert table.read({**record, "order": record["order"][:-1]}).outcome == "wrong"


def test_what_could_not_be_asked_is_not_right() -> None:
    (record,) = [one for one in records() if one["model_type"] == "llama"]
    unasked = {**record, "order": [], "by": "cache"}
    assert table.read(unasked).outcome == "not compared"
