"""A run as a job of the plan of a change; that run and gate agree on the whole is asked in test_false_greens.py."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from attnconf.cli import main as cli

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.gate.receipt import Receipt

    Inner = Callable[..., pytest.RunResult]

pytest_plugins = ["pytester"]

FLEET = """
schema = "attnconf.fleet/1"
[[runners]]
name = "cpu"
labels = ["ubuntu-24.04"]
[[runners]]
name = "b200"
labels = ["b200"]
sm = "10.0"
cuda = "13.0"
"""
JOB = ("--attnconf-policy=toy.toml", "--attnconf-plan=plan.json", "--attnconf-job=cpu", "--attnconf-receipt=r.json")
VERIFY = (
    "verify",
    "--policy",
    "toy.toml",
    "--plan",
    "plan.json",
    "--fleet",
    "fleet.toml",
    "--diff",
    "HEAD~1",
    "r.json",
)


@pytest.fixture
def planned(pytester: pytest.Pytester, policy: str, replay: Inner) -> None:
    """A repository whose last commit brought the default ``good``, and the plan of that change."""
    del replay  # what it registers backends with is committed, too
    path = pytester.path / policy
    text = path.read_text()
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@t"]
    (pytester.path / "fleet.toml").write_text(FLEET)
    path.write_text(text.replace("good = {}", "good = {}, old = {}").replace('backend = "good"', 'backend = "old"'))
    subprocess.run([*git, "init", "-q"], check=True)  # noqa: S603 - fixed arguments
    for change in ("before", "after"):
        subprocess.run([*git, "add", "toy.toml", "fleet.toml", "conftest.py"], check=True)  # noqa: S603 - fixed arguments
        subprocess.run([*git, "commit", "-qm", change], check=True)  # noqa: S603 - fixed arguments
        path.write_text(text)
    call = ["plan", "--policy", "toy.toml", "--fleet", "fleet.toml", "--diff", "HEAD~1", "-o", "plan.json"]
    assert cli.main(call) == 0


@pytest.mark.usefixtures("planned")
@pytest.mark.parametrize(("backend", "run", "gate"), [("good", 0, 0), ("wrong", 1, 10), ("paper", 10, 10)])
def test_a_run_and_the_gate_agree(  # noqa: PLR0913 - fixtures and a case
    replay: Inner, receipt: Receipt, capsys: pytest.CaptureFixture[str], backend: str, run: int, gate: int
) -> None:
    result = replay(f"--attnconf-backend={backend}", *JOB)
    assert result.ret == run, result.stdout.str()
    assert receipt.job == "cpu"
    capsys.readouterr()
    assert cli.main(VERIFY) == gate, capsys.readouterr().out


@pytest.mark.usefixtures("planned")
@pytest.mark.parametrize(
    ("options", "status", "sentence"),
    [
        (JOB[:2], 4, "--attnconf-plan*together*"),
        (JOB[1:], 4, "--attnconf-plan*together*"),
        ((*JOB[:2], "--attnconf-job=b300"), 4, "--attnconf-job: 'b300'; allowed: cpu"),
        (("--attnconf-policy=sglang-gemma4", *JOB[1:]), 4, "*of another policy*"),
    ],
)
def test_a_plan_that_this_run_is_no_job_of(replay: Inner, options: tuple[str, ...], status: int, sentence: str) -> None:
    result = replay("--attnconf-backend=good", *options)
    assert result.ret == status
    result.stderr.fnmatch_lines([f"*{sentence}"])


@pytest.mark.usefixtures("planned")
def test_a_machine_that_is_not_the_job_s_runner_is_12(replay: Inner) -> None:
    assert cli.main(["plan", "--policy", "toy.toml", "--fleet", "fleet.toml", "-o", "plan.json"]) == 0
    result = replay("--attnconf-backend=good", *JOB[:2], "--attnconf-job=b200")
    assert result.ret == 12
    result.stderr.fnmatch_lines(["Exit: attnconf: this is not runner b200 of the plan: SM none, not 10.0*"])
