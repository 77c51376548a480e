"""The gate: green for whole, fresh, sealed evidence of the planned commit, and one sentence for everything else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from attnconf.cli import main as cli
from attnconf.cli.statuses import EXIT_REHEARSED
from attnconf.gate.cells import Cell
from attnconf.gate.plans.fleet_plan import FleetPlan
from attnconf.gate.verdict import reach_verdict
from attnconf.policy.policy import parse_policy
from attnconf.policy.resolution import resolve_all
from conformance.tests.support.gate_receipts import proof, receipt_of
from conformance.tests.support.gate_repository import AFTER, BEFORE, FLEET, commit, git, start
from conformance.tests.support.speed_receipts import H200, speed_cell, speed_receipt

Run = Callable[..., tuple[int, str, str]]


class Gate:
    """A repository whose default was flipped, its plan, and one receipt of each job."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder / "repository"
        self.out = folder / "out"
        self.capsys = capsys
        self.folder.mkdir()
        self.out.mkdir()
        self.base = start(self.folder)
        commit(self.folder, policy_toml=AFTER)

    def plan(self, *options: str) -> FleetPlan:
        path = self.out / "plan.json"
        call = ["plan", "--policy", "policy.toml", "--fleet", "fleet.toml", "-o", str(path), *options]
        assert cli.main(call) == 0
        return FleetPlan.read(path)

    def write(self, job: str, /, **fields: Any) -> str:  # noqa: ANN401 - any field
        name = fields.pop("file", f"{job}.json")
        receipt_of(FleetPlan.read(self.out / "plan.json"), job, **fields).write(self.out / name)
        return str(self.out / name)

    def verify(self, *arguments: str) -> tuple[int, str, str]:
        self.capsys.readouterr()
        plan = str(self.out / "plan.json")
        status = cli.main(["verify", "--policy", "policy.toml", "--plan", plan, *arguments])
        return (status, *self.capsys.readouterr())

    def refused(self, *arguments: str) -> list[str]:
        status, out, err = self.verify(*arguments)
        assert (status, err) == (10, "")
        *findings, last = [line for line in out.splitlines() if not line.startswith(("REHEARSAL", "note: "))]
        assert last == f"{len(findings)} finding{'s' * (len(findings) != 1)}: the gate stays shut"
        return [line.removeprefix("NOT MET ").replace(str(self.out), "OUT") for line in findings]


@pytest.fixture
def gate(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Gate:
    made = Gate(tmp_path, capsys)
    monkeypatch.chdir(made.folder)
    made.plan()
    return made


def test_whole_evidence_is_green_in_any_order_and_however_often(gate: Gate) -> None:
    cpu, b200 = gate.write("cpu"), gate.write("b200")
    head = git(gate.folder, "rev-parse", "HEAD")
    for files in ((cpu, b200), (b200, cpu), (cpu, b200, cpu)):
        status, out, _ = gate.verify(*files)
        assert (status, out) == (0, f"policy toy is met at {head}: 24 required cells in 2 receipts\n")
    copy = shutil.copy(cpu, str(gate.out / "copy.json"))
    assert gate.verify(cpu, b200, copy)[0] == 0


def test_without_the_sm100_receipt_the_runner_is_named(gate: Gate) -> None:
    (finding,) = gate.refused(gate.write("cpu"))
    assert finding == (
        "(missing): 12 required cells of trtllm_mha are missing (gemma4-e2b, gemma4-12b): there is no receipt that"
        " counts of job b200, which needs runner b200 (labels self-hosted, b200; SM 10.0 with CUDA 13.0)"
    )


def test_nothing_is_never_green(gate: Gate) -> None:
    assert len(gate.refused()) == 2
    assert [line.split()[0] for line in gate.refused("no/such*.json")] == ["(unreadable):", "(missing):", "(missing):"]


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"git_sha": "f" * 40}, "(foreign): OUT/b200.json: is of commit ffff"),
    ({"git_sha": None}, "(foreign): OUT/b200.json: is of commit none, not of "),
    ({"policy": None}, "(stale): OUT/b200.json: was held to no policy, not to toy as it is now"),
    ({"policy": {"name": "toy", "digest": "0"}}, "(stale): OUT/b200.json: was held to policy toy as it was then"),
    ({"plan": "0" * 64}, "(stale): OUT/b200.json: is of another plan"),
    ({"plan": None}, "(stale): OUT/b200.json: is of no plan"),
    ({"attnconf": "0.0.9"}, "(stale): OUT/b200.json: was written by attnconf 0.0.9, and this is "),
    ({"job": "b300"}, "(unplanned): OUT/b200.json: is of job b300, which the plan does not have"),
    ({"job": None}, "(unplanned): OUT/b200.json: is of no job, which the plan does not have"),
    ({"job": "cpu"}, "(stale): OUT/b200.json: is not from runner cpu: SM 10.0, not none"),
    ({"exit_status": None}, "(stale): OUT/b200.json: does not say how its run ended"),
    ({"simulated": True}, "(simulated): OUT/b200.json: is of a SIMULATED machine, NVIDIA B200: nothing ran there"),
]


@pytest.mark.parametrize(("fields", "sentence"), REFUSED)
def test_a_receipt_that_does_not_count(gate: Gate, fields: dict[str, Any], sentence: str) -> None:
    cpu, b200 = gate.write("cpu"), gate.write("b200", **fields)
    findings = gate.refused(cpu, b200)
    assert findings[0].startswith(sentence)
    assert findings[-1].startswith("(missing): 12 required cells of trtllm_mha are missing")


@pytest.mark.parametrize(
    ("where", "sentence"),
    [
        ({"sm": "9.0"}, "SM 9.0, not 10.0"),
        ({"cuda": "12.9"}, "CUDA 12.9, not 13.0"),
        ({"flashinfer": "0.6.12"}, "flashinfer-python 0.6.12, not 0.6.13"),
    ],
)
def test_a_receipt_of_another_machine_is_stale(gate: Gate, where: dict[str, str], sentence: str) -> None:
    right = receipt_of(FleetPlan.read(gate.out / "plan.json"), "b200").platform
    b200 = gate.write("b200", platform=right.model_copy(update=where))
    assert gate.refused(gate.write("cpu"), b200)[0] == f"(stale): OUT/b200.json: is not from runner b200: {sentence}"


def test_a_hand_edit_is_tampering_and_a_missing_digest_is_said(gate: Gate) -> None:
    cpu, b200 = gate.write("cpu"), gate.write("b200")
    path = Path(b200)
    data = json.loads(path.read_text())
    path.write_text(
        path.read_text().replace('"passed": 3', '"passed": 4', 1).replace('"executed": 3', '"executed": 4', 1)
    )
    assert "(tampered): OUT/b200.json: digest is " in gate.refused(cpu, b200)[0]
    path.write_text(json.dumps({**data, "digest": None}))
    assert "(unsealed): OUT/b200.json: has no digest, so an edit would not show" in gate.refused(cpu, b200)[0]
    assert gate.verify(cpu, b200, "--allow-unsealed", b200)[0] == 0
    path.write_text(json.dumps({**data, "digest": None, "plan": None, "job": None}))  # as an older attnconf wrote it
    assert gate.verify(cpu, b200, "--allow-unsealed", b200)[0] == 0
    assert gate.verify(cpu, b200, "--allow-unsealed", cpu)[0] == 10
    path.write_text("{")
    assert gate.refused(cpu, b200)[0].startswith("(unreadable): OUT/b200.json is no receipt: ")
    path.write_bytes(b"\xff")
    assert gate.refused(cpu, b200)[0].startswith("(unreadable): OUT/b200.json is no receipt: ")


def test_a_receipt_of_a_red_run_is_red_whatever_its_cells_say(gate: Gate) -> None:
    b200 = gate.write("b200", exit_status=12, complaints=("test_it was run again",))
    (finding,) = gate.refused(gate.write("cpu"), b200)
    assert finding == "(red): OUT/b200.json: its run ended with exit status 12; test_it was run again"


def test_two_runs_of_a_job_claim_its_cells_twice(gate: Gate) -> None:
    files = gate.write("cpu"), gate.write("b200"), gate.write("b200", file="again.json", seconds=13.0)
    (finding,) = gate.refused(*files)
    assert finding == (
        "(duplicate): job b200 has 2 receipts that differ, OUT/b200.json and OUT/again.json:"
        " its cells are claimed twice"
    )


def shared(plan: FleetPlan, change: Callable[[Cell], Cell | None]) -> tuple[Cell, ...]:
    """Return the cells of the SM100 receipt, those of shared KV changed or left out."""
    cells = [proof(cell) for cell in plan.job_named("b200").cells]
    changed = [change(cell) if cell.layer_kind.endswith("-shared") else cell for cell in cells]
    return tuple(cell for cell in changed if cell is not None)


def changed(**fields: Any) -> Callable[[Cell], Cell]:  # noqa: ANN401 - any field
    return lambda cell: Cell.model_validate({**cell.model_dump(), **fields})


EMPTY = {"executed": 0, "passed": 0, "worst_units": None, "histogram": [], "features": [], "effective": {}}
LACKS: list[tuple[Callable[[Cell], Cell | None], str, str]] = [
    (lambda _: None, "missing", "0 layers passed, 1 needed (no case asked)"),
    (changed(**EMPTY), "not executed", "0 layers passed, 1 needed"),
    (changed(**EMPTY, not_run=3, reasons={"not_run: no GPU": 3}), "not executed", "(not_run: no GPU)"),
    (changed(crashed=1), "not proven", "1 of its layers failed"),
    (
        changed(evidence="contract", passed=0, contract_only=3),
        "not proven",
        "(3 by contract only, which proves no kernel)",
    ),
    (changed(worst_units=None), "not executed", "claims 3 passed layers, but no number of theirs was judged"),
    (changed(worst_units=77.0), "not executed", "and none failed, but an error of 77 times the bound"),
    (changed(histogram=[0] * 11), "not executed", "but its histogram has 0 within the bound"),
]


@pytest.mark.parametrize(("change", "kind", "sentence"), LACKS)
def test_a_receipt_without_the_shared_kv_cells_is_red(
    gate: Gate, change: Callable[[Cell], Cell | None], kind: str, sentence: str
) -> None:
    cells = shared(FleetPlan.read(gate.out / "plan.json"), change)
    broken = any(cell.broken for cell in cells)
    findings = gate.refused(gate.write("cpu"), gate.write("b200", cells=cells, exit_status=int(broken)))
    red = ["(red): OUT/b200.json: its run ended with exit status 1"] * broken
    assert findings[: len(red)] == red
    findings = findings[len(red) :]
    assert len(findings) == 4
    assert all(one.startswith(f"({kind}): runner b200: trtllm_mha gemma4-e2b") for one in findings)
    assert all("-shared" in one and sentence in one for one in findings)


def test_something_broken_that_nobody_asked_for_is_red(gate: Gate) -> None:
    plan = FleetPlan.read(gate.out / "plan.json")
    cells = [proof(cell) for cell in plan.job_named("b200").cells]
    bins = [0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 1]
    cells.append(changed(mode="verify", failed=1, executed=4, worst_units=2.0, histogram=bins)(cells[0]))
    red, finding = gate.refused(gate.write("cpu"), gate.write("b200", cells=tuple(cells), exit_status=1))
    assert red.startswith("(red): ")
    assert finding.startswith("(broken): runner b200: 1 layer of trtllm_mha gemma4-e2b@tp4 sliding verify is broken")


def test_verify_and_the_verdict_of_a_run_agree(gate: Gate) -> None:
    plan = FleetPlan.read(gate.out / "plan.json")
    policy = parse_policy(AFTER, "after")
    for change in (lambda cell: cell, *(change for change, kind, _ in LACKS if kind != "not executed")):
        cells = shared(plan, change)
        platform = plan.fleet.platform(plan.fleet.by_name["b200"])
        verdict = reach_verdict(
            policy, resolve_all(policy, platform), cells, platform, {"trtllm_mha": None, "triton": None}
        )
        status, out, _ = gate.verify(gate.write("cpu"), gate.write("b200", cells=cells))
        assert (status == 0) is verdict.is_met
        assert all(unmet.sentence in out for unmet in verdict.unmet)


def test_a_plan_must_be_the_one_of_this_policy_fleet_and_commit(gate: Gate) -> None:
    files = gate.write("cpu"), gate.write("b200")
    path = gate.out / "plan.json"
    plan = FleetPlan.read(path)
    whole = path.read_text()
    path.write_text(whole.replace('"executed": 1', '"executed": 2', 1))
    assert gate.refused(*files)[0].startswith("(tampered): OUT/plan.json: digest is ")
    path.write_text(whole)
    assert gate.verify(*files, "--fleet", "fleet.toml")[0] == 0
    assert "the plan is of commit" in gate.refused(*files, "--sha", "f" * 40)[0]
    (gate.folder / "fleet.toml").write_text(FLEET.replace("ubuntu-24.04", "ubuntu-22.04"))
    assert "(plan): the plan is not what attnconf plan makes" in gate.refused(
        *files, "--fleet", "fleet.toml", "--sha", str(plan.git_sha)
    )[0]  # fmt: skip
    assert "the plan is of commit" in gate.refused(*files)[0]  # the tree has changes now
    forged = plan.model_copy(update={"digest": None, "jobs": plan.jobs[:1]})  # sealed again without the job of SM100
    forged.write(path)
    git(gate.folder, "checkout", "--", "fleet.toml")
    gate.write("cpu")
    assert gate.refused(files[0])[0] == "(plan): the plan is not what attnconf plan makes of its policy and fleet"
    (gate.folder / "policy.toml").write_text(BEFORE)
    assert "of another policy than toy as it is now" in gate.refused(files[0], "--sha", str(plan.git_sha))[0]


def test_a_change_is_verified_as_far_as_it_reaches(gate: Gate) -> None:
    made = gate.plan("--diff", gate.base)
    assert [job.name for job in made.jobs] == ["b200"]
    b200 = gate.write("b200")
    assert gate.verify(b200, "--fleet", "fleet.toml", "--diff", gate.base)[0] == 0
    assert gate.refused("--fleet", "fleet.toml", "--diff", gate.base)[0].startswith("(missing): 12 required cells")
    assert "(plan): the plan covers only what changed since" in gate.refused(b200)[0]
    assert gate.verify(b200, "--diff", gate.base)[0] == 2
    assert "--diff names" in gate.refused(b200, "--fleet", "fleet.toml", "--diff", "HEAD")[0]


def test_a_change_that_touches_nothing_says_that_nothing_had_to_be_proven(gate: Gate) -> None:
    commit(gate.folder, README_md="hello")
    assert gate.plan("--diff", "HEAD~1").jobs == ()
    status, out, _ = gate.verify("--fleet", "fleet.toml", "--diff", "HEAD~1")
    assert (status, "touches no required cell" in out) == (0, True)
    assert "(plan): the plan covers only what changed since" in gate.refused()[0]


def test_a_rehearsal_is_never_a_pass(gate: Gate) -> None:
    files = gate.write("cpu", simulated=True), gate.write("b200", simulated=True)
    assert all("SIMULATED" in line for line in gate.refused(*files)[:2])
    status, out, _ = gate.verify(*files, "--rehearse-with-simulated-receipts")
    assert status == EXIT_REHEARSED == 13
    assert out.startswith("REHEARSAL: ")
    assert "policy toy would be met" in out
    assert len(gate.refused(files[0], "--rehearse-with-simulated-receipts")) == 1


def test_merged_receipts_are_verified_as_they_were(gate: Gate) -> None:
    cpu, b200, both = gate.write("cpu"), gate.write("b200"), gate.out / "both.json"
    again = gate.out / "again.json"
    assert cli.main(["merge", cpu, b200, "-o", str(both)]) == 0
    assert cli.main(["merge", str(both), b200, cpu, "-o", str(again)]) == 0
    assert both.read_bytes() == again.read_bytes()
    assert gate.verify(str(both))[0] == gate.verify(str(both), cpu)[0] == 0
    both.write_text(both.read_text().replace('"seed": 0', '"seed": 1', 1))
    assert gate.refused(str(both))[0].startswith("(tampered): OUT/both.json: digest is ")
    data = json.loads(Path(b200).read_text())
    Path(b200).write_text(json.dumps({**data, "digest": None}))
    assert cli.main(["merge", cpu, b200, "-o", str(both)]) == 0  # merging seals no receipt that was not
    assert "(unsealed): OUT/both.json (" in gate.refused(str(both))[0]


def test_the_commit_must_be_known(gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = gate.write("cpu"), gate.write("b200")
    head = git(gate.folder, "rev-parse", "HEAD")
    empty = tmp_path / "empty"
    empty.mkdir()
    shutil.copy(gate.folder / "policy.toml", empty)
    monkeypatch.chdir(empty)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert gate.verify(*files)[0] == 2
    assert gate.verify(*files, "--sha", head[:7])[0] == 2
    assert gate.verify(*files, "--sha", head)[0] == 0


CLAIM = """
[[claims]]
rule = "sm100"
metric = "speed of its kernel"
measure = "kernel"
models = ["gemma4-e2b"]
layer_kinds = ["full"]
modes = ["decode"]
over = "triton"
at_least = 13
evidence = "paired"
unproven = "warn"
source = "a/b#1"
"""


def test_a_claim_is_judged_and_closes_the_gate_where_the_policy_says_so(gate: Gate) -> None:
    for unproven in ("warn", "fail"):
        head = commit(gate.folder, policy_toml=AFTER + CLAIM.replace('"warn"', f'"{unproven}"'))
        gate.plan()
        receipts = (gate.write("cpu"), gate.write("b200"))
        b200 = H200.model_copy(update={"device": "NVIDIA B200", "sm": "10.0", "flashinfer": "0.6.13"})
        speed = str(gate.out / "speed.json")
        speed_receipt(speed_cell(1.2), platform=b200, git_sha=head).write(Path(speed))
        status, out, _ = gate.verify(*receipts, "--speed", speed)
        assert status == 0
        assert out.startswith("note: claim proven: rule sm100 gains 13 % or more in speed of its kernel over triton")
        if unproven == "warn":
            status, out, _ = gate.verify(*receipts)
            assert status == 0
            assert out.startswith("warning: claim undecided: rule sm100 gains")
            assert "\n    trtllm_mha gemma4-e2b full decode over triton was not timed\n" in out
        else:
            (finding,) = gate.refused(*receipts)
            assert finding.startswith("(claim): claim undecided: rule sm100 gains 13 % or more")
    edited = Path(speed).read_text(encoding="utf-8").replace('"launches": 20', '"launches": 21')
    Path(speed).write_text(edited, encoding="utf-8")
    assert [line.split()[0] for line in gate.refused(*receipts, "--speed", speed)] == ["(tampered):", "(claim):"]
    signers = gate.out / "signers"
    signers.write_text("")
    found = gate.refused(*receipts, "--speed", speed, "--allowed-signers", str(signers))
    assert [line.split()[0] for line in found].count("(unsigned):") == 3
