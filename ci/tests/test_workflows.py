"""The workflows and actions: linted, audited, and held to rules that no linter knows."""

from __future__ import annotations

import re
import subprocess
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from ci.tests.github_steps import ACTIONS, ROOT, WORKFLOWS, load
from ci.tests.pages import blocks

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAMS = Path(sysconfig.get_path("scripts"))
FILES = [*WORKFLOWS, *ACTIONS]
PINNED = re.compile(r"[\w-]+/[\w-]+(/[\w./-]+)?@[0-9a-f]{40} # v\d+\.\d+\.\d+")
OURS = re.compile(r"\$/[\w./-]+")
CALLERS = blocks("yaml")
"""The workflows that the pages show."""

workflows = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
files = pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())


def call(program: str, *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [str(PROGRAMS / program), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=60)  # noqa: S603


def actionlint(*paths: Path, cwd: Path = ROOT) -> str:
    done = call("actionlint", "-no-color", "-shellcheck", str(PROGRAMS / "shellcheck"), *map(str, paths), cwd=cwd)
    return done.stdout + done.stderr


def steps_of(path: Path) -> Iterator[dict[str, Any]]:
    data = load(path)
    for job in data.get("jobs", {"": data.get("runs", {})}).values():
        yield from job.get("steps", ())


def uses_of(path: Path) -> list[str]:
    """Return what stands behind each ``uses:``, with its comment."""
    return re.findall(r"^\s*(?:- )?uses: (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)


def test_actionlint_and_shellcheck_find_nothing() -> None:
    assert actionlint(*WORKFLOWS) == ""


@pytest.mark.parametrize("path", ACTIONS, ids=lambda path: path.parent.name)
def test_actionlint_finds_nothing_in_the_steps_of_an_action(path: Path, tmp_path: Path) -> None:
    data = load(path)
    inputs = {name: {"type": "string", "default": ""} for name in data["inputs"]}
    job = {"runs-on": "ubuntu-24.04", "steps": data["runs"]["steps"]}
    workflow = {"on": {"workflow_call": {"inputs": inputs}}, "jobs": {"action": job}}  # actionlint reads workflows only
    (tmp_path / "action.yml").write_text(yaml.safe_dump(workflow, sort_keys=False), encoding="utf-8")
    assert actionlint(tmp_path / "action.yml") == ""


def test_a_linter_sees_what_is_wrong(tmp_path: Path) -> None:
    text = WORKFLOWS[0].read_text(encoding="utf-8").replace("matrix.python", "matrix.pythons")
    (tmp_path / "wrong.yml").write_text(text + "      - run: echo $UNQUOTED\n", encoding="utf-8")
    told = actionlint(tmp_path / "wrong.yml")
    assert 'property "pythons" is not defined' in told
    assert "SC2086" in told


def test_zizmor_finds_nothing() -> None:
    done = call("zizmor", "--offline", "--quiet", "--color=never", "--format=plain", *map(str, FILES))
    assert done.returncode == 0, done.stdout + done.stderr


@files
def test_every_foreign_action_is_pinned_to_a_commit_with_its_version_beside_it(path: Path) -> None:
    used = uses_of(path)
    assert len(used) == sum("uses" in one for one in [*steps_of(path), *load(path).get("jobs", {}).values()])
    assert [text for text in used if not PINNED.fullmatch(text) and not OURS.fullmatch(text)] == []


def test_an_action_is_of_one_version_everywhere() -> None:
    used = {text for path in FILES for text in uses_of(path) if "@" in text}
    used |= {text for text in re.findall(r"uses: (\S+@.*)$", "\n".join(CALLERS), re.MULTILINE) if "@SHA" not in text}
    assert len(used) == len({text.partition("@")[0] for text in used})


def test_our_own_actions_and_workflows_are_there() -> None:
    used = {text.removeprefix("$/") for path in FILES for text in uses_of(path) if text.startswith("$/")}
    assert used >= {"ci", "ci/install", ".github/workflows/gate.yml"}
    assert [name for name in used if not (ROOT / name).is_file() and not (ROOT / name / "action.yml").is_file()] == []


@workflows
def test_a_token_may_do_nothing_that_a_job_does_not_ask_for(path: Path) -> None:
    data = load(path)
    assert data["permissions"] == {}
    assert [name for name, job in data["jobs"].items() if job.get("permissions") != {"contents": "read"}] == []
    checkouts = [step for step in steps_of(path) if step.get("uses", "").startswith("actions/checkout@")]
    assert [step for step in checkouts if step["with"]["persist-credentials"] is not False] == []


@workflows
def test_no_job_runs_on_and_on_and_no_two_of_a_kind_at_once(path: Path) -> None:
    data = load(path)
    assert [name for name, job in data["jobs"].items() if "uses" not in job and "timeout-minutes" not in job] == []
    assert set(data["concurrency"]) == {"group", "cancel-in-progress"}


@files
def test_scripts_get_what_others_wrote_by_their_environment_alone(path: Path) -> None:
    assert [step["run"] for step in steps_of(path) if "${{" in step.get("run", "")] == []


@files
def test_a_failure_inside_a_pipe_ends_a_script(path: Path) -> None:
    default = load(path).get("defaults", {}).get("run", {}).get("shell")
    assert {step.get("shell", default) for step in steps_of(path) if "run" in step} <= {"bash"}
    assert [step for step in steps_of(path) if "continue-on-error" in step] == []


@files
def test_what_was_found_is_kept_whatever_became_of_the_job(path: Path) -> None:
    uploads = [step for step in steps_of(path) if step.get("uses", "").startswith("actions/upload-artifact@")]
    assert [step for step in uploads if step.get("if") != "always()"] == []


@pytest.mark.parametrize("path", ACTIONS, ids=lambda path: path.parent.name)
def test_each_input_of_an_action_is_described_and_used(path: Path) -> None:
    data = load(path)
    used = set(re.findall(r"inputs\.([\w-]+)", yaml.safe_dump(data["runs"], width=10**6)))
    assert used == set(data["inputs"])
    assert [name for name, field in data["inputs"].items() if set(field) != {"description", "default"}] == []


def test_the_last_job_of_the_gate_is_never_skipped() -> None:
    jobs = load(ROOT / ".github" / "workflows" / "gate.yml")["jobs"]
    last = list(jobs)[-1]
    assert jobs[last]["needs"] == list(jobs)[:-1]
    assert jobs[last]["if"] == "always()"


@pytest.mark.parametrize("text", CALLERS, ids=lambda text: text.partition("\n")[0])
def test_the_pages_workflows_call_what_is_there(text: str, tmp_path: Path) -> None:
    (tmp_path / "caller.yml").write_text(text.replace("@SHA", f"@{'0' * 40}"), encoding="utf-8")
    assert actionlint(tmp_path / "caller.yml") == ""
    calls = re.findall(r"uses: (OWNER/attnconf/\S+)@SHA", text)
    assert calls
    for job in load(tmp_path / "caller.yml")["jobs"].values():
        for one in [job, *job.get("steps", ())]:
            name = re.fullmatch(r"OWNER/attnconf/(.*)@0+", one.get("uses", ""))
            if name is None:
                continue
            place = ROOT / name[1]
            inputs = (
                load(place / "action.yml")["inputs"] if place.is_dir() else load(place)["on"]["workflow_call"]["inputs"]
            )
            given = set(one.get("with", {}))
            assert given <= set(inputs)
            assert {key for key, field in inputs.items() if field.get("required")} <= given


def test_the_pages_have_a_caller_of_the_gate_and_one_of_the_action() -> None:
    calls = re.findall(r"uses: OWNER/attnconf/(\S+)@SHA", "\n".join(CALLERS))
    assert {".github/workflows/gate.yml", "ci"} <= set(calls)
