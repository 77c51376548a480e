"""``attnconf matrix``: what the page says of receipts, and when the check of a page fails."""

from __future__ import annotations

import json
import re
from itertools import permutations
from typing import TYPE_CHECKING, Any

import pytest

from attnconf.cli import main as cli
from attnconf.cli.statuses import EXIT_BAD_INPUT, EXIT_FAILED
from attnconf.gate.cells import Cell
from attnconf.gate.receipt import PlatformRecord, Receipt
from attnconf.judging.result import Outcome
from attnconf.report.support import support_page

if TYPE_CHECKING:
    from pathlib import Path

H200 = {"device": "NVIDIA H200", "sm": "9.0", "cuda": "13.0", "driver": "580.1", "torch": "2.11.0", "triton": "3.6.0"}


def cell(**changes: Any) -> Cell:  # noqa: ANN401 - fields of a cell
    fields = {
        "backend": "triton",
        "model": "gemma4-e2b@tp2",
        "layer_kind": "full",
        "mode": "decode",
        "q_dtype": "bfloat16",
        "kv_dtype": "bfloat16",
        "features": (),
        "worst_units": None,
        "reasons": {},
        **{outcome.value: 0 for outcome in Outcome},
        **changes,
    }
    executed = fields["passed"] + fields["failed"] + fields["contract_only"]
    return Cell.model_validate({"executed": executed, **fields})


def receipt(*cells: Cell, started: str = "2026-05-01T10:00:00Z", seed: int = 0, **where: str) -> Receipt:
    nowhere = dict.fromkeys(("sm", "cuda", "driver", "torch", "triton", "flashinfer", "flashinfer_cubin"))
    platform = PlatformRecord.model_validate({**nowhere, "device": "cpu", "python": "3.12.3", **where})
    return Receipt(
        git_sha="0123456789abcdef" + "0" * 24,
        platform=platform,
        policy=None,
        profile="gate",
        seed=seed,
        started=started,
        seconds=1.0,
        cells=cells,
    )


PROVEN = cell(passed=1, worst_units=0.5, histogram=(0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0))


def page(*receipts: Receipt) -> str:
    return support_page([(f"r{index}.json", one) for index, one in enumerate(receipts)])


def row(*cells: Cell) -> list[str]:
    """Return the columns of the one row that ``cells`` make."""
    (line,) = re.findall(r"^\| gemma4-e2b<br>.*\|$", page(receipt(*cells)), re.MULTILINE)
    return [text.replace("&nbsp;", " ") for text in line.removeprefix("| ").removesuffix(" |").split(" | ")]


def notes(*cells: Cell) -> list[str]:
    return re.findall(r"^\d+\. .*$", page(receipt(*cells)), re.MULTILINE)


def test_a_machine_is_named_with_its_versions_and_its_receipts() -> None:
    text = page(receipt(cell(passed=1), seed=7, flashinfer="0.6.13", **H200))
    assert "## NVIDIA H200, SM 9.0\n" in text
    assert "CUDA 13.0, driver 580.1, torch 2.11.0, triton 3.6.0, flashinfer 0.6.13, Python 3.12.3\n" in text
    assert "| [r0.json](<r0.json>) | 2026-05-01 | gate | 7 | 0.1.0 | `0123456789ab` | - |\n" in text
    assert "## No GPU\n" in page(receipt(PROVEN))


@pytest.mark.parametrize(
    ("status", "ended"), [(0, "green"), (1, "red"), (2, "interrupted"), (10, "not met"), (3, "red, status 3")]
)
def test_a_run_that_did_not_end_well_says_so(status: int, ended: str) -> None:
    text = page(receipt(PROVEN).model_copy(update={"exit_status": status}))
    assert f"| `0123456789ab` | {ended} |\n" in text


def test_judged_cells_say_how_many_passed_how_far_off_and_over_which_dtypes() -> None:
    cells = [
        cell(passed=3, worst_units=0.4, features=("paging",)),
        cell(passed=2, worst_units=0.54, kv_dtype="float8_e4m3fn"),
        cell(passed=4, mode="verify", model="gemma4-e2b", worst_units=0.25),
    ]
    decode, verify = "5 passed, 0.54<br>bf16 fp8", "4 passed, no feature mattered, 0.25<br>bf16"
    assert row(*cells) == ["gemma4-e2b<br>full", decode, "-", "-", verify, "-"]
    assert "9 layers judged, 0 broken, worst error 0.54." in page(receipt(*cells))


def test_contract_evidence_never_reads_as_passed() -> None:
    contract = cell(evidence="contract", contract_only=3, worst_units=0.1, features=("paging",))
    assert row(contract)[1] == "3 by contract, 0.10<br>bf16"


def test_what_is_broken_is_named_first_and_bold() -> None:
    broken = cell(passed=4, failed=2, crashed=1, worst_units="inf", reasons={"crashed: CUDA error": 1})
    assert row(broken)[1] == "**2 failed**, **1 crashed**, 4 passed, inf <sup>1</sup><br>bf16"
    assert notes(broken) == ["1. crashed: CUDA error"]
    assert "6 layers judged, 3 broken, worst error inf." in page(receipt(broken))


def test_what_was_not_judged_has_its_reasons_below_each_once() -> None:
    cells = [
        cell(unsupported=2, reasons={"unsupported: no sinks": 2}),
        cell(unsupported=1, mode="extend", reasons={"unsupported: no sinks": 1}),
        cell(not_run=1, mode="mixed", reasons={"not_run: no nvcc": 1}),
        cell(passed=1, mode="verify", features=("paging",)),
        cell(unsupported=1, mode="verify", q_dtype="float16", reasons={"unsupported: no float16": 1}),
    ]
    assert row(*cells)[1:5] == [
        "unsupported <sup>1</sup>",
        "unsupported <sup>1</sup>",
        "not run <sup>2</sup>",
        "1 passed <sup>3</sup><br>bf16",
    ]
    assert notes(*cells) == ["1. unsupported: no sinks", "2. not_run: no nvcc", "3. unsupported: no float16"]


def test_features_of_every_judged_row_stand_above_the_table_and_the_others_in_it() -> None:
    cells = [
        cell(passed=1, features=("causal", "paging", "window"), layer_kind="sliding"),
        cell(passed=1, features=("causal", "paging")),
        cell(unsupported=1, layer_kind="full-shared", reasons={"unsupported: no": 1}),
    ]
    text = page(receipt(*cells))
    assert "Features of every row that was judged: causal, paging." in text
    rows = [line for line in text.splitlines() if line.startswith("| gemma4")]
    assert [line.split(" | ")[-1] for line in rows] == ["- |", "- |", "window |"]


def test_a_judged_row_without_effective_features_shares_none() -> None:
    cells = [cell(passed=1, features=("causal",), layer_kind="sliding"), cell(passed=1)]
    text = page(receipt(*cells))
    assert "Features of every row" not in text
    rows = [line for line in text.splitlines() if line.startswith("| gemma4")]
    assert [line.split(" | ")[-1] for line in rows] == ["none |", "causal |"]


def test_receipts_of_one_machine_add_up_and_other_machines_stand_apart() -> None:
    one, two = receipt(cell(passed=1), **H200), receipt(cell(passed=2), seed=1, **H200)
    older = receipt(cell(passed=4), **{**H200, "triton": "3.5.0"})
    text = page(one, two, older)
    assert text.count("## NVIDIA H200, SM 9.0\n") == 2
    assert "3&nbsp;passed" in text
    assert "4&nbsp;passed" in text
    named = [("a", one), ("b", two), ("c", older)]
    assert len({support_page(order) for order in permutations(named)}) == 1


def test_no_text_of_a_receipt_becomes_markup() -> None:
    evil = "a|b <img> `x` [y](z) *s* \\ &amp; _i_\n\x1b[31m"
    text = page(receipt(cell(backend=evil, model=evil, passed=1, features=(evil,)), **{**H200, "device": evil}))
    assert "\x1b" not in text
    (line,) = [line for line in text.splitlines() if "1&nbsp;passed" in line]
    assert len(re.findall(r"(?<!\\)\|", line)) == 7
    assert not re.search(r"(?<!\\)[\[`*]|(?<!\\)<(?!br>)|(?<!\\)&(?!nbsp;)", line)


def test_a_receipt_without_cells_is_named() -> None:
    assert "r0.json" in page(receipt())


# The command


def save(folder: Path, one: Receipt, name: str = "r.json") -> str:
    one.write(folder / name)
    return str(folder / name)


def test_the_page_is_printed_or_written_with_links_from_where_it_lies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path, receipt(PROVEN))
    (tmp_path / "docs").mkdir()
    output = tmp_path / "docs" / "S.md"
    assert cli.main(["matrix", path, "--output", str(output)]) == 0
    assert capsys.readouterr().out == f"{output}\n"
    assert "[r.json](<../r.json>)" in output.read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path / "docs")
    assert cli.main(["matrix", "../r.json"]) == 0
    assert capsys.readouterr().out == output.read_text(encoding="utf-8")
    assert cli.main(["matrix", "../r.json", "--output", "S.md", "--check"]) == 0


def test_a_page_that_is_not_what_the_receipts_say_fails_the_check_and_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "S.md"
    command = ["matrix", save(tmp_path, receipt(PROVEN)), "--output", str(output)]
    assert cli.main(command) == 0
    written = output.read_text(encoding="utf-8")
    save(tmp_path, receipt(PROVEN, seed=1))
    capsys.readouterr()
    assert cli.main([*command, "--check"]) == EXIT_FAILED
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        f"attnconf: {output} is not what the receipts say; the same command without --check writes it anew\n"
    )
    assert output.read_text(encoding="utf-8") == written


def test_what_cannot_be_meant_is_refused_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(tmp_path, receipt(PROVEN))
    twin = save(tmp_path, receipt(PROVEN), "twin.json")
    (tmp_path / "c.json").write_text(json.dumps({"schema": "attnconf.case/1"}))
    for arguments, words in (
        ([path, "--check"], "--check: without --output"),
        ([path, twin], "twin.json: the same run as"),
        ([str(tmp_path / "c.json")], "c.json"),
        ([path, "--output", str(tmp_path / "no" / "S.md"), "--check"], "cannot be read"),
        ([path, "--output", str(tmp_path / "no" / "S.md")], "cannot be written"),
    ):
        assert cli.main(["matrix", *arguments]) == EXIT_BAD_INPUT
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert words in error
