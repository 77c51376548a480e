"""The suite's tests, read off their items and off their node ids."""

from __future__ import annotations

from importlib import resources
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from pytest_attnconf.suite_tests import SuiteTest, backend_of, drawn_by, families_named, suite_families

if TYPE_CHECKING:
    from collections.abc import Callable

    Inner = Callable[..., pytest.RunResult]

pytest_plugins = ["pytester"]

BACKENDS = ("reference", "sglang:triton", "sglang:triton[window+1]", "triton")
DECODE = SuiteTest("decode", "triton", drawn="decode", model="gemma4-e2b")
VECTOR = SuiteTest("vectors", "triton", vector="a-b")
SM100 = SuiteTest("sm100", "trtllm_mha", drawn="extend", model="gemma4-e2b")


def item(module: str, **params: str) -> pytest.Item:
    given = SimpleNamespace(module=SimpleNamespace(__name__=module), callspec=SimpleNamespace(params=params))
    return cast("pytest.Item", given)


@pytest.mark.parametrize(
    ("nodeid", "test"),
    [
        ("test_decode.py::test_decode[triton-gemma4-e2b]", DECODE),
        ("lib/attnconf/suite/test_decode.py::test_decode[triton-gemma4-e2b]", DECODE),
        (
            "test_free.py::test_free[sglang:triton[window+1]-free]",
            SuiteTest("free", "sglang:triton[window+1]", drawn="free", model="free"),
        ),
        ("test_refusal.py::test_refusal[reference]", SuiteTest("refusal", "reference")),
        ("test_vectors.py::test_vector[triton-a-b]", VECTOR),
        ("test_sm100.py::test_trtllm_gen[gemma4-e2b-extend]", SM100),
    ],
)
def test_a_node_id_of_the_suite_says_what_the_test_is_about(nodeid: str, test: SuiteTest) -> None:
    assert SuiteTest.of_nodeid(nodeid, BACKENDS) == test


@pytest.mark.parametrize(
    "nodeid",
    [
        "",
        "tests/test_decode.py::test_decode[triton-gemma4-e2b]",
        "attnconf/suite/other/test_decode.py::test_decode[triton-gemma4-e2b]",
        "attnconf/suite/test_decode.py::TestIt::test_decode[triton-gemma4-e2b]",
        "test_decode.py::test_decode",
        "test_decode.py::test_decode[]",
        "test_decode.py::test_decode[triton-gemma4-e2b]@group",
        "test_decode.py::test_decode[triton-gemma4-e2b]\n",
        "test_decode.py::test_decode[cutlass-gemma4-e2b]",
        "test_decode.py::test_decode[triton2-gemma4-e2b]",
    ],
)
def test_a_node_id_that_is_not_exactly_the_suite_s_is_none_of_it(nodeid: str) -> None:
    assert SuiteTest.of_nodeid(nodeid, BACKENDS) is None


@pytest.mark.parametrize(
    ("item", "test"),
    [
        (item("attnconf.suite.test_decode", backend="triton", model="gemma4-e2b"), DECODE),
        (item("attnconf.suite.test_refusal", backend="reference"), SuiteTest("refusal", "reference")),
        (
            item("attnconf.suite.test_vectors", backend="triton", vector="a-b"),
            SuiteTest("vectors", "triton", vector="a-b"),
        ),
        (item("attnconf.suite.test_sm100", model="gemma4-e2b", sm100_family="extend"), SM100),
        (item("tests.test_decode", backend="triton", model="gemma4-e2b"), None),
        (SimpleNamespace(), None),
    ],
)
def test_an_item_of_the_suite_says_what_the_test_is_about(item: pytest.Item, test: SuiteTest | None) -> None:
    assert SuiteTest.of_item(item) == test


def test_every_test_that_is_collected_says_the_same_of_itself_by_its_node_id(
    inner: Inner, pytester: pytest.Pytester, toy_case: object
) -> None:
    del toy_case
    conftest = pytester.path / "conftest.py"
    check = """

def pytest_collection_finish(session):
    from pytest_attnconf.state import KEY
    from pytest_attnconf.suite_tests import SuiteTest

    backends = session.config.stash[KEY].backends
    for item in session.items:
        test = SuiteTest.of_item(item)
        assert test == SuiteTest.of_nodeid(item.nodeid, backends)
        print("about", test.family)
"""
    conftest.write_text(conftest.read_text() + check)
    models = ("--attnconf-model=gemma4-e2b", "--attnconf-model=free", "--attnconf-replay=case.json")
    backends = ("--attnconf-backend=good", "--attnconf-backend=trtllm_mha")
    result = inner("--pyargs", "attnconf.suite", *models, *backends, "--collect-only", "-q", "-s")
    assert result.ret == 0
    about = {line.removeprefix("about ") for line in result.outlines if line.startswith("about ")}
    assert about == set(suite_families())


def test_each_family_has_a_file() -> None:
    names = [path.name for path in resources.files("attnconf.suite").iterdir()]
    files = {name.removeprefix("test_").removesuffix(".py") for name in names if name.startswith("test_")}
    assert files == set(suite_families())


def test_a_family_draws_its_own_cases_and_sm100_those_of_others() -> None:
    assert drawn_by("windows") == ("windows",)
    assert drawn_by("sm100") == ("decode", "extend")
    assert drawn_by("vectors") == drawn_by("refusal") == ()


@pytest.mark.parametrize(
    ("test", "backend"),
    [
        ("attnconf/suite/test_decode.py::test_decode[triton-gemma4-e2b]", "triton"),
        ("test_decode.py::test_decode[sglang:triton[window+1]-gemma4-e2b]", "sglang:triton[window+1]"),
        ("test_decode.py::test_decode[sglang:triton-gemma4-e2b]", "sglang:triton"),
        ("test_refusal.py::test_refusal[reference]", "reference"),
        ("test_sm100.py::test_trtllm_gen[gemma4-e2b-decode]", "trtllm_mha"),
        ("::test_decode[triton-gemma4-e2b]", "triton"),
        ("tests/test_mine.py::test_mine[triton-1]", "triton"),
        ("tests/test_mine.py::test_mine", ""),
    ],
)
def test_the_backend_of_any_test_is_read_off_its_parameters(test: str, backend: str) -> None:
    assert backend_of(test, BACKENDS) == backend


@pytest.mark.parametrize(
    ("args", "families"),
    [
        (("attnconf.suite",), set()),
        (("attnconf.suite.test_decode",), {"decode"}),
        (
            ("a/attnconf/suite/test_decode.py::test_decode[x]", "attnconf.suite.test_extend", "mine"),
            {"decode", "extend"},
        ),
        (("attnconf.suite", "attnconf.suite.test_decode"), set()),
        (("tests/test_decode.py",), set()),
    ],
)
def test_files_on_the_command_line_name_families(args: tuple[str, ...], families: set[str]) -> None:
    assert families_named(args) == families
