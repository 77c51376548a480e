"""Reports of speed: terminal, Markdown, JSON, page and picture say the same of a recorded receipt."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from attnconf.cli import main as cli
from attnconf.report.compose import compose
from attnconf.report.page import render_page
from attnconf.report.speed_rows import scale_of, speed_reports
from attnconf.report.speed_table import report_lines, speed_lines
from attnconf.report.summary import summarise
from conformance.tests.support.receipts import a_receipt, proven
from conformance.tests.support.simulated_clock import SimulatedClock
from conformance.tests.support.speed_receipts import RECORDED, recorded, speed_cell, speed_receipt

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

RATIO = re.compile(r"1\.1\d\d \(1\.1\d\d to 1\.\d{3}\)")


def test_every_report_says_ratio_interval_verdict_and_share() -> None:
    reports = speed_reports({"speed.json": recorded()})
    row = reports[0].rows[0]
    assert RATIO.fullmatch(row.cold.text)
    terminal = "\n".join(report_lines(reports[0]))
    document = compose({"r.json": recorded().correctness})
    page, markdown = render_page(document, reports), summarise(document, speeds=reports)
    for text in (terminal, page, markdown):
        for said in (row.cold.text, "faster", "slower", "no difference", row.share_text, "SIMULATED", "left out"):
            assert said in text
    assert "against itself 1.00" in terminal
    assert page.count('class="reach ') == 3
    assert "<script" not in page


def test_a_void_run_says_so_first_where_it_is_read() -> None:
    void = speed_receipt(speed_cell(control=SimulatedClock(speedup=1.04).blocks(3)))
    reports = speed_reports({"speed.json": void})
    assert speed_lines(void)[-1].startswith("VOID: ")
    document = compose({"r.json": void.correctness})
    assert "so the run is void" in render_page(document, reports)
    assert "\u274c void: " in summarise(document, speeds=reports)


def test_too_few_processes_are_said_beside_the_ratio() -> None:
    lines = speed_lines(speed_receipt(speed_cell(processes=2)))
    assert "undecided: " in lines[2]
    assert "(2 processes timed it, and 3 are needed)" in lines[2]


def test_the_scale_holds_every_interval_and_equal_speed() -> None:
    (report,) = speed_reports({"x": recorded()})
    scale = scale_of(report.rows)
    for ratio in (1.0, *(one.cold.low for one in report.rows), *(one.cold.high for one in report.rows)):
        assert 0 < scale.place(ratio) < 100
    assert scale.place(0.01) == 0
    assert scale.place(100.0) == 100


def test_the_command_writes_all_of_it_and_sees_a_regression(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new, old = tmp_path / "new.json", tmp_path / "old.json"
    speed_receipt(speed_cell(1.1, 7)).write(new)
    speed_receipt(speed_cell(1.2, 1)).write(old)
    files = {name: str(tmp_path / name) for name in ("p.html", "s.md", "s.json", "p.png")}
    call = ["report", "--speed", str(new), "--against", str(old), "--html", files["p.html"], "--md", files["s.md"]]
    assert cli.main([*call, "--json", files["s.json"], "--picture", files["p.png"]]) == 0
    out = capsys.readouterr().out
    assert "slower: trtllm_mha over triton, gemma4-e2b full decode" in out
    (report,) = json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))
    assert report["rows"][0]["cold"]["verdict"] == "faster"
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    assert "slower" in (tmp_path / "s.md").read_text(encoding="utf-8").lower()
    assert "Slower" in (tmp_path / "p.html").read_text(encoding="utf-8")


def test_a_report_without_a_subject_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    receipt = tmp_path / "r.json"
    a_receipt(*proven()).write(receipt)
    for call in (
        [],
        [str(receipt), "--json", str(tmp_path / "x.json")],
        [str(receipt), "--against", str(RECORDED)],
        ["--speed", str(RECORDED), "--against", str(receipt)],
        ["--speed", str(receipt)],
    ):
        assert cli.main(["report", *call]) == 2
        assert capsys.readouterr().err.count("\n") == 1
