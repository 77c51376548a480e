"""The pages are executed: their commands run, their files work, the failure message is the one that comes."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from attnconf.cli import main as cli
from ci.tests.pages import PAGES, ROOT, blocks, dead_links, links
from conformance.tests.support.gate_repository import git

RUN_ELSEWHERE = {
    'pip install ".[triton,report]" pytest-xdist': "ci/check wheel, which builds the wheel and installs it",
    "make conformance": "ci/check smoke",
    (
        "attnconf bench --candidate trtllm_mha --over triton --over flashinfer_fa2 --model gemma4-31b --seconds 600"
        " -o speed.json --picture speed.png"
    ): "a GPU; test_bench.py runs all of it but the launch and its clock",
    "make test": "ci/check tests, of which this test is a part",
    "pytest -p attnconf --pyargs attnconf.suite --attnconf-profile=gate --attnconf-receipt=r.json -n 2": (
        "minutes: test_the_gate_command runs it for one backend, one model and one family"
    ),
}
"""Commands that no test here runs as they stand, and what does."""

SHORTENED = {
    "attnconf build --dry-run --profile gate --backend trtllm_mha --sm 9.0 --budget inf": ("--profile", "smoke"),
    "attnconf mutants --profile smoke --only window-one-more --only semaphore-left-set": ("--model", "gemma4-e2b"),
}
"""Commands that run with more arguments than the page's: drawing all that they ask takes most of their time.

The tests of trtllm_mha's builds plan for the gate's cases, and the tests of mutants hunt with every model.
"""

FAILING = "--attnconf-backend=mine"
CLAIMING = "--attnconf-require-sm=10.0"

COMMANDS = [line for block in blocks("shell") for line in block.splitlines()]
PYTEST = [line for line in COMMANDS if line.startswith("pytest ") and line not in RUN_ELSEWHERE]
ATTNCONF = [line for line in COMMANDS if line.startswith("attnconf ") and line not in RUN_ELSEWHERE]


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run one of a page's commands of pytest in ``folder``, in a process of its own."""
    name, *arguments = shlex.split(command)
    assert name == "pytest"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    return subprocess.run(  # noqa: S603 - the commands are the pages'
        [sys.executable, "-m", "pytest", *arguments],
        cwd=folder,
        env={**environment, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a user's directory: the pages' Python files, a config.json, and what the first commands leave behind."""
    place = tmp_path_factory.mktemp("user")
    for text in blocks("python"):
        (place / text.splitlines()[0].removeprefix("# ")).write_text(text, encoding="utf-8")
    config = {"model_type": "llama", "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    (place / "config.json").write_text(json.dumps({**config, "head_dim": 64}), encoding="utf-8")
    result = {"backend": "sglang", "completed": 2, "errors": ["", ""]}  # of bench_serving with --output-details
    (place / "bench.jsonl").write_text(json.dumps(result) + "\n", encoding="utf-8")
    (place / "fleet.toml").write_bytes((ROOT / "ci" / "fleet.toml").read_bytes())
    (place / "speed.json").write_bytes((ROOT / "fixtures" / "simulated" / "speed.json").read_bytes())
    (place / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    git(place, "init", "-q")  # a plan is of a commit
    git(place, "add", ".")
    git(place, "commit", "-qm", "one")
    return place


@pytest.fixture(scope="module")
def failure(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run README's broken backend; it leaves the failing case behind."""
    return run(next(line for line in COMMANDS if FAILING in line), folder)


@pytest.fixture(scope="module")
def gate(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the gate's command on little; it leaves the receipt behind."""
    command = next(line for line in COMMANDS if "--attnconf-profile=gate" in line)
    return run(f"{command} --attnconf-backend=reference --attnconf-model=gemma4-e2b -k windows", folder)


def has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def test_every_command_is_executed_or_said_not_to_be() -> None:
    assert {*RUN_ELSEWHERE, *SHORTENED} <= set(COMMANDS)
    assert {shlex.split(line)[0] for line in COMMANDS} == {"make", "pip", "pytest", "attnconf"}


def test_the_gate_command(gate: subprocess.CompletedProcess[str]) -> None:
    assert gate.returncode == 0, gate.stdout
    assert "1 passed" in gate.stdout


def test_the_command_of_a_broken_backend(failure: subprocess.CompletedProcess[str]) -> None:
    assert failure.returncode == 1, failure.stdout + failure.stderr
    assert "Traceback" not in failure.stdout + failure.stderr


@pytest.mark.parametrize("command", [line for line in PYTEST if FAILING not in line and CLAIMING not in line])
def test_command_of_pytest(command: str, folder: Path) -> None:
    done = run(command, folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize("command", ATTNCONF)
@pytest.mark.usefixtures("gate", "failure")
def test_command(
    command: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run in this process: the tests of the action and of the third party's package start the program itself."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "200")
    status = cli.main([*shlex.split(command)[1:], *SHORTENED.get(command, ())])
    printed = "".join(capsys.readouterr())
    assert status == 0, printed
    assert "Traceback" not in printed


def test_a_runner_that_is_not_what_it_claims(folder: Path) -> None:
    (command,) = [line for line in COMMANDS if CLAIMING in line]
    done = run(command.replace(CLAIMING, "--attnconf-require-sm=8.7"), folder)  # no machine that runs this is one
    assert done.returncode == 12
    assert "8.7" in done.stdout + done.stderr


def test_the_tests_of_your_own_repository(folder: Path) -> None:
    done = run("pytest -p attnconf -rs test_attention.py", folder)
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout
    if not has_gpu():
        assert "1 not_run" in done.stdout


def shape(message: str) -> list[str]:
    """Return the lines of a failure message without what differs between machines: numbers, ids, the folder."""
    without_paths = re.sub(r"\S*attnconf-failures/\S+", "PATH", message.strip())
    return [
        re.sub(r"@tp\d+|@slice|[0-9a-f]{12}|-?\d+(\.\d+)?", "N", line).rstrip() for line in without_paths.splitlines()
    ]


def test_the_failure_message_is_the_one_that_comes(failure: subprocess.CompletedProcess[str]) -> None:
    (shown,) = [text for text in blocks("text") if text.startswith("mine fails case")]
    start = failure.stdout.index("mine fails case")
    end = failure.stdout.index("\n", failure.stdout.index("\nreplay: "))
    assert shape(failure.stdout[start:end]) == shape(shown)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    assert dead_links(page) == []


def test_the_first_page_leads_to_every_other() -> None:
    assert {(ROOT / link.partition("#")[0]).resolve() for link in links(ROOT / "README.md")} >= {
        page for page in PAGES if page.name == "README.md" and page.parent != ROOT
    }


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Two words!\n\n[a](#two-words) [b](#three) [c](gone.md) [d](https://example.org/x)\n")
    assert dead_links(page) == ["#three", "gone.md"]
