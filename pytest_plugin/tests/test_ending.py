"""However a run ends, it leaves a receipt of its own, which is red unless the run says otherwise; it ends so, too."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from attnconf.gate.receipt import Receipt

if TYPE_CHECKING:
    from collections.abc import Callable

    Inner = Callable[..., pytest.RunResult]

pytest_plugins = ["pytester"]

OPTIONS = ("-p", "attnconf", "-p", "no:cacheprovider", "--attnconf-receipt=r.json")
KILLED = "import os, signal\n{where}os.kill(os.getpid(), signal.{name})\n"
START = "def pytest_configure():\n    "
ENDS = {
    "SIGKILL": (KILLED.format(where=START, name="SIGKILL"), -9),
    "SIGTERM": (KILLED.format(where="", name="SIGTERM"), -15),
    "SIGSEGV": (KILLED.format(where=START, name="SIGSEGV"), -11),
    "os._exit": ("import os\nos._exit(0)\n", 2),
    "os._exit later": (f"import os\n{START}os._exit(0)\n", 2),
    "another main": ("def pytest_cmdline_main(config):\n    return 0\n", 2),
    "an exit for main": ("def pytest_cmdline_main(config):\n    raise SystemExit\n", 2),
    "stopped at the start": (f"import pytest\n{START}pytest.exit('no', returncode=0)\n", 2),
}


@pytest.mark.parametrize("name", ENDS)
def test_a_run_that_ends_early_leaves_a_red_receipt(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    conftest, status = ENDS[name]
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    pytester.makeconftest(conftest)
    pytester.makepyfile("def test_it():\n    pass")
    (pytester.path / "r.json").write_text("an older one")
    result = pytester.runpytest_subprocess(*OPTIONS)
    assert result.ret == status
    receipt = Receipt.read(pytester.path / "r.json")
    assert (receipt.state, receipt.exit_status, receipt.cells) == ("begun", None, ())
    assert [path.name for path in pytester.path.glob("*r.json*")] == ["r.json"]


def test_a_child_may_leave_with_0(inner: Inner, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import os

        def test_it():
            child = os.fork()
            if not child:
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
    """
    )
    assert inner("--attnconf-receipt=r.json", "test_a_child_may_leave_with_0.py").ret == 0
    assert Receipt.read(pytester.path / "r.json").exit_status == 0


@pytest.mark.parametrize("way", ["PYTEST_ADDOPTS", "pytest.ini"])
def test_the_option_is_known_wherever_it_is_given(
    inner: Inner, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    options = "--attnconf-receipt r.json"
    if way == "PYTEST_ADDOPTS":
        monkeypatch.setenv("PYTEST_ADDOPTS", options)
    else:
        pytester.makeini(f"[pytest]\naddopts = {options}")
    (pytester.path / "r.json").write_text("an older one")
    assert inner("--no-such-option").ret == pytest.ExitCode.USAGE_ERROR
    assert Receipt.read(pytester.path / "r.json").state == "begun"


def test_a_run_without_the_option_leaves_receipts_alone(inner: Inner, pytester: pytest.Pytester) -> None:
    (pytester.path / "r.json").write_text("an older one")
    assert inner("--no-such-option", "--", "--attnconf-receipt=r.json").ret == pytest.ExitCode.USAGE_ERROR
    assert (pytester.path / "r.json").read_text() == "an older one"


def test_a_link_stays_one(replay: Inner, pytester: pytest.Pytester) -> None:
    (pytester.path / "r.json").symlink_to("real.json")
    assert replay("--attnconf-backend=good", "--attnconf-receipt=r.json").ret == 0
    assert (pytester.path / "r.json").is_symlink()
    assert Receipt.read(pytester.path / "real.json").exit_status == 0


def test_a_name_that_no_file_can_have_is_one_sentence(inner: Inner) -> None:
    result = inner(f"--attnconf-receipt={'x' * 999}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --attnconf-receipt: xxx* cannot be written (File name too long); allowed: *"])


def test_a_device_is_not_replaced(inner: Inner) -> None:
    assert inner("--no-such-option", "--attnconf-receipt=/dev/null").ret == pytest.ExitCode.USAGE_ERROR
    assert not Path("/dev/null").is_file()
