"""The replay profile: files, folders, vectors, names that collide."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from attnconf.cases.case import Case

    Inner = Callable[..., pytest.RunResult]

pytest_plugins = ["pytester"]


def write(path: Path, data: object) -> None:
    """Write JSON."""
    path.write_text(json.dumps(data), encoding="utf-8")


def nodes(result: pytest.RunResult) -> list[str]:
    """Return the ids of the tests that passed."""
    return sorted(line.rpartition("::")[2] for line in result.outlines if line.startswith("PASSED"))


@pytest.fixture
def suite(inner: Inner) -> Inner:
    """Run the replay profile."""
    return lambda *args: inner(
        "--pyargs", "attnconf.suite", "--attnconf-profile=replay", "--attnconf-backend=good", "-rA", *args
    )


def test_a_folder_of_cases_and_a_file_of_vectors(suite: Inner, pytester: pytest.Pytester, toy_case: Case) -> None:
    folder = pytester.mkdir("saved")
    write(folder / "one.json", toy_case.to_data())
    other = toy_case.model_copy(update={"seed": 1})
    vectors = [{"name": "two", "note": "a test", "case": other.to_data()}]
    write(pytester.path / "v.json", {"schema": "attnconf.vectors/1", "provenance": "a test", "vectors": vectors})
    result = suite("--attnconf-replay=saved", "--attnconf-replay=v.json")
    assert nodes(result) == ["test_vector[good-one]", "test_vector[good-two]"]


def test_two_cases_of_one_name_are_both_replayed(suite: Inner, pytester: pytest.Pytester, toy_case: Case) -> None:
    for name, seed in (("a", 0), ("b", 1), ("c", 0)):
        write(pytester.mkdir(name) / "x.json", toy_case.model_copy(update={"seed": seed}).to_data())
    result = suite("--attnconf-replay=a", "--attnconf-replay=b", "--attnconf-replay=c")
    other = toy_case.model_copy(update={"seed": 1})
    assert nodes(result) == sorted(["test_vector[good-x]", f"test_vector[good-x-{other.id}]"])


def test_without_a_path_the_shipped_vectors_are_replayed(suite: Inner) -> None:
    result = suite("--collect-only", "-q")
    assert len([line for line in result.outlines if "::test_vector[good-" in line]) >= 15


def test_a_path_from_another_profile_takes_the_place_of_the_shipped_vectors(inner: Inner, toy_case: object) -> None:
    del toy_case
    options = ("--attnconf-profile=smoke", "--attnconf-backend=good", "--attnconf-replay=case.json")
    result = inner("--pyargs", "attnconf.suite", *options, "-k", "test_vector", "-rA")
    assert nodes(result) == ["test_vector[good-case]"]


def test_a_late_conftest_registers_for_its_own_tests(inner: Inner, pytester: pytest.Pytester, toy_case: Case) -> None:
    folder = pytester.mkdir("late")
    (folder / "conftest.py").write_text(
        "from attnconf.backends.reference import ReferenceBackend\n\n"
        "class Late(ReferenceBackend):\n"
        "    name = 'late'\n\n"
        "def pytest_attnconf_register_backends(registry):\n"
        "    registry.register('late', lambda platform: Late())\n"
    )
    (folder / "test_late.py").write_text(
        "from attnconf.cases.case import Case\n\n"
        "def test_late(attnconf):\n"
        f"    attnconf.check(Case.model_validate({toy_case.to_data()!r}), backend='late')\n"
    )
    result = inner("--attnconf-seed=0", "-rA")
    assert result.ret == 0
    assert result.parseoutcomes()["passed"] == 1
