"""Drawn cases: those of a seed are the same everywhere, and long ones come on top of them on a GPU."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from attnconf.cases.case import Case
from attnconf.cases.drawing.drawn import DrawnCases
from attnconf.cases.drawing.profiles import profile_named

if TYPE_CHECKING:
    from pathlib import Path

    from attnconf.cases.drawing.families import Family
    from attnconf.cases.drawing.profiles import Profile

GATE = profile_named("gate")


def on_cpu(seed: int = 0) -> DrawnCases:
    return DrawnCases(GATE, seed, accelerated=False)


def on_gpu(profile: Profile = GATE) -> DrawnCases:
    return DrawnCases(profile, 0, accelerated=True)


def ids(drawn: DrawnCases, family: Family = "free", model: str = "free") -> list[str]:
    return [case.id for case in drawn.cases(family, model)]


def long_cases(drawn: DrawnCases, family: Family, model: str) -> list[Case]:
    return [case for draws in drawn.draws(family, model) if draws.space.long_kv_len for case in draws.cases]


def test_on_a_gpu_the_gate_asks_each_mode_and_model_for_long_contexts() -> None:
    drawn, between = on_gpu(), 0
    for family in ("decode", "extend", "mixed", "verify", "free"):
        for model in GATE.targets(family):
            found = long_cases(drawn, family, model)
            assert len(found) >= 2
            assert all(case.max_kv_len >= 32_768 for case in found)
            between += sum(4095 <= request.kv_len <= 16_385 for case in found for request in case.requests)
    assert between >= 10


@pytest.mark.parametrize(("family", "model"), [("decode", "gemma4-e2b"), ("mixed", "llama3-8b"), ("free", "free")])
def test_large_cases_come_on_top_and_change_no_other(family: Family, model: str) -> None:
    short = ids(on_gpu(replace(GATE, long_kv_len=0, serving=False)), family, model)
    long = [case.id for case in on_gpu().large_cases(family, model)]
    assert ids(on_gpu(), family, model) == [*short, *long]
    assert not set(short) & set(long)


def test_a_cpu_and_the_smoke_profile_get_no_long_case() -> None:
    assert long_cases(on_cpu(), "decode", "gemma4-e2b") == []
    assert max(case.max_kv_len for case in on_cpu().cases("decode", "gemma4-e2b")) < 1000
    assert long_cases(on_gpu(profile_named("smoke")), "decode", "gemma4-e2b") == []


def test_a_seed_draws_the_same_cases_again_and_another_seed_others() -> None:
    once = ids(on_cpu())
    assert len(once) == len(set(once)) == GATE.examples["free"]
    assert ids(on_cpu()) == once
    assert set(ids(on_cpu(seed=1))).isdisjoint(once)


def test_models_and_families_draw_apart() -> None:
    decode = ids(on_cpu(), "decode", "gemma4-e2b")
    assert set(decode).isdisjoint(ids(on_cpu(), "decode", "gemma4-e4b"))
    assert set(decode).isdisjoint(ids(on_cpu(), "extend", "gemma4-e2b"))


def test_the_modules_of_the_process_do_not_change_the_draws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    once = ids(on_cpu())
    source = tmp_path / "constants.py"
    source.write_text("VALUES = (" + ", ".join(str(100_000 + 7919 * i) for i in range(200)) + ")\n")
    module = ModuleType("constants_of_the_user")
    module.__file__ = str(source)
    monkeypatch.setitem(sys.modules, "constants_of_the_user", module)
    assert ids(on_cpu()) == once


AGENDAS = {
    ("smoke", False): "d6015646dbb93bf2ff11b37bbc99fd8ab4fe0f14450fed97fe335729b9a3b467",
    ("smoke", True): "5971c754de7421067a36541fcb775081c41dbcb26efafeb70b38db8102f50af8",
    ("gate", False): "c031dbde3de26fcd09d3ee01785b62985a28756e3f9c77fe5705cee629289556",
    ("gate", True): "8092853349ccfd343fa22cced8bc1b79e8f5aba464e365bad9b581ef94fb2c06",
}
"""The digest of all cases of seed 0, by profile and whether there is a GPU: a change of draws is a change of these."""


@pytest.mark.parametrize(("name", "accelerated"), AGENDAS)
def test_the_agenda_is_the_same_under_every_python_and_package(name: str, *, accelerated: bool) -> None:
    assert DrawnCases(profile_named(name), 0, accelerated=accelerated).digest == AGENDAS[name, accelerated]


def test_the_digest_of_an_agenda_is_that_of_its_cases() -> None:
    smoke = profile_named("smoke")
    one = DrawnCases(smoke.of(("gemma4-e2b",)), 0, accelerated=False).digest
    assert one == DrawnCases(smoke.of(("gemma4-e2b",)), 0, accelerated=False).digest
    others = {
        DrawnCases(smoke.of(("gemma4-e2b",)), 1, accelerated=False).digest,
        DrawnCases(smoke.of(("gemma4-e4b",)), 0, accelerated=False).digest,
        DrawnCases(smoke.of(("gemma4-e2b",)), 0, accelerated=True).digest,
    }
    assert len({one, *others}) == 4


@pytest.mark.parametrize("name", ["nightly", "replay"])
def test_what_draws_other_cases_every_time_or_none_has_no_digest(name: str) -> None:
    assert DrawnCases(profile_named(name), 0, accelerated=False).digest is None
