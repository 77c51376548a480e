"""Speed: what is measured is what the floor is made of, and a kind of case is a case of a real model."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import torch

from attnconf.backends.protocol import Unsupported
from attnconf.backends.reference import ReferenceBackend
from attnconf.cases.request import Request
from attnconf.cli.main import main
from attnconf.cli.statuses import EXIT_NOTHING_EXECUTED
from attnconf.platforms import Platform
from attnconf.report.cost import speed_lines
from attnconf.report.speed_picture import draw_speed
from attnconf.running import speed
from attnconf.running.speed import KINDS, LADDER, Kind, measure

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

TINY = Kind("tiny", "gemma4-e2b", "decode", (Request(prefix_len=5),), small=True)


def test_the_terms_of_the_floor_are_measured() -> None:
    found = measure(TINY, ReferenceBackend(), Platform(), torch.device("cpu"))
    assert min(found.kernels, found.answers, found.inputs) > 0
    assert found.floor == found.kernels + found.answers + found.inputs
    assert found.factor == found.wall / found.floor
    assert found.runs > found.layers == 4
    assert found.busy is None


def test_a_kind_is_a_case_of_the_whole_model() -> None:
    assert {one.case.layers[0].num_qo_heads for one in KINDS if one.model == "gemma4-31b"} == {32}
    assert any(request.kv_len == 131_072 for one in KINDS for request in one.requests)
    assert any(len(one.requests) == 256 for one in KINDS)


def test_the_command_prints_rows_of_at_most_100_columns_and_writes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(speed, "KINDS", (TINY,))
    assert main(["speed", "--json", str(tmp_path / "s.json"), "--picture", str(tmp_path / "s.png")]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert row.startswith("tiny")
    assert max(len(head), len(row)) <= 100
    (written,) = json.loads((tmp_path / "s.json").read_text())["seconds"]
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")
    assert written["factor"] == written["wall"] / written["floor"]


def test_a_ladder_grows_and_is_drawn_beside_the_kinds(tmp_path: Path) -> None:
    sizes = {name: [one.size for one in LADDER if one.ladder == name] for name in ("prefill", "decode")}
    assert sizes == {"prefill": [2**n for n in range(9, 15)], "decode": [2**n for n in range(4, 10)]}
    one = measure(TINY, ReferenceBackend(), Platform(), torch.device("cpu"))
    steps = [one.model_copy(update={"ladder": "decode", "size": size}) for size in (1, 2)]
    for name in ("s.png", "s.svg"):
        draw_speed([one], steps, "a title $with$ \u202e text", tmp_path / name)
        assert (tmp_path / name).stat().st_size > 5_000


def test_a_backend_that_runs_nothing_has_no_factor(monkeypatch: pytest.MonkeyPatch) -> None:
    class Declining(ReferenceBackend):
        def supports(self, *_: object) -> Unsupported:
            return Unsupported("nothing")

    found = measure(TINY, Declining(), Platform(), torch.device("cpu"))  # type: ignore[arg-type]
    assert (found.layers, found.factor) == (0, None)
    assert speed_lines([found])[1].split()[-2:] == ["-", "0"]
    monkeypatch.setattr(speed, "KINDS", ())
    assert main(["speed"]) == EXIT_NOTHING_EXECUTED
