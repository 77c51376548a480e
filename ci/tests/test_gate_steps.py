"""The scripts of the gate and of the action, run from their YAML: a job is planned, run, reported and verified."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ci.tests import toy_engine
from ci.tests.github_steps import ACTIONS, ROOT, Done, Machine, evaluate, load, named

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

GATE = load(ROOT / ".github" / "workflows" / "gate.yml")
PLAN, GPU, FINISH = (GATE["jobs"][name]["steps"] for name in ("plan", "gpu", "finish"))
SUITE, REPORT = (named(load(ACTIONS[0])["runs"]["steps"], name) for name in ("Run the suite", "Report"))
DEFAULTS = {f"inputs.{name}": str(field.get("default", "")) for name, field in load(ACTIONS[0])["inputs"].items()}
BASE = "github.event.pull_request.base.sha || github.event.merge_group.base_sha"
INPUTS = {
    "inputs.policy": "policy.toml",
    "inputs.fleet": "fleet.toml",
    "inputs.profile": "replay",
    "inputs.args": "--attnconf-replay=cases -p no:cacheprovider",
    "inputs.label": "run-gpu",
    "inputs.python": "python3",
    "inputs.extras": "",
    "inputs.name": "attnconf",
}


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    return toy_engine.make(tmp_path_factory)


def gate(machine: Machine, step: Mapping[str, Any], **values: str) -> Done:
    """Run a step of the gate's own jobs for a pull request against the last commit but one."""
    return machine.run(step, {**INPUTS, BASE: "HEAD~1", **values}, GATE["env"])


def act(machine: Machine, given: Mapping[str, str]) -> tuple[Done, Done]:
    """Run the action's suite and its report, as its steps follow each other; what is not given has its default."""
    inputs = {**DEFAULTS, **{f"inputs.{name}": text for name, text in given.items()}}
    suite = machine.run(SUITE, inputs)
    return suite, machine.run(REPORT, {**inputs, "steps.suite.outputs.receipt": suite.outputs["receipt"]})


def finish(machine: Machine, *, allowed: str = "true", plan: str = "success", gpu: str = "success") -> Done:
    needs = {"needs.plan.outputs.allowed": allowed, "needs.plan.outputs.jobs": "1"}
    results = {"needs.plan.result": plan, "needs.gpu.result": gpu}
    return gate(machine, named(FINISH, "Verify"), **needs, **results)


@pytest.fixture(scope="module")
def planned(machine: Machine) -> Done:
    return gate(machine, named(PLAN, "Plan"))


@pytest.fixture(scope="module")
def ran(machine: Machine, planned: Done) -> tuple[Done, Done]:
    """The suite and the report of the one planned job, with what the gate gives to the action."""
    (job,) = json.loads(planned.outputs["matrix"])["include"]
    given = named_uses(GPU, "$/ci")["with"]
    values = {**INPUTS, **{f"matrix.{name}": str(value) for name, value in job.items()}}
    return act(machine, {name: evaluate(text, values) for name, text in given.items()})


def named_uses(steps: list[dict[str, Any]], action: str) -> dict[str, Any]:
    (found,) = [step for step in steps if step.get("uses") == action]
    return found


@pytest.fixture
def nothing_found(machine: Machine, tmp_path: Path) -> Iterator[None]:
    """What was found before lies elsewhere meanwhile."""
    out, aside = machine.checkout / "attnconf-out", tmp_path / "aside"
    out.mkdir(exist_ok=True)
    out.rename(aside)
    yield
    shutil.rmtree(out, ignore_errors=True)
    aside.rename(out)


def test_the_plan_is_a_job_matrix_and_can_be_read(planned: Done) -> None:
    assert planned.status == 0, planned.log
    (job,) = json.loads(planned.outputs["matrix"])["include"]
    assert (job["job"], job["labels"]) == ("cpu", ["ubuntu-24.04"])
    assert planned.outputs["jobs"] == "1"
    assert "    job cpu: 1 required cell on cpu" in planned.summary


def test_a_plan_that_can_be_executed_nowhere_is_10(machine: Machine, tmp_path: Path) -> None:
    checkout = Path(shutil.copytree(machine.checkout, tmp_path / "checkout"))
    policy = checkout / "policy.toml"
    policy.write_text(policy.read_text().replace("reference = {}", 'reference = { packages = { torch = "<1" } }'))
    done = gate(Machine(checkout, tmp_path / "runner"), named(PLAN, "Plan"))
    assert done.status == 10, done.log
    assert "NOT MET" in done.summary
    assert "matrix" not in done.outputs


def test_all_is_proven(machine: Machine, ran: tuple[Done, Done]) -> None:
    suite, report = ran
    assert suite.status == 0, suite.log
    assert suite.outputs == {"receipt": "attnconf-out/cpu.json", "status": "0"}
    assert report.status == 0, report.log
    assert "::error" not in report.log
    assert report.summary.startswith("## \u2705")
    out = machine.checkout / "attnconf-out"
    assert {"cpu.json", "cpu.xml", "cpu.html"} <= {path.name for path in out.iterdir()}
    done = finish(machine)
    assert done.status == 0, done.log
    assert "policy toy is met" in done.summary
    whole = gate(machine, named(FINISH, "Report"))
    assert whole.status == 0, whole.log
    assert whole.summary.startswith("## \u2705")
    assert (out / "report.html").is_file()


@pytest.mark.usefixtures("ran")
@pytest.mark.parametrize(("plan", "gpu"), [("success", "failure"), ("success", "cancelled"), ("failure", "skipped")])
def test_a_job_that_ended_red_leaves_the_gate_red_whatever_its_receipts_say(
    machine: Machine, plan: str, gpu: str
) -> None:
    done = finish(machine, plan=plan, gpu=gpu)
    assert done.status == 1
    assert f"NOT MET (jobs): planning ended in {plan}, the GPU jobs in {gpu}" in done.summary


@pytest.mark.usefixtures("planned", "nothing_found")
def test_a_missing_receipt_is_10_and_names_the_runner(machine: Machine) -> None:
    done = finish(machine, gpu="skipped", allowed="false")
    assert done.status == 10, done.log
    assert "needs runner cpu (labels ubuntu-24.04" in done.log
    assert "a maintainer must set the label run-gpu" in done.summary
    assert gate(machine, named(FINISH, "Report")).status == 0


@pytest.mark.usefixtures("nothing_found")
@pytest.mark.parametrize(
    ("given", "status", "finishes"),
    [
        ({"policy": "policy.toml", "backends": "torch_sdpa"}, 10, True),
        ({"policy": "fleet.toml"}, 11, False),
        ({"require-sm": "8.7"}, 12, False),
        ({"args": "--attnconf-no-such-option"}, 4, False),
    ],
)
def test_the_action_ends_as_pytest_does(
    machine: Machine, given: dict[str, str], status: int, *, finishes: bool
) -> None:
    base = {"profile": "replay", "python": "python3", "args": "--attnconf-replay=cases"}
    suite, report = act(machine, {**base, **given})
    assert suite.status == status, suite.log
    assert suite.outputs["status"] == str(status)
    assert "::error" in report.log
    assert report.status == (0 if finishes else 1)
    assert report.summary.startswith("## \u274c")
    assert ("The run has not finished" in report.summary) is not finishes


ENDED_BY_C = "import ctypes\n\ndef pytest_sessionstart():\n    ctypes.CDLL(None)._exit(0)\n"


@pytest.mark.usefixtures("nothing_found")
@pytest.mark.parametrize("args", ["--attnconf-replay=cases", "--version --version"], ids=["ended by C", "no receipt"])
def test_the_action_fails_without_a_finished_receipt_though_pytest_ends_with_0(machine: Machine, args: str) -> None:
    conftest = machine.checkout / "conftest.py"
    conftest.write_text(ENDED_BY_C)
    try:
        suite, report = act(machine, {"profile": "replay", "args": args, "python": "python3"})
    finally:
        conftest.unlink()
    assert (suite.status, suite.outputs["status"]) == (1, "1"), suite.log
    assert "pytest ended with 0, but its run has not finished" in suite.log
    assert (report.status, "::error" in report.log) == (1, True)


@pytest.mark.parametrize(
    ("event", "values", "allowed"),
    [
        ("push", {}, "true"),
        ("merge_group", {}, "true"),
        ("schedule", {}, "true"),
        ("pull_request", {}, "false"),
        ("pull_request", {"has": "true"}, "true"),
        ("pull_request", {"has": "true", "head": "stranger/engine"}, "false"),
        ("pull_request", {"has": "true", "head": "stranger/engine", "labeled": "true"}, "true"),
        ("pull_request", {"head": "stranger/engine", "labeled": "false", "label": ""}, "true"),
        ("pull_request_target", {"has": "true"}, None),
    ],
)
def test_who_may_use_the_gpu_runners(machine: Machine, event: str, values: dict[str, str], allowed: str | None) -> None:
    step = named(PLAN, "May this event use the GPU runners?")
    keys = {
        "github.event_name": event,
        "inputs.label": values.get("label", "run-gpu"),
        "contains(github.event.pull_request.labels.*.name, inputs.label)": values.get("has", "false"),
        "github.event.action == 'labeled' && github.event.label.name == inputs.label": values.get("labeled", "false"),
        "github.event.pull_request.head.repo.full_name": values.get("head", "engine/engine"),
    }
    done = machine.run(step, keys)
    assert done.outputs.get("allowed") == allowed
    assert done.status == (1 if allowed is None else 0)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, f"{ROOT / 'ci' / 'install'}/../.."),
        ({"extras": "triton,flashinfer"}, f"{ROOT / 'ci' / 'install'}/../..[triton,flashinfer]"),
        ({"version": "0.1.0", "extras": "triton"}, "attnconf[triton]==0.1.0"),
    ],
    ids=["own commit", "extras", "version"],
)
def test_what_is_installed(machine: Machine, tmp_path: Path, given: dict[str, str], wanted: str) -> None:
    action = load(ACTIONS[1])
    (step,) = action["runs"]["steps"]
    machine.program("recorder", f'printf "%s\\n" "$@" >{tmp_path}/arguments')
    values = {f"inputs.{name}": given.get(name, field["default"]) for name, field in action["inputs"].items()}
    done = machine.run(step, {**values, "inputs.python": "recorder"})
    assert done.status == 0, done.log
    arguments = (tmp_path / "arguments").read_text().splitlines()
    assert arguments[:4] == ["-P", "-m", "pip", "install"]
    assert arguments[-1] == wanted
    if shutil.which("nvidia-smi") is None:
        assert arguments[4] == "--constraint"
        assert Path(arguments[5]).is_file()
