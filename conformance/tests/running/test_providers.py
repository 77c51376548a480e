"""Who provides a backend: an installed distribution, or files of which the commit says whether it contains them."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import replace
from importlib.metadata import EntryPoint
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from attnconf.backends import reference
from attnconf.backends.code_files import code_files
from attnconf.cases.drawing.profiles import profile_named
from attnconf.gate.provider import Provider
from attnconf.platforms import Platform
from attnconf.running.providers import providers_of
from attnconf.running.session import Session
from conformance.tests.support.gate_repository import git

if TYPE_CHECKING:
    from pathlib import Path

CONFTEST = """
from attnconf.backends.reference import ReferenceBackend

class Mine(ReferenceBackend):
    name = "mine"

def register(registry):
    registry.register("mine", lambda platform: Mine())
"""


@pytest.fixture
def session(tmp_path: Path) -> Session:
    """A session in which a committed conftest of tmp_path registers ``mine``."""
    path = tmp_path / "conftest.py"
    path.write_text(CONFTEST)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "conftest.py")
    git(tmp_path, "commit", "-qm", "conftest")
    made = Session(platform=Platform(), profile=profile_named("smoke"))
    spec = importlib.util.spec_from_file_location("conftest_of_a_project", path)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.register(made.registry)
    assert made.why_not("mine") is None
    return made


def mine(session: Session, folder: Path) -> Provider:
    return providers_of(session, ["mine"], folder)["mine"]


def test_a_conftest_is_named_with_its_digest(session: Session, tmp_path: Path) -> None:
    (source,) = mine(session, tmp_path).sources
    assert (source.path, source.committed) == ("conftest.py", True)
    assert source.sha256 == hashlib.sha256(CONFTEST.encode()).hexdigest()
    assert mine(session, tmp_path).text == "conftest.py"


def test_one_that_was_changed_is_not_in_the_commit(session: Session, tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST + "# changed\n")
    assert mine(session, tmp_path).text == "conftest.py (it is not in the commit)"
    git(tmp_path, "add", "conftest.py")
    assert mine(session, tmp_path).strangers == ("conftest.py",)
    git(tmp_path, "commit", "-qm", "changed")
    assert not mine(session, tmp_path).strangers


def test_one_of_another_repository_is_not_in_the_commit(
    session: Session, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    assert mine(session, elsewhere).strangers == (str(tmp_path / "conftest.py"),)


def test_other_ends_of_lines_are_what_git_makes_of_them(session: Session, tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_bytes(CONFTEST.replace("\n", "\r\n").encode())
    assert mine(session, tmp_path).strangers
    git(tmp_path, "config", "core.autocrlf", "true")
    assert not mine(session, tmp_path).strangers


def test_an_installed_backend_is_its_distributions(session: Session, tmp_path: Path) -> None:
    given = providers_of(session, ["reference"], tmp_path)["reference"]
    assert (given.distribution, given.entry_point) == ("attnconf", "attnconf.backends.reference:make")
    assert given.is_of("AttnConf")
    assert not given.sources


def test_an_installed_backend_is_of_a_file_that_patched_it_where_it_runs(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "patch.py").write_text("def prepare(self, batch): ...\n")
    scope: dict[str, Any] = {}
    exec(compile((tmp_path / "patch.py").read_text(), str(tmp_path / "patch.py"), "exec"), scope)  # noqa: S102
    monkeypatch.setattr(reference.ReferenceBackend, "prepare", scope["prepare"])
    behind_a_wall = providers_of(session, ["reference"], tmp_path)["reference"]
    assert session.why_not("reference") is None
    assert providers_of(session, ["reference"], tmp_path)["reference"] == behind_a_wall
    assert not behind_a_wall.strangers  # a patch of this process does not reach the one in which the backend runs
    shared = replace(session, isolate=False)
    assert shared.why_not("reference") is None
    given = providers_of(shared, ["reference"], tmp_path)["reference"]
    assert given.strangers == ("patch.py",)
    assert given.text.endswith("(patch.py is not in the commit)")


def test_an_entry_point_that_no_reader_reads_has_no_files() -> None:
    class Unreadable:
        @property
        def attr(self) -> str:
            raise ValueError("Invalid object reference")  # as the backport of importlib.metadata says it

    for entry in (EntryPoint("spaced", "spaced make", "attnconf.backends"), Unreadable()):
        assert code_files(SimpleNamespace(entries=(entry,), factory=None)) == ()  # type: ignore[arg-type]
