"""What the doctor says of backends that other packages bring: a sentence for each that is broken, never a traceback."""

from __future__ import annotations

import importlib.metadata
import json
from typing import TYPE_CHECKING

import pytest

from attnconf.backends.registry import Registry
from attnconf.cases.drawing.profiles import profile_named
from attnconf.cli import main as cli
from attnconf.cli.statuses import EXIT_FAILED
from attnconf.platforms import detect
from attnconf.running.session import Session
from conformance.tests.support.broken_packages import BROKEN, Package, Site, member
from conformance.tests.support.wrecking_packages import FAILING, UNAVAILABLE, WORKING

if TYPE_CHECKING:
    from pathlib import Path

WRONG = {
    "affirming": (
        "def supports(self, shape, platform): return True",
        "in supports: TypeError: it returned True, and neither None nor Unsupported(reason)",
    ),
    "silent": (
        "def prepare(self, batch): return Silent()",
        "RuntimeError: run returned None, and not the name of the kernel that ran",
    ),
    "nameless": (
        "def prepare(self, batch): return Silent('')",
        "RuntimeError: run returned '', and not the name of the kernel that ran",
    ),
    "unready": (
        "def prepare(self, batch): return None",
        "AttributeError: 'NoneType' object has no attribute 'run'",
    ),
    "unsure": (
        "def numerics(self, shape): return None",
        "in numerics: AttributeError: 'NoneType' object has no attribute",
    ),
}
"""One line of a backend's class each, and what comes of it when it is asked."""

SILENT = """
class Silent:
    def __init__(self, kernel=None):
        self.kernel = kernel

    def run(self, layer, out, lse):
        out.zero_()
        return self.kernel
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A folder of installed packages."""
    return Site(tmp_path, monkeypatch)


def found(capsys: pytest.CaptureFixture[str], *, status: int) -> dict[str, dict[str, str]]:
    """Run ``attnconf doctor --json`` and return its findings by backend."""
    assert cli.main(["doctor", "--json"]) == status
    printed = capsys.readouterr()
    assert "Traceback" not in printed.out + printed.err
    return {one["name"]: one for one in json.loads(printed.out)["backends"]}


def test_each_broken_package_is_explained(
    site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sentences = {name: site.install(name, package) for name, package in BROKEN.items()}
    monkeypatch.setattr(Registry, "names", (*BROKEN, "reference"))
    findings = found(capsys, status=0)
    assert {name: findings[name]["detail"] for name in BROKEN} == sentences
    assert {findings[name]["status"] for name in BROKEN} == {"unavailable"}
    assert findings["reference"]["status"] == "works"


def test_a_backend_that_misbehaves_when_it_is_asked_fails(
    site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, (line, _) in WRONG.items():
        site.install(name, Package(SILENT + member(line), ""))
    monkeypatch.setattr(Registry, "names", tuple(WRONG))
    findings = found(capsys, status=EXIT_FAILED)
    assert {findings[name]["status"] for name in WRONG} == {"fails"}
    for name, (_, says) in WRONG.items():
        assert findings[name]["detail"].startswith(f"crashed: {says}")


def test_a_backend_whose_process_does_not_start(
    site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its module comes up here, and ends the process of its own."""
    dying = "import multiprocessing, os\nif multiprocessing.parent_process(): os._exit(7)\n" + member("pass")
    site.install("dying", Package(dying, ""))
    session = Session(platform=detect(), profile=profile_named("replay"), isolate=True)
    monkeypatch.setattr(type(session.registry), "names", ("dying", "reference"))
    monkeypatch.setattr("attnconf.cli.doctor.make_session", lambda: session)
    findings = found(capsys, status=0)
    assert findings["dying"]["status"] == "unavailable"
    assert findings["dying"]["detail"] == "the process of backend dying: died at its start (exit status 7)"


def test_what_a_backend_does_to_its_process_is_a_finding(
    site: Site, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The doctor itself stands, says one sentence of each, and prints JSON and nothing else."""
    wrecks = UNAVAILABLE | FAILING | WORKING
    for name, package in wrecks.items():
        site.install(name, package)
    monkeypatch.setattr(Registry, "names", (*wrecks, "reference"))
    monkeypatch.setattr("attnconf.running.doctor.START_SECONDS", 5.0)
    monkeypatch.setattr("attnconf.running.doctor.CASE_SECONDS", 5.0)
    findings = found(capfd, status=EXIT_FAILED)
    for status, packages in (
        ("unavailable", UNAVAILABLE),
        ("fails", FAILING),
        ("works", {**WORKING, "reference": None}),
    ):
        assert {name: findings[name]["status"] for name in packages} == dict.fromkeys(packages, status), findings
    for name, package in (UNAVAILABLE | FAILING).items():
        assert findings[name]["detail"].startswith(package.says.replace("{name}", name)), findings[name]


def test_what_works_comes_first_and_what_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert next(i for i, line in enumerate(lines) if line.endswith(":")) == lines.index("works here:")
    assert sum(line.startswith("  sglang ") for line in lines) == 1
    assert len(lines) <= 20
    assert max(map(len, lines)) <= 80


def test_a_triton_without_numpy_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = importlib.metadata.version

    def version(name: str) -> str:
        if name == "numpy":
            raise importlib.metadata.PackageNotFoundError(name)
        return versions(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(Registry, "names", ("reference", "triton"))
    assert cli.main(["doctor", "--json"]) == 0
    missing = json.loads(capsys.readouterr().out)["missing"]
    assert missing[0]["what"] == "numpy"
    assert missing[0]["remedy"] == 'pip install "attnconf[triton]"'
