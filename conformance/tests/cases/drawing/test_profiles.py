"""Profiles: what each asks, and of whom."""

from __future__ import annotations

import pytest

from attnconf.cases.drawing.families import FAMILIES, geometry_for, space_of
from attnconf.cases.drawing.profiles import GEMMA4, PROFILES, profile_named
from attnconf.cases.geometry import LayerGeometry, ModelGeometry
from attnconf.cases.models import shipped_models
from attnconf.errors import InvalidInputError
from attnconf.platforms import simulate
from attnconf.running.session import Session


def test_smoke_asks_all_five_gemma4_gate_each_kind_of_geometry_and_a_night_every_model() -> None:
    assert set(profile_named("smoke").models) == set(GEMMA4) >= {"gemma4-e2b", "gemma4-31b"}
    assert len(GEMMA4) == 5
    assert set(GEMMA4) < set(profile_named("gate").models) < set(shipped_models())
    assert profile_named("nightly").models == shipped_models()


@pytest.mark.parametrize("name", ["smoke", "gate", "nightly"])
def test_every_family_is_asked_of_someone(name: str) -> None:
    profile = profile_named(name)
    for family in FAMILIES:
        assert profile.targets(family)
        assert all(profile.count(family, model, accelerated=False) >= 2 for model in profile.targets(family))


@pytest.mark.parametrize("accelerated", [False, True])
@pytest.mark.parametrize("name", ["smoke", "gate", "nightly"])
def test_every_target_has_its_space(name: str, *, accelerated: bool) -> None:
    profile = profile_named(name)
    for family in FAMILIES:
        for model in profile.targets(family):
            assert space_of(family, model, accelerated=accelerated, max_kv_len=profile.max_kv_len).name == family


@pytest.mark.parametrize(
    ("heads", "few"), [((40, 8), (5, 1)), ((28, 4), (7, 1)), ((64, 8), (8, 1)), ((7, 7), (4, 4)), ((16, 1), (16, 1))]
)
def test_a_cpu_gets_few_heads_of_any_model_in_whole_groups(heads: tuple[int, int], few: tuple[int, int]) -> None:
    layer = LayerGeometry(kind="full", num_qo_heads=heads[0], num_kv_heads=heads[1], head_dim=16, sm_scale=1.0)
    own = geometry_for(ModelGeometry(name="any", layers=(layer,)), accelerated=False).layers[0]
    assert (own.num_qo_heads, own.num_kv_heads) == few


def test_a_larger_profile_asks_no_less() -> None:
    smoke, gate, nightly = (profile_named(name) for name in ("smoke", "gate", "nightly"))
    for family in FAMILIES:
        for model in smoke.targets(family):
            counts = [one.count(family, model, accelerated=False) for one in (smoke, gate, nightly)]
            assert counts == sorted(counts)


def test_smoke_draws_four_hundred_cases_for_three_backends() -> None:
    smoke = profile_named("smoke")
    drawn = sum(smoke.count(family, model, accelerated=False) for family in FAMILIES for model in smoke.targets(family))
    assert 3 * drawn >= 360  # the vectors add more than 30 for each backend


def test_long_windows_are_asked_less_on_a_cpu_by_a_brief_profile_only() -> None:
    gate, nightly = profile_named("gate"), profile_named("nightly")
    assert gate.count("decode", "gemma2-9b", accelerated=False) < gate.count("decode", "gemma4-31b", accelerated=False)
    assert gate.count("decode", "gemma2-9b", accelerated=True) == gate.gpu_times * gate.examples["decode"]
    assert nightly.count("decode", "gemma2-9b", accelerated=False) == nightly.examples["decode"]
    assert gate.count("decode", "llama3-8b", accelerated=False) == gate.examples["decode"]


def test_named_models_replace_the_profiles_and_free_is_one_of_them() -> None:
    smoke = profile_named("smoke")
    assert smoke.of(("gemma4-e2b", "gemma4-e2b")).targets("decode") == ("gemma4-e2b",)
    assert smoke.of(("gemma4-e2b",)).targets("free") == ()
    assert smoke.of(("free",)).targets("free") == ("free",)
    assert smoke.of(("free",)).targets("decode") == ()


def test_an_unknown_profile_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidInputError, match=", ".join(PROFILES)):
        profile_named("deep")


def test_a_smoke_test_asks_a_gpu_for_few_kernels() -> None:
    def pages(profile: str) -> set[int]:
        session = Session(platform=simulate("9.0"), profile=profile_named(profile))
        return {case.paging.page_size for case in session.drawn.cases("decode", "gemma4-e2b")}

    assert pages("smoke") <= {16, 64} < pages("gate")
