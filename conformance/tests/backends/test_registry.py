"""A backend that does not come up says in one sentence who registered it, what is wrong, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from attnconf.backends.protocol import Backend
from attnconf.backends.reference import ReferenceBackend
from attnconf.backends.registry import Registry
from attnconf.errors import BackendUnavailableError
from attnconf.platforms import Platform
from conformance.tests.support.broken_packages import BROKEN, Package, Site, member

if TYPE_CHECKING:
    from pathlib import Path

GOOD = Package(member("pass"), "")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A folder of installed packages."""
    return Site(tmp_path, monkeypatch)


def make(name: str) -> Backend:
    return Registry().make(name, Platform())


def refusal(name: str) -> str:
    with pytest.raises(BackendUnavailableError) as refused:
        make(name)
    return str(refused.value)


def test_a_package_brings_its_backend(site: Site) -> None:
    site.install("good", GOOD)
    assert "good" in Registry().names
    assert make("good").name == "good"


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_package_is_named_with_what_to_do(site: Site, name: str) -> None:
    sentence = site.install(name, BROKEN[name])
    assert refusal(name) == sentence


def test_a_backend_may_name_its_variant(site: Site) -> None:
    site.install("good", Package(member("name = 'good[fast]'"), ""))
    assert make("good").name == "good[fast]"


def test_contract_evidence_is_in_the_name(site: Site) -> None:
    site.install("paper", Package(member("evidence = 'contract'; name = 'paper[contract]'"), ""))
    assert make("paper").evidence == "contract"


def test_a_name_that_is_taken_is_nobodys(site: Site) -> None:
    site.install("late", GOOD, registers="reference")
    said = refusal("reference")
    assert said.startswith("backend reference is registered twice: by attnconf ")
    assert "(entry point attnconf.backends.reference:make)" in said
    assert " by late-attention 1.0 (entry point late_attention:make)" in said
    assert said.endswith("; rename the entry point of late-attention")


def test_two_packages_that_take_one_name(site: Site) -> None:
    site.install("one", GOOD, registers="both")
    site.install("two", GOOD, registers="both")
    said = refusal("both")
    assert "by one-attention 1.0" in said
    assert "by two-attention 1.0" in said
    assert said.endswith("; rename all of them but one")


def test_one_function_that_is_registered_twice_is_one_backend(site: Site) -> None:
    fork = Package("", "", module="attnconf.backends.reference")
    site.install("fork", fork, registers="reference")
    assert isinstance(make("reference"), ReferenceBackend)


def test_a_conftest_may_take_any_name(site: Site) -> None:
    site.install("late", GOOD, registers="reference")
    registry = Registry()
    registry.register("reference", lambda _: ReferenceBackend())
    assert registry.make("reference", Platform()).name == "reference"


@pytest.mark.parametrize(
    ("factory", "says"),
    [
        (lambda: ReferenceBackend(), "does not start: <lambda>() cannot be called with the platform alone; "),  # noqa: PLW0108
        (lambda _: None, "does not start: <lambda> returned None; "),
        (lambda _: object(), "is no backend: it has no name, no evidence, no promises, no supports(shape, platform), "),
        ("reference", "does not load: what it names is of type str, and no function"),
    ],
)
def test_what_a_conftest_registers_is_looked_at_too(factory: object, says: str) -> None:
    registry = Registry()
    registry.register("mine", factory)  # type: ignore[arg-type]
    with pytest.raises(BackendUnavailableError) as refused:
        registry.make("mine", Platform())
    assert str(refused.value).startswith(f"backend mine {says}")
