"""Every floor holds in ``supports()``: the release below it declines what the first one takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from packaging.version import Version

from attnconf.backends.flashinfer import floors
from attnconf.backends.flashinfer.fa import capability as fa
from attnconf.backends.flashinfer.fa.variant import variant_of_shape
from attnconf.backends.flashinfer.trtllm_gen.releases import RELEASES
from attnconf.backends.flashinfer.trtllm_mha import capability as trtllm_mha
from attnconf.backends.flashinfer.trtllm_mha import make
from attnconf.platforms import Platform
from conformance.tests.support.shapes import a_shape

if TYPE_CHECKING:
    from attnconf.backends.flashinfer.floors import Floor

HOPPER, B200, RTX = (9, 0), (10, 0), (12, 0)
WIDE = {"head_dim": 512, "num_kv_heads": 4}
ASKED: dict[str, tuple[Floor, dict[str, Any], tuple[int, int]]] = {
    "pages of 128": (floors.GEN_DYNAMIC_PAGES, {"page_size": 128}, B200),
    "pages of 128, group 1": (floors.GEN_DYNAMIC_PAGES_OF_ONE, {"page_size": 128, "num_kv_heads": 32}, B200),
    "wide verify": (floors.GEN_WIDE_VERIFY, {**WIDE, "mode": "verify", "max_q_len": 5}, B200),
    "windowed verify": (floors.XQA_WINDOWED_VERIFY, {"mode": "verify", "max_q_len": 4, "windowed": True}, HOPPER),
    "wide XQA": (floors.XQA_WIDE, WIDE, HOPPER),
    "window on SM 12.x": (floors.FMHA_SM120, {"mode": "extend", "max_q_len": 40, "windowed": True}, RTX),
    "wide FMHA v2 on SM 12.x": (floors.FMHA_SM120, {"mode": "extend", "max_q_len": 40, "head_dim": 512}, RTX),
}
VERSIONS = [release.version for release in RELEASES]


def platform(sm: tuple[int, int], version: Version) -> Platform:
    return Platform(sm=sm, cuda="13.0", packages={"flashinfer-python": str(version)})


@pytest.mark.parametrize("name", ASKED)
def test_supports_changes_at_the_floor_and_nowhere_else(name: str) -> None:
    floor, changes, sm = ASKED[name]
    taken = [trtllm_mha.supports(a_shape(**changes), platform(sm, version)) is None for version in VERSIONS]
    assert taken == [version >= floor.since for version in VERSIONS]


def test_fa2_has_its_wide_heads_from_their_floor_on() -> None:
    variant = variant_of_shape("fa2", a_shape(head_dim=512))
    taken = [fa.supports(variant, platform(HOPPER, version)) is None for version in VERSIONS]
    assert taken == [version >= floors.FA2_WIDE.since for version in VERSIONS]


def test_an_lse_is_promised_from_its_floor_on() -> None:
    promised = [make(platform(B200, version)).promises.lse == "two" for version in VERSIONS]
    assert promised == [version >= floors.GEN_LSE.since for version in VERSIONS]


def test_windowed_drafts_of_0_6_18_post1_are_taken() -> None:
    """What was refused "since 0.7.2" until the sources of every release were read."""
    changes = {"mode": "verify", "max_q_len": 4, "windowed": True, "window_left": 511, "num_requests": 3}
    for kv_dtype in ("bfloat16", "float8_e4m3fn"):
        shape = a_shape(**changes, max_kv_len=900, kv_dtype=kv_dtype)
        assert trtllm_mha.supports(shape, platform(HOPPER, Version("0.6.18.post1"))) is None


def test_every_floor_is_a_release_and_all_are_asked() -> None:
    assert {floor.since for floor in floors.FLOORS} <= set(VERSIONS)
    assert [floor.since for floor in floors.FLOORS] == sorted(floor.since for floor in floors.FLOORS)
    asked = {floor.what for floor, *_ in ASKED.values()} | {floors.FA2_WIDE.what, floors.GEN_LSE.what}
    assert asked == {floor.what for floor in floors.FLOORS}
