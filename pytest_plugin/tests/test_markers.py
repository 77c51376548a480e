"""The markers sm100 and requires_sm, on machines that are and are not what they name."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest

from attnconf.platforms import Platform, installed_packages

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.gate.receipt import Receipt

    Inner = Callable[..., pytest.RunResult]

pytest_plugins = ["pytester"]

NO_GPU = Platform()
HOPPER = Platform(device="H100", sm=(9, 0), cuda="13.0")
BLACKWELL = Platform(device="B300", sm=(10, 3), cuda="13.0")
TESTS = """
    import pytest

    @pytest.mark.sm100
    def test_sm100():
        pass

    @pytest.mark.requires_sm("9.0", "12.x")
    def test_either():
        pass

    @pytest.mark.requires_sm("9.x")
    @pytest.mark.requires_sm("9.0")
    def test_both_hold():
        pass

    @pytest.mark.sm100
    @pytest.mark.requires_sm("9.0")
    class TestNever:
        def test_never(self):
            pass

    def test_free():
        pass
"""


def on(monkeypatch: pytest.MonkeyPatch, platform: Platform) -> None:
    """Make ``platform`` the machine of the inner run."""
    monkeypatch.setattr("attnconf.platforms.detect", lambda: platform)


@pytest.mark.parametrize(
    ("platform", "run"),
    [
        (NO_GPU, {"free"}),
        (HOPPER, {"either", "both_hold", "free"}),
        (BLACKWELL, {"sm100", "free"}),
    ],
    ids=["none", "hopper", "blackwell"],
)
def test_a_gated_test_runs_where_every_mark_holds(
    inner: Inner, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, platform: Platform, run: set[str]
) -> None:
    on(monkeypatch, platform)
    pytester.makepyfile(test_gated=TESTS)
    result = inner("test_gated.py", "-rA", "--strict-markers")
    assert result.ret == 0
    passed = {line.rpartition("::test_")[2] for line in result.outlines if line.startswith("PASSED")}
    assert passed == run
    assert result.parseoutcomes()["not_run"] == 5 - len(run)


def test_the_reason_is_in_the_summary_and_in_junit(
    inner: Inner, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(monkeypatch, NO_GPU)
    pytester.makepyfile(test_gated=TESTS)
    result = inner("test_gated.py", "--junitxml=j.xml", "-v")
    result.stdout.fnmatch_lines(
        [
            "test_gated.py::test_sm100 NOT_RUN*",
            "not_run: 1 test: needs SM 10.x, this machine has no GPU",
            "not_run: 1 test: needs SM 9.0 or 12.x, this machine has no GPU",
            "not_run: 1 test: needs SM 9.0 and SM 9.x, this machine has no GPU",
            "not_run: 1 test: needs SM 9.0 and SM 10.x, this machine has no GPU",
        ]
    )
    tests = {one.get("name"): one for one in ET.parse("j.xml").getroot().iter("testcase")}  # noqa: S314 - our own file
    assert tests["test_sm100"].find("skipped").get("message") == "not_run: needs SM 10.x, this machine has no GPU"
    properties = {one.get("name"): one.get("value") for one in tests["test_sm100"].iter("property")}
    assert json.loads(properties.pop("attnconf.reasons")) == [["needs SM 10.x, this machine has no GPU", ""]]
    assert properties == {"attnconf.gated": "SM 10.x", "attnconf.outcome": "not_run"}


def test_other_hardware_is_named(inner: Inner, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, HOPPER)
    pytester.makepyfile(test_gated=TESTS)
    result = inner("test_gated.py")
    result.stdout.fnmatch_lines(["not_run: 2 tests: needs SM 10.x, this machine has SM 9.0 (H100)"])


@pytest.mark.parametrize(
    ("mark", "sentence"),
    [
        (
            "requires_sm",
            'marker requires_sm takes one or more compute capabilities, such as requires_sm("9.0", "12.x")',
        ),
        ("requires_sm()", "marker requires_sm takes one or more compute capabilities*"),
        ("requires_sm(sm='9.0')", "marker requires_sm takes one or more compute capabilities*"),
        ("requires_sm(9.0)", "marker requires_sm: sm.0 is 9.0; *a text such as*"),
        ("requires_sm('sm90')", "marker requires_sm: sm.0 is 'sm90'; *a text such as*"),
        ("sm100('10.0')", "marker sm100 takes no arguments; use requires_sm to name compute capabilities"),
    ],
)
def test_a_mark_that_names_nothing_is_an_error(
    inner: Inner, pytester: pytest.Pytester, mark: str, sentence: str
) -> None:
    pytester.makepyfile(test_gated=f"import pytest\n\n@pytest.mark.{mark}\ndef test_it():\n    pass\n")
    result = inner("test_gated.py")
    assert result.ret == 1
    assert result.parseoutcomes() == {"errors": 1}
    result.stdout.fnmatch_lines([sentence])


def test_the_suites_own_sm100_tests_are_counted_as_not_run(
    inner: Inner, receipt: Receipt, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(monkeypatch, Platform(packages=installed_packages()))
    options = ("--attnconf-profile=smoke", "--attnconf-model=gemma4-e2b", "--attnconf-backend=trtllm_mha")
    result = inner("--pyargs", "attnconf.suite", *options, "-k", "trtllm_gen", "--attnconf-receipt=r.json")
    assert result.ret == 10
    assert result.parseoutcomes()["not_run"] == 2
    reason = "not_run: needs SM 10.x, this machine has no GPU"
    assert {text for cell in receipt.cells for text in cell.reasons} == {reason}
    assert {cell.mode for cell in receipt.cells} == {"decode", "extend"}
    assert all(cell.backend == "trtllm_mha" and cell.not_run and not cell.executed for cell in receipt.cells)
