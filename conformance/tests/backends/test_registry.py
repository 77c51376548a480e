"""A backend that does not come up says in one sentence who registered it, what is wrong, and what to do."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

import pytest

from attnconf.backends.entries import GROUP, title
from attnconf.backends.protocol import Backend, shown_name
from attnconf.backends.reference import ReferenceBackend
from attnconf.backends.registry import Registry
from attnconf.errors import BackendUnavailableError, InvalidInputError
from attnconf.platforms import Platform
from conformance.tests.support.broken_packages import BROKEN, Package, Site, member

if TYPE_CHECKING:
    from collections.abc import Callable
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


def test_contract_evidence_is_no_part_of_the_name(site: Site) -> None:
    site.install("paper", Package(member("evidence = 'contract'"), ""))
    made = make("paper")
    assert (made.name, made.evidence) == ("paper", "contract")
    assert shown_name(made.name, made.evidence) == "paper[contract]"


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


def registering(folder: Path, name: object) -> Callable[[Registry], None]:
    """Return the hook of a conftest in ``folder`` that registers ``name``."""
    source = f"def register(registry):\n    registry.register({name!r}, lambda platform: None)\n"
    scope: dict[str, Any] = {"__name__": "conftest"}
    exec(compile(source, str(folder / "conftest.py"), "exec"), scope)  # noqa: S102 - as pytest loads a conftest
    return scope["register"]  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", ["reference", "good"])
def test_a_conftest_cannot_take_a_name_that_is_installed(site: Site, tmp_path: Path, name: str) -> None:
    site.install("good", GOOD)
    owner = title(next(entry for entry in entry_points(group=GROUP) if entry.name == name))
    with pytest.raises(InvalidInputError) as refused:
        registering(tmp_path, name)(Registry())
    assert str(refused.value) == (
        f"{tmp_path}/conftest.py: registry.register: name is {name!r}, which {owner} has; allowed: a name that nobody"
        " has, for evidence counts under it"
    )


def test_two_conftests_cannot_take_one_name(tmp_path: Path) -> None:
    registry = Registry()
    registering(tmp_path / "one", "mine")(registry)
    registering(tmp_path / "one", "mine")(registry)
    with pytest.raises(InvalidInputError, match=f"name is 'mine', which {tmp_path}/one/conftest.py has; allowed: "):
        registering(tmp_path / "two", "mine")(registry)


@pytest.mark.parametrize("name", ["mine[contract]", "trtllm_mha[contract]", "", None])
def test_a_conftest_cannot_take_a_name_that_speaks_of_evidence(tmp_path: Path, name: object) -> None:
    with pytest.raises(InvalidInputError, match=r"allowed: a name that does not end in \[contract\]"):
        registering(tmp_path, name)(Registry())


def test_what_a_conftest_registers_goes_by_that_name() -> None:
    registry = Registry()
    registry.register("mine", lambda _: ReferenceBackend())
    with pytest.raises(BackendUnavailableError) as refused:
        registry.make("mine", Platform())
    assert str(refused.value).startswith("backend mine is no backend: its name is 'reference', not 'mine'; ")


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
