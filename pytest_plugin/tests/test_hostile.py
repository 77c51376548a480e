"""Backends, a policy and files whose every word is hostile breach neither pytest's terminal nor JUnit."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from attnconf.gate.receipt import Receipt
from conformance.tests.support.hostile import EVIL, FILE
from conformance.tests.support.sinks import junit_faults, shell_faults, terminal_faults
from pytest_plugin.tests.conftest import TOYS

if TYPE_CHECKING:
    from attnconf.cases.case import Case
    from pytest_plugin.tests.conftest import Inner

pytest_plugins = ["pytester"]

BACKENDS = f"""
EVIL = {EVIL!a}


class Evil(Toy):
    def prepare(self, batch):
        inner = super().prepare(batch)
        return type("Named", (), {{"run": lambda _, *given: inner.run(*given) and EVIL}})()


@pytest.hookimpl(optionalhook=True)
def pytest_attnconf_register_backends(registry):
    registry.register("right " + EVIL, lambda platform: Evil("right " + EVIL))
    registry.register("wrong " + EVIL, lambda platform: Evil("wrong " + EVIL, after=lambda out: out.mul_(1.5)))
    registry.register("raises " + EVIL, toy("raises " + EVIL, before=throw(RuntimeError(EVIL))))
    registry.register("declines " + EVIL, toy("declines " + EVIL, reason=EVIL))
    registry.register("misses " + EVIL, unavailable(BackendUnavailableError(EVIL)))
    registry.register("breaks " + EVIL, unavailable(ImportError(EVIL)))
"""
NAMES = tuple(f"{how} {EVIL}" for how in ("right", "wrong", "raises", "declines", "misses", "breaks"))
SUITE = ("--pyargs", "attnconf.suite", "--attnconf-profile=replay", "--attnconf-replay=case.json")


@pytest.fixture
def evil(inner: Inner, toy_case: Case, pytester: pytest.Pytester) -> Inner:
    del toy_case
    pytester.makeconftest(TOYS.partition("@pytest.hookimpl")[0] + BACKENDS)
    return inner


def test_a_run_of_hostile_backends(evil: Inner, pytester: pytest.Pytester, policy: str) -> None:
    file = pytester.path / policy
    waiver = f'[[waivers]]\nmodes = ["extend"]\nissue = "o/r#7"\nowner = {_toml(EVIL)}\nexpires = 2020-01-01\n'
    file.write_text(file.read_text() + waiver)
    result = evil(
        *SUITE,
        *(f"--attnconf-backend={name}" for name in NAMES),
        f"--attnconf-policy={policy}",
        f"--attnconf-failures={FILE}",
        "--attnconf-receipt=r.json",
        "--junitxml=j.xml",
        "-v",
        "-ra",
    )
    text = result.stdout.str()
    assert result.ret == 1
    assert list(terminal_faults(text)) == []
    assert "wrong" in text
    assert list(junit_faults((pytester.path / "j.xml").read_text())) == []
    # in a CI, pytest's summary has each message again
    commands = list(dict.fromkeys(re.findall(r"^replay: (.*)$", text, flags=re.MULTILINE)))
    kept = [failed.replay for failed in Receipt.read(pytester.path / "r.json").failures]
    assert len(commands) == len(kept) == 2
    for command in (*commands, *kept):
        assert list(shell_faults(command, pytester.path)) == []


@pytest.mark.parametrize(
    "option",
    ["backend", "model", "profile", "seed", "receipt", "policy", "sm", "require-sm", "replay", "family", "plan", "job"],
)
def test_a_refused_option_is_one_safe_sentence(evil: Inner, option: str) -> None:
    result = evil("--pyargs", "attnconf.suite", f"--attnconf-{option}={EVIL}", "--collect-only", "-q")
    assert list(terminal_faults(result.stderr.str())) == []
    assert list(terminal_faults(result.stdout.str())) == []


def test_a_marker_and_an_exception_of_a_test_are_safe(evil: Inner, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(f"""
        import pytest

        EVIL = {EVIL!a}

        @pytest.mark.requires_sm(EVIL)
        def test_marked():
            pass

        def test_asks(attnconf):
            attnconf.replay(EVIL, backend="reference")
    """)
    assert list(terminal_faults(evil("test_a_marker_and_an_exception_of_a_test_are_safe.py", "-ra").stdout.str())) == []


def test_the_summary_is_narrow_and_silent_at_qq(evil: Inner) -> None:
    loud = evil(*SUITE, f"--attnconf-backend={NAMES[0]}")
    lines = loud.outlines
    begin = next(index for index, line in enumerate(lines) if line.startswith("backend "))
    end = next(index for index, line in enumerate(lines) if "layer judged" in line)
    assert max(map(len, lines[begin : end + 1])) <= 100
    assert loud.ret == 0
    silent = evil(*SUITE, f"--attnconf-backend={NAMES[0]}", "-qq")
    assert silent.ret == 0
    assert "attnconf" not in silent.stdout.str().replace("attnconf/suite", "")
    assert "layer" not in silent.stdout.str()


def test_at_qq_a_red_run_still_says_why(evil: Inner) -> None:
    result = evil(*SUITE, f"--attnconf-backend={NAMES[3]}", "-qq")
    assert result.ret == 10
    assert "NOT MET: nothing was executed" in result.stdout.str()
    assert list(terminal_faults(result.stdout.str())) == []


def _toml(text: str) -> str:
    return '"' + "".join(f"\\U{ord(char):08x}" for char in text) + '"'
