"""A family of tests in which its own subject never mattered proves nothing, and says so: without any policy."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

import attnconf.cases.drawing.drawn
from attnconf.cases.drawing.families import space_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.cases.drawing.space import Space

    Inner = Callable[..., pytest.RunResult]

pytest_plugins = ["pytester"]

SMOKE = ("--pyargs", "attnconf.suite", "--attnconf-profile=smoke", "--attnconf-backend=good")


def too_short(*args: object, **kwargs: object) -> Space:
    """Return the space asked for, with contexts that no window of the toy model cuts: of at most 3 keys."""
    space = space_of(*args, **kwargs)
    return replace(space, past_window=False, max_kv_len=3, max_new_tokens=2, verify_lens=(2,))


@pytest.fixture
def short_contexts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attnconf.cases.drawing.drawn, "space_of", too_short)


@pytest.mark.usefixtures("short_contexts")
def test_a_family_whose_feature_never_mattered_is_not_met(inner: Inner, toy_model: str) -> None:
    result = inner(*SMOKE, f"--attnconf-model={toy_model}", "-k", "windows")
    assert result.ret == 10
    assert result.parseoutcomes()["passed"] == 1
    result.stdout.fnmatch_lines(
        ["NOT MET: good judged 4 layers in the tests of windows, but none in which window mattered by 10 units: *"]
    )


def test_a_family_whose_feature_mattered_is_met(inner: Inner, toy_model: str) -> None:
    result = inner(*SMOKE, f"--attnconf-model={toy_model}", "-k", "windows or hybrid or extend or decode")
    assert result.ret == 0
    result.stdout.no_fnmatch_line("*NOT MET*")


@pytest.mark.usefixtures("short_contexts")
def test_junit_shows_it_as_a_failed_test_case(inner: Inner, toy_model: str, pytester: pytest.Pytester) -> None:
    inner(*SMOKE, f"--attnconf-model={toy_model}", "-k", "windows", "--junitxml=j.xml")
    assert "NOT MET: good judged 4 layers in the tests of windows" in (pytester.path / "j.xml").read_text()


def test_a_backend_that_declines_the_layers_owes_the_family_nothing(inner: Inner, toy_model: str) -> None:
    model = f"--attnconf-model={toy_model}"
    result = inner(*SMOKE, "--attnconf-backend=picky", model, "-k", "windows")
    assert result.ret == 10
    said = [line for line in result.outlines if line.startswith("NOT MET")]
    assert said == ["NOT MET: --attnconf-backend names picky, but it judged nothing: unsupported: only on Tuesdays"]
