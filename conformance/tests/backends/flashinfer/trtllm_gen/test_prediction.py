"""What list and selector answer, and where attnconf says that it cannot tell."""

from __future__ import annotations

from typing import Any

import pytest
from packaging.version import Version

from attnconf.backends.flashinfer.trtllm_gen.launched import of_the_list
from attnconf.backends.flashinfer.trtllm_gen.prediction import Absent, Listed, Unknown, predict, why_unknown
from attnconf.backends.flashinfer.trtllm_gen.releases import RELEASES
from conformance.tests.support.launches import a_launch

B200, V = (10, 0), Version("0.6.13")
WINDOWED = {"num_requests": 3, "window_left": 1023}


def name_of(**changes: Any) -> str:  # noqa: ANN401 - any field of a launch
    answer = predict(a_launch(**changes), V, B200)
    assert isinstance(answer, Listed)
    return answer.names[0]


def test_the_hint_picks_the_kernel() -> None:
    """A sliding layer of gemma4-26b: the windowed kernel runs where the hint is above the window, whatever the keys."""
    causal, windowed = name_of(**WINDOWED, max_kv_len=900), name_of(**WINDOWED, max_kv_len=1900)
    assert (
        causal
        == "fmhaSm100fKernel_QkvBfloat16OBfloat16H256PagedKvCausalP16MultiCtasKvCgaVarSeqQ8Kv128StaticSwapsAbForGen"
    )
    assert windowed == causal.replace("Causal", "SlidingOrChunkedCausal")


def test_occupancy_decides_between_two_kernels_where_a_cluster_is_asked_for() -> None:
    answer = predict(a_launch(), V, B200)
    assert isinstance(answer, Listed)
    assert [("Cga" in name) for name in answer.names] == [True, False]


@pytest.mark.parametrize(
    ("changes", "ends"),
    [
        ({"context": True, "max_q_len": 40}, "P16VarSeqQ128Kv128PersistentContext"),
        ({"num_requests": 256}, "P16VarSeqQ8Kv128PersistentSwapsAbForGen"),
        ({"max_q_len": 8, "num_requests": 64}, "P16VarSeqQ16Kv128PersistentSwapsAbForGen"),
        ({"page_size": 1024}, "PagedKvCausalPagedMultiCtasKvCgaVarSeqQ8Kv128StaticSwapsAbForGen"),
        ({"head_dim": 512}, "MultiCtasKvVarSeqQ8Kv128StaticSwapsAbForGen"),
    ],
)
def test_batch_pages_tokens_and_heads_pick_other_kernels(changes: dict[str, Any], ends: str) -> None:
    assert name_of(**changes).endswith(ends)


@pytest.mark.parametrize(
    "changes",
    [
        {"head_dim": 512, "page_size": 128},
        {"head_dim": 192},
        {"page_size": 8},
        {"page_size": 48},
        {"page_size": 544},
        {"context": True, "max_q_len": 40, "kv_dtype": "E4M3"},
        {"context": True, "max_q_len": 40, "head_dim": 512, "window_left": 15},
        {"o_dtype": "FP16"},
        {"head_dim": 16},
    ],
)
def test_what_no_kernel_is_listed_for_is_absent(changes: dict[str, Any]) -> None:
    assert isinstance(predict(a_launch(**changes), V, B200), Absent)


def test_fp8_queries_are_answered_too() -> None:
    for out in ("BF16", "FP16", "E4M3"):
        for context in (False, True):
            launch = a_launch(q_dtype="E4M3", kv_dtype="E4M3", o_dtype=out, context=context)
            assert isinstance(predict(launch, V, B200), Listed)


@pytest.mark.parametrize("release", RELEASES, ids=lambda release: str(release.version))
def test_every_release_of_the_index_answers_or_says_why_not(release: Any) -> None:  # noqa: ANN401 - a Release
    answer = predict(a_launch(), release.version, B200)
    if release.rules is None:
        assert isinstance(answer, Unknown)
        assert (
            f"{release.kernels.short} of flashinfer-python {release.version} is not in the package index" in answer.why
        )
    else:
        assert isinstance(answer, Listed)


@pytest.mark.parametrize(
    ("version", "sm", "why"),
    [
        ("0.6.9", B200, "it has not read flashinfer-python 0.6.9"),
        ("99.0", B200, "it has not read flashinfer-python 99.0"),
        ("0.6.13", (9, 0), "not for SM 9.0"),
        ("0.6.13", (10, 7), "not for SM 10.7"),
        ("0.6.13", None, "not for no GPU"),
        (None, B200, "it has not read flashinfer-python None"),
    ],
)
def test_what_is_not_known_is_said_in_words(version: str | None, sm: tuple[int, int] | None, why: str) -> None:
    said = why_unknown(None if version is None else Version(version), sm)
    assert said is not None
    assert said.startswith("unknown to attnconf: ")
    assert why in said


def test_launched_kernels_are_those_of_the_list_alone() -> None:
    names = ["Memset (Device)", "fmhaSm100fKernel_A", "fmhaReductionKernel", "fmhaSm100fKernel_A", "fmhaSm103aKernel_B"]
    assert of_the_list(names) == ("fmhaSm100fKernel_A", "fmhaSm103aKernel_B")
