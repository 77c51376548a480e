"""Reports of receipts as text: the document, the step summary, the annotations."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

from attnconf.cli import main as cli
from attnconf.escape import fenced, markdown, readable, workflow_command
from attnconf.gate.plans.fleet import parse_fleet
from attnconf.gate.plans.fleet_plan import plan_fleet
from attnconf.gate.provider import Provider, Source
from attnconf.gate.receipt import PolicyRef, Receipt
from attnconf.policy.policy import load_policy, parse_policy, policy_digest
from attnconf.report.annotations import errors
from attnconf.report.compose import compose
from attnconf.report.matrix import arrange
from attnconf.report.page import render_page
from attnconf.report.summary import MOST_BYTES, summarise
from attnconf.report.support import support_page
from conformance.tests.support import gate_repository
from conformance.tests.support.gate_receipts import receipt_of
from conformance.tests.support.receipts import (
    CASE,
    H200,
    LENIENT,
    POLICY,
    a_cell,
    a_failure,
    a_receipt,
    everything,
    excused,
    proven,
)

if TYPE_CHECKING:
    import pytest

    from attnconf.report.document import Document

EVIDENCE = Path(__file__).parents[3] / "fixtures" / "evidence"


def document(*receipts: Receipt) -> Document:
    return compose({f"r{index}.json": receipt for index, receipt in enumerate(receipts)}, POLICY)


def test_a_proven_policy_is_the_headline() -> None:
    found = document(a_receipt(*proven()))
    assert (found.status, found.headline) == ("met", "Policy toy is met on CPU only, no GPU")
    assert found.counts.startswith("12 layers judged on kernels, 0 by contract only, 0 broken")
    assert error_lines(found) == []


def test_what_is_not_met_is_counted_and_grouped_by_what_is_missing() -> None:
    found = document(everything())
    assert (found.status, found.headline) == ("not met", "4 layers broken and 2 requirements not met")
    (gap,) = found.gaps
    assert gap.sentence == "2 triton cells are not proven: 0 layers passed, 1 needed (no case asked)"
    assert gap.by_model == {"gemma4-e2b": "full decode, full extend"}


def test_one_cell_alone_keeps_the_verdicts_sentence() -> None:
    (gap,) = document(a_receipt(*proven()[:3])).gaps
    assert gap.text == "triton gemma4-e2b full extend is not proven: 0 layers passed, 1 needed (no case asked)"


def test_contract_evidence_meets_nothing() -> None:
    cells = [a_cell("triton", cell.layer_kind, cell.mode, contract_only=9) for cell in proven()]
    found = document(a_receipt(*cells))
    assert (found.status, found.unmet) == ("not met", 4)


def test_nothing_executed_is_red_without_a_policy() -> None:
    found = compose({"r.json": a_receipt(a_cell(not_run=3), policy=None)})
    assert (found.status, found.headline) == ("not met", "Nothing was executed, so nothing is proven")
    assert error_lines(found) == ["::error title=attnconf%3A not met::Nothing was executed, so nothing is proven"]


def test_without_a_policy_nothing_is_said_to_be_met() -> None:
    found = compose({"r.json": a_receipt(*proven(), policy=None)})
    assert (found.status, found.headline) == ("open", "Nothing broken; no policy was asked")


def test_a_policy_that_is_not_at_hand_is_not_judged_and_a_shipped_one_is() -> None:
    other = compose({"r.json": a_receipt(*proven())})
    assert (other.status, other.headline) == ("open", "Nothing broken; policy toy was not judged")
    assert "--policy" in other.policy_statuses[0][1].note
    shipped = load_policy("sglang-gemma4")
    named = PolicyRef(name=shipped.name, digest=policy_digest(shipped))
    assert compose({"r.json": a_receipt(*proven(), policy=named)}).status == "not met"
    changed = PolicyRef(name=shipped.name, digest="0" * 64)
    assert compose({"r.json": a_receipt(*proven(), policy=changed)}).status == "open"


def test_evidence_of_one_platform_proves_nothing_on_another() -> None:
    found = document(a_receipt(*proven()[:2]), a_receipt(*proven()[2:], where=H200))
    assert [site.title for site in found.sites] == ["NVIDIA H200, SM 9.0", "CPU only, no GPU"]
    assert found.unmet == 4
    assert [gap.sentence.split(": ")[0] for gap in found.gaps] == ["NVIDIA H200, SM 9.0", "CPU only, no GPU"]


def test_a_run_that_was_red_is_not_met_whatever_its_cells_say() -> None:
    found = document(a_receipt(*proven(), exit_status=12, complaints=("test_it was run again",)))
    assert (found.status, [gap.text for gap in found.gaps]) == ("not met", ["r0.json: test_it was run again"])
    found = document(a_receipt(*proven(), exit_status=2), a_receipt(where=H200))
    assert "CPU only, no GPU: r0.json: its run ended with exit status 2" in [gap.text for gap in found.gaps]
    known = document(everything(exit_status=1))
    assert known.gaps == document(everything()).gaps  # its broken layers and the policy say why
    assert document(a_receipt(*proven(), exit_status=0)).status == "met"


def test_what_is_let_pass_stands_behind_what_is_not_met() -> None:
    found = compose({"r.json": excused()}, LENIENT)
    assert [(heading, [gap.text for gap in gaps]) for heading, gaps in found.excused] == [
        (
            "Waived",
            [
                (
                    "2 triton cells are not proven (0 layers passed, 1 needed (no case asked)), under the waiver of"
                    " owner/repository#7 (kernels, until 2999-01-01): gemma4-e2b: sliding extend, full extend"
                )
            ],
        ),
        (
            "Unsupported",
            ["triton gemma4-e2b full decode is declared unsupported, as the policy allows: never asked"],
        ),
        ("Notes", ["the waiver of owner/repository#8 (kernels, until 2999-01-01) selects no required cell"]),
        (
            "Claims",
            ["claimed, not measured here: rule blackwell gains 5 % or more in speed over triton (owner/repository#9)"],
        ),
    ]
    text = summarise(found)
    order = [text.index(f"### {heading}") for heading in ("Waived", "Unsupported", "Notes", "Claims", "CPU")]
    assert order == sorted(order)
    assert text.startswith("## \u2705 Policy lenient is met on CPU only")
    red = summarise(compose({"r.json": excused(exit_status=2)}, LENIENT))
    assert red.index("### Not met") < red.index("### Waived")
    assert red.endswith(" 12 s, exit status 2\n")


def test_receipts_of_one_platform_add_up() -> None:
    found = document(a_receipt(*proven()[:2]), a_receipt(*proven()[2:]))
    assert found.status == "met"
    assert len(found.sites) == 1
    assert list(found.sites[0].runs) == ["r0.json", "r1.json"]


def test_what_another_receipt_decides_is_not_owed_by_others() -> None:
    b200 = {**H200, "device": "NVIDIA B200", "sm": "10.0"}
    alone = document(a_receipt(*proven()))
    assert "from SM 10.x" in alone.policy_statuses[0][1].elsewhere[0]
    together = document(a_receipt(*proven()), a_receipt(*proven(), where=b200))
    assert all(one.elsewhere == () for _, one in together.policy_statuses)


def test_the_histogram_counts_layers_and_cells_where_a_receipt_has_none() -> None:
    (new,) = document(a_receipt(a_cell(passed=3), a_cell(mode="extend", passed=2))).sites[0].backends
    assert (new.counted, new.bins[4], sum(new.bins)) == ("layers", 5, 5)
    old_cells = [a_cell(passed=3, histogram=[]), a_cell(mode="extend", passed=2, failed=1, worst_units=math.inf)]
    (old,) = document(a_receipt(*old_cells)).sites[0].backends
    assert (old.counted, old.bins[4], old.bins[-1], sum(old.bins)) == ("cells", 1, 1, 2)


def test_the_summary_says_what_is_not_met_first() -> None:
    text = summarise(document(everything()))
    order = [text.index(word) for word in ("### Not met", "### Failures", "### CPU only", "r0.json")]
    assert order == sorted(order)
    assert text.splitlines()[0].endswith("4 layers broken and 2 requirements not met")
    assert "| gemma4-e2b | sliding | **2 BAD** 21979.00 |" in text
    assert "--backend wrong\n```\n\n</details>" in text
    assert "- 7 layers not_run: needs SM 10.x, this machine has no GPU" in text


def test_the_summary_never_exceeds_a_mebibyte() -> None:
    failures = tuple(a_failure(backend=f"wrong{seed}", text="\u00d7" * 30_000) for seed in range(60))
    found = document(everything(failures=failures))
    text = summarise(found)
    assert MOST_BYTES // 2 < len(text.encode()) <= MOST_BYTES
    assert "### Not met\n\n- 2 triton cells" in text
    assert "more parts that do not fit" in text
    for most in (1000, 5000):
        assert len(summarise(found, most).encode()) <= most


def test_text_of_a_receipt_is_no_markup() -> None:
    evil = "not_run: a|b <img src=x> **bold** `x` @team #1\n\x1b[31m"
    text = summarise(document(a_receipt(a_cell(not_run=1, reasons={evil: 1}), *proven()[1:])))
    assert "<img" not in text.replace("\\<", "")
    assert "a\\|b \\<img src=x\\> \\*\\*bold\\*\\* \\`x\\` \\@team \\#1 \\\\x1b\\[31m" in text
    failed = a_failure(backend="</summary><img src=x>\n")
    told = summarise(document(a_receipt(failures=(failed,))))
    assert "<details><summary>&lt;/summary&gt;&lt;img src=x&gt; : clause 2 (window): gemma4-e2b decode" in told
    assert fenced("a\n```\nb\u202e").splitlines() == ["````text", "a", "```", "b\\u202e", "````"]
    assert readable("\ud800\u00d7\n") == "\\ud800\u00d7\n"
    assert markdown("a\nb") == "a b"


def error_lines(found: Document) -> list[str]:
    return [workflow_command("error", text, title=title) for title, text in errors(found)]


def test_annotations_are_ten_at_most_the_worst_first() -> None:
    failures = tuple(
        a_failure(backend=f"wrong{seed}", worst_units=units)
        for seed, units in enumerate([2.0, math.inf, 5.0, None, *([3.0] * 9)])
    )
    lines = error_lines(document(everything(failures=failures)))
    assert len(lines) == 10
    assert all(line.startswith("::error title=") and "\n" not in line for line in lines)
    assert "inf" in "".join(lines[:4])
    finite = [line for line in lines if ".0 \u00d7" in line or " 5 \u00d7" in line or " 3 \u00d7" in line]
    assert " 5 \u00d7 the bound" in finite[0]
    assert lines[-1].startswith("::error title=attnconf::")
    assert "more errors" in lines[-1]
    hidden = int(lines[-1].split("::")[-1].split()[0])
    assert hidden == 13 + 3 + 1 - 9


def test_annotations_are_escaped() -> None:
    assert workflow_command("error", "100%\r\n::x", title="a:b,c%") == "::error title=a%3Ab%2Cc%25::100%25\\r%0A::x"
    (line, *_) = error_lines(document(a_receipt(failures=(a_failure(backend="a,b:c\n::error::x"),))))
    title, _, message = line.removeprefix("::error title=").partition("::")
    assert title == "a%2Cb%3Ac%0A%3A%3Aerror%3A%3Ax%3A clause 2 (window)"
    assert message.startswith("a,b:c ::error::x: clause 2")
    assert line.count("\n") == 0


def report(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = cli.main(["report", *map(str, arguments)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_the_command_writes_all_forms(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    everything().write(tmp_path / "r.json")
    (tmp_path / "p.toml").write_text("rules = 3")
    status, out, _ = report(
        capsys, tmp_path / "r.json", "--html", tmp_path / "o.html", "--md", tmp_path / "o.md", "--format", "github"
    )
    assert status == 0
    assert out.startswith("::error title=")
    assert (tmp_path / "o.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert "4 layers broken" in (tmp_path / "o.md").read_text(encoding="utf-8")
    assert report(capsys, tmp_path / "r.json")[1].startswith("4 layers broken\n")
    judged = report(capsys, tmp_path / "r.json", "--policy", "sglang-gemma4")[1]
    assert judged.index("NOT MET: ") < judged.index("Claims: claimed, not measured here: rule sm")


def test_what_cannot_be_reported_is_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    everything().write(path)
    (tmp_path / "case.json").write_text(json.dumps(CASE.to_data()))
    (tmp_path / "p.toml").write_text("rules = 3")
    for status, *arguments in (
        (2, path, path),
        (2, tmp_path / "gone.json"),
        (2, tmp_path / "case.json"),
        (2, path, "--html", path / "x.html"),
        (11, path, "--policy", tmp_path / "p.toml"),
    ):
        found, out, err = report(capsys, *arguments)
        assert (found, out, err.count("\n")) == (status, "", 1), err


def test_files_of_one_name_are_told_apart(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        everything().write(tmp_path / name / "r.json")
    assert report(capsys, tmp_path / "a/r.json", tmp_path / "b/r.json")[1].startswith("8 layers broken")


def test_a_page_of_two_thousand_failures_is_made() -> None:
    failures = tuple(a_failure(backend=f"wrong{seed}") for seed in range(2000))
    assert render_page(document(everything(failures=failures))).count('<details class="card failure"') == 2000


def test_a_job_of_a_plan_owes_the_cells_of_that_job_alone() -> None:
    policy = parse_policy(gate_repository.BEFORE, "toy")
    fleet = parse_fleet(gate_repository.FLEET.replace('["ubuntu-24.04"]', '["ubuntu-24.04"]\ncount = 2'), "fleet")
    plan = plan_fleet(policy, fleet, "0" * 40)
    whole = {job: receipt_of(plan, job) for job in ("cpu.1", "cpu.2")}
    one = {"r.json": whole["cpu.1"]}
    assert compose(one, policy).status == "not met"
    found = compose(one, policy, plan)
    assert (found.status, found.gaps) == ("met", [])
    assert compose(whole, policy, plan).status == "met"
    less = whole["cpu.1"].model_copy(update={"cells": whole["cpu.1"].cells[1:]})
    assert compose({"r.json": less}, policy, plan).unmet == 1
    foreign = whole["cpu.1"].model_copy(update={"plan": "0" * 64})
    assert compose({"r.json": foreign}, policy, plan).status == "not met"


def test_what_nothing_mattered_in_is_no_evidence() -> None:
    vacuous = [cell.model_copy(update={"features": ()}) for cell in proven()]
    found = compose({"r.json": a_receipt(*vacuous, exit_status=0, policy=None)})
    assert found.status == "not met"
    assert found.headline == "No feature mattered in anything that was executed, so nothing is proven"
    judged = compose({"r.json": a_receipt(*proven()[:3], vacuous[3], exit_status=0)}, POLICY)
    assert judged.status == "not met"
    assert "3 layers passed, 1 needed, but in 3 of them no feature mattered" in judged.gaps[0].text
    assert " 3? 0.45 |" in summarise(judged)
    assert 'class="vacuous"' in render_page(judged)


def test_the_evidence_of_an_h200_in_which_nothing_mattered_is_not_green() -> None:
    receipt = Receipt.read(EVIDENCE / "2026-11-28-h200-smoke.json")
    square = arrange(receipt.cells).squares[("gemma4-26b-a4b", "full"), ("trtllm_mha", "decode")]
    assert (square.kind, square.count) == ("vacuous", "1?")


def test_who_provided_a_backend_is_said() -> None:
    file = Provider(sources=(Source(path="conftest.py", sha256="0" * 64, committed=False),))
    receipt = a_receipt(*proven(), providers={"triton": file})
    said = "provided by conftest.py (it is not in the commit)"
    assert said in render_page(compose({"r.json": receipt}))
    assert "provided by conftest.py" in summarise(compose({"r.json": receipt}))
    assert "Provided by conftest.py" in support_page([("r.json", receipt)])
