"""The templates for other CIs do what they say: Buildkite's steps and a file of sglang's tests, run on this machine."""

from __future__ import annotations

import ast
import json
import os
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from ci.tests import toy_engine
from ci.tests.github_steps import PYTHONPATH, ROOT, Done, Machine, load

if TYPE_CHECKING:
    from collections.abc import Mapping

TEMPLATES = ROOT / "ci" / "templates"
BUILDKITE = load(TEMPLATES / "buildkite.yml")
SGLANG = TEMPLATES / "sglang_test.py"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """An agent of Buildkite that keeps artifacts where they are, and shows the pipeline that it uploads."""
    machine = toy_engine.make(tmp_path_factory)
    machine.program("buildkite-agent", 'if [ "$1" = pipeline ]; then cat "${@: -1}"; fi')
    machine.program("pytest", f'exec {shlex.quote(sys.executable)} -P -m pytest "$@" {toy_engine.TINY}')
    return machine


def step(machine: Machine, command: str, **env: str) -> Done:
    given = {**BUILDKITE["env"], "POLICY": "policy.toml", "FLEET": "fleet.toml", **env}
    return machine.run({"run": command}, {}, given)


def command_of(label: str) -> str:
    (command,) = [str(one["command"]) for one in BUILDKITE["steps"] if one.get("label") == label]
    return command


def uploaded(done: Done) -> Mapping[str, str]:
    (only,) = json.loads(done.log.splitlines()[-1])["steps"]
    return dict(only)


def test_buildkite_plans_runs_and_verifies(machine: Machine) -> None:
    planned = step(machine, command_of("attnconf plan"), BUILDKITE_PULL_REQUEST_BASE_BRANCH="base")
    assert planned.status == 0, planned.log
    job = uploaded(planned)
    assert job["agents"] == {"queue": "cpu"}
    assert job["if"].endswith('labels includes "run-gpu"')
    missing = step(machine, command_of("attnconf verify"))
    assert missing.status == 10
    assert "needs runner cpu (labels ubuntu-24.04" in missing.log
    ran = step(machine, job["command"])
    assert ran.status == 0, ran.log
    verified = step(machine, command_of("attnconf verify"))
    assert verified.status == 0, verified.log
    assert (machine.checkout / "attnconf-report" / "report.html").is_file()


def test_buildkite_uploads_no_step_where_nothing_must_be_proven(machine: Machine) -> None:
    branch = step(machine, "git rev-parse --abbrev-ref HEAD").log.strip()
    planned = step(machine, command_of("attnconf plan"), BUILDKITE_PULL_REQUEST_BASE_BRANCH=branch)
    assert planned.status == 0, planned.log
    assert planned.log.splitlines()[-1] == "no required cell must be executed"


def test_buildkite_s_last_step_runs_whatever_became_of_the_others() -> None:
    wait, last = BUILDKITE["steps"][-2:]
    assert wait == {"wait": None, "continue_on_failure": True}
    assert last["label"] == "attnconf verify"
    assert [one for one in BUILDKITE["steps"] if "command" in one and "timeout_in_minutes" not in one] == []


def test_sglang_can_read_the_registration() -> None:
    body = ast.parse(SGLANG.read_text(encoding="utf-8")).body
    calls = [one.value for one in body if isinstance(one, ast.Expr) and isinstance(one.value, ast.Call)]
    (call,) = [one for one in calls if isinstance(one.func, ast.Name) and one.func.id == "register_cuda_ci"]
    assert {one.arg: ast.literal_eval(one.value) for one in call.keywords}.keys() == {
        "est_time",
        "stage",
        "runner_config",
    }


@pytest.mark.parametrize(("arguments", "status"), [([], 0), (["--attnconf-backend=torch_sdpa"], 10)])
def test_sglang_s_file_ends_as_the_suite_does(machine: Machine, arguments: list[str], status: int) -> None:
    before = set(machine.checkout.glob("attnconf-out/sglang-*.json"))
    tiny = shlex.split(toy_engine.TINY)
    done = subprocess.run(  # noqa: S603 - the template
        [sys.executable, str(SGLANG), "-f", *tiny, "--attnconf-policy=policy.toml", *arguments],
        cwd=machine.checkout,
        env={**os.environ, "PYTHONPATH": PYTHONPATH, "SGLANG_IS_IN_CI": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert len(set(machine.checkout.glob("attnconf-out/sglang-*.json")) - before) == 1


def test_sglang_s_runner_is_held_to_its_claim() -> None:
    code = (
        "import sys, pytest, runpy; pytest.main = lambda given: print(*given) or 0;"
        f" runpy.run_path({str(SGLANG)!r}, run_name='__main__')"
    )
    for here, expected in (("true", True), ("", False)):
        env = {**os.environ, "SGLANG_IS_IN_CI": here}
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)  # noqa: S603
        assert ("--attnconf-require-sm=10.x" in done.stdout.split()) == expected
