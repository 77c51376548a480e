"""Exit statuses 10, 11 and 12: a policy not met, a policy invalid, an environment that is not what was claimed."""

from __future__ import annotations

import errno
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from attnconf.platforms import Platform

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.cases.case import Case
    from attnconf.gate.receipt import Receipt

    Inner = Callable[..., pytest.RunResult]

pytest_plugins = ["pytester"]

BLACKWELL = Platform(device="B200", sm=(10, 0), cuda="13.0")
RETRIER = """
def pytest_addoption(parser):
    parser.addoption("--{option}", dest="{dest}", type=int, default=0)
"""


def test_a_policy_is_met_by_a_passed_cell(replay: Inner, policy: str, receipt: Receipt) -> None:
    result = replay("--attnconf-backend=good", f"--attnconf-policy={policy}", "--attnconf-receipt=r.json")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "attnconf: policy toy (*)",
            "attnconf:   LlamaForCausalLM on *: good, by rule otherwise",
            "policy toy is met on this platform",
            "elsewhere: paper needs a receipt from SM 10.x: 1 required cell for LlamaForCausalLM, by rule blackwell",
        ]
    )
    assert receipt.policy.name == "toy"
    assert len(receipt.policy.digest) == 64


@pytest.mark.parametrize(
    ("backend", "status", "sentence"),
    [
        ("reference", 10, "good llama3-8b full decode is not proven: 0 layers passed, 1 needed (no case asked)"),
        ("paper", 10, "good llama3-8b full decode is not proven: 0 layers passed, 1 needed (no case asked)"),
        ("wrong", 1, "good llama3-8b full decode is not proven: 0 layers passed, 1 needed (no case asked)"),
    ],
)
def test_a_policy_that_is_not_proven_is_red(
    replay: Inner, policy: str, backend: str, status: int, sentence: str
) -> None:
    result = replay(f"--attnconf-backend={backend}", f"--attnconf-policy={policy}")
    assert result.ret == status
    result.stdout.fnmatch_lines(["policy toy is NOT met: 1 requirement", f"NOT MET: {sentence}"])


def test_a_simulated_platform_is_resolved_and_never_executed(replay: Inner, policy: str, receipt: Receipt) -> None:
    options = ("--attnconf-backend=good", "--attnconf-backend=paper", "--attnconf-sm=10.0")
    result = replay(*options, f"--attnconf-policy={policy}", "--attnconf-receipt=r.json")
    assert result.ret == 10
    result.stdout.fnmatch_lines(
        [
            "attnconf: no GPU; *",
            "attnconf:   LlamaForCausalLM on SM 10.0 * (simulated): paper, by rule blackwell",
            "NOT MET: paper needs a receipt from SM 10.0: none of its 1 required cells can be proven on a simulated*",
        ]
    )
    assert receipt.platform.sm is None
    assert {cell.backend: cell.passed for cell in receipt.cells} == {"good": 1, "paper": 0}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "*toy.toml: cannot be read (No such file or directory)"),
        ("schema = ", "*toy.toml: *; allowed: a TOML document"),
        ('schema = "attnconf.policy/9"', "*toy.toml: *"),
    ],
)
def test_an_invalid_policy_is_11(replay: Inner, pytester: pytest.Pytester, text: str | None, sentence: str) -> None:
    if text is not None:
        (pytester.path / "toy.toml").write_text(text)
    result = replay("--attnconf-policy=toy.toml", "--attnconf-backend=good")
    assert result.ret == 11
    result.stderr.fnmatch_lines([f"Exit: attnconf: policy invalid: {sentence}"])
    assert "Traceback" not in result.stderr.str()


def test_a_policy_with_a_hole_is_11_before_anything_runs(replay: Inner, policy: str, pytester: pytest.Pytester) -> None:
    path = pytester.path / policy
    path.write_text(path.read_text().replace('name = "otherwise"', 'name = "otherwise"\nsm = ["9.x"]'))
    result = replay("--attnconf-backend=good", f"--attnconf-policy={policy}")
    assert result.ret == 11
    result.stderr.fnmatch_lines(["Exit: attnconf: policy invalid: toy.toml: LlamaForCausalLM: no rule takes no GPU;*"])
    result.stdout.no_fnmatch_line("*passed*")


WAIVER = """
[[waivers]]
models = ["llama3-8b"]
issue = "owner/repository#7"
owner = "kernels"
expires = {expires}
"""


@pytest.mark.parametrize(
    ("backend", "expires", "sentence"),
    [
        ("good", "2999-01-01", "good llama3-8b full decode is proven, so the waiver of owner/repository#7 * must no *"),
        ("paper", "2999-01-01", "LlamaForCausalLM on no GPU: good, by rule otherwise: not one required cell of good *"),
    ],
)
def test_a_waiver_makes_no_green(  # noqa: PLR0913 - fixtures and a case
    replay: Inner, policy: str, pytester: pytest.Pytester, backend: str, expires: str, sentence: str
) -> None:
    path = pytester.path / policy
    path.write_text(path.read_text() + WAIVER.format(expires=expires))
    result = replay(f"--attnconf-backend={backend}", f"--attnconf-policy={policy}")
    assert result.ret == 10
    result.stdout.fnmatch_lines(["policy toy is NOT met: 1 requirement", f"NOT MET: {sentence}"])


def test_an_unknown_policy_is_11(replay: Inner) -> None:
    result = replay("--attnconf-policy=gemma9")
    assert result.ret == 11
    result.stderr.fnmatch_lines(["Exit: attnconf: policy invalid: *gemma9*; allowed: *sglang-gemma4*"])


@pytest.mark.parametrize(("claim", "status"), [("10.0", 0), ("10.x", 0), ("10.3", 12), ("9.0", 12)])
def test_the_claim_is_compared_with_the_machine(
    inner: Inner, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, claim: str, status: int
) -> None:
    monkeypatch.setattr("attnconf.platforms.detect", lambda: BLACKWELL)
    pytester.makepyfile("import pytest\n\n@pytest.mark.sm100\ndef test_it():\n    pass\n")
    result = inner(f"--attnconf-require-sm={claim}")
    assert result.ret == status
    if status:
        sentence = f"Exit: attnconf: this runner claims SM {claim}, but the machine is B200, SM 10.0"
        result.stderr.fnmatch_lines([sentence])


def test_on_a_claimed_machine_a_missing_backend_is_12_and_another_gate_is_not(
    inner: Inner, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, toy_case: Case
) -> None:
    monkeypatch.setattr("attnconf.platforms.detect", lambda: BLACKWELL)
    pytester.makepyfile(
        test_gated="import pytest\n\n@pytest.mark.requires_sm('9.0')\ndef test_hopper():\n    pass\n",
        test_missing=f"""
            from attnconf import Case

            def test_missing(attnconf):
                attnconf.check(Case.model_validate({toy_case.to_data()!r}), backend="missing")
        """,
    )
    assert inner("--attnconf-require-sm=10.0", "test_gated.py").ret == 0
    result = inner("--attnconf-require-sm=10.0", "test_missing.py")
    assert result.ret == 12
    claim = "NOT MET: this runner claims SM 10.0, but test_missing.py::test_missing did not run: missing needs libfoo*"
    result.stdout.fnmatch_lines([claim])


@pytest.mark.parametrize(
    ("option", "dest", "plugin"),
    [
        ("reruns", "reruns", "pytest-rerunfailures"),
        ("retries", "retries", "pytest-retry"),
        ("force-flaky", "force_flaky", "flaky"),
    ],
)
def test_retries_are_refused_unless_allowed(
    replay: Inner, pytester: pytest.Pytester, option: str, dest: str, plugin: str
) -> None:
    conftest = pytester.path / "conftest.py"
    conftest.write_text(conftest.read_text() + RETRIER.format(option=option, dest=dest))
    assert replay("--attnconf-backend=good").ret == 0
    refused = replay("--attnconf-backend=good", f"--{option}=2")
    assert refused.ret == 12
    refused.stderr.fnmatch_lines([f"Exit: attnconf: a retry turns *{plugin}*--attnconf-allow-retries"])
    assert replay("--attnconf-backend=good", f"--{option}=2", "--attnconf-allow-retries").ret == 0


def test_a_retry_by_marker_is_red_and_every_attempt_counts(
    inner: Inner, pytester: pytest.Pytester, toy_case: Case
) -> None:
    conftest = pytester.path / "conftest.py"
    conftest.write_text(
        conftest.read_text()
        + """
import pytest
from _pytest.runner import runtestprotocol

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    reports = runtestprotocol(item, nextitem=nextitem, log=False)
    if any(report.failed for report in reports):
        for report in reports:
            report.outcome = "rerun" if report.failed else report.outcome
            item.ihook.pytest_runtest_logreport(report=report)
        item._initrequest()
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    return True
"""
    )
    pytester.makepyfile(
        test_flaky=f"""
        from attnconf import Case

        ATTEMPTS = ["good", "wrong"]

        def test_flaky(attnconf):
            attnconf.check(Case.model_validate({toy_case.to_data()!r}), backend=ATTEMPTS.pop())
    """
    )
    result = inner("test_flaky.py", "--attnconf-receipt=r.json")
    assert result.ret == 12
    result.stdout.fnmatch_lines(["*2 layers judged*, 1 broken", "NOT MET: test_flaky.py::test_flaky was run again*"])
    allowed = inner("test_flaky.py", "--attnconf-receipt=r.json", "--attnconf-allow-retries")
    assert allowed.ret == 1
    allowed.stdout.fnmatch_lines(["NOT MET: 1 layer of wrong is broken, but no test failed: *"])


def test_a_receipt_that_cannot_be_written_is_said(replay: Inner, pytester: pytest.Pytester) -> None:
    (pytester.path / "taken").write_text("a file")
    result = replay("--attnconf-backend=good", "--attnconf-receipt=taken/r.json")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: --attnconf-receipt: taken/r.json cannot be written (*); allowed: a file to write"]
    )
    result.stdout.no_fnmatch_line("*collected*")


def test_a_receipt_that_can_no_longer_be_written_is_said(
    replay: Inner, pytester: pytest.Pytester, receipt: Receipt, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    conftest = pytester.path / "conftest.py"
    hook = "def pytest_collection_modifyitems():\n    from attnconf.gate.receipt import Receipt\n    Receipt.full()\n"
    conftest.write_text(f"{conftest.read_text()}\n{hook}")
    full_disk = staticmethod(lambda: monkeypatch.setattr("attnconf.gate.sealed.Sealed.write", full))
    monkeypatch.setattr("attnconf.gate.receipt.Receipt.full", full_disk, raising=False)
    result = replay("--attnconf-backend=good", "--attnconf-receipt=r.json")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(["NOT MET: the receipt *r.json cannot be written: No space left on device"])
    assert receipt.state == "begun"


def test_the_command_line_sees_the_status(pytester: pytest.Pytester, toy_case: Case) -> None:
    del toy_case
    command = [sys.executable, "-m", "pytest", "-p", "attnconf", "--attnconf-require-sm=12.x"]
    done = subprocess.run(command, cwd=pytester.path, capture_output=True, text=True, check=False)  # noqa: S603 - no shell
    assert done.returncode == 12
    assert done.stderr.strip() == "Exit: attnconf: this runner claims SM 12.x, but the machine has no GPU"
