"""Resolution: the engine's default, the user's choice, refusals, and each axis of a rule."""

from __future__ import annotations

from typing import Any

import pytest

from attnconf.errors import InvalidInputError
from attnconf.platforms import Platform
from attnconf.policy.policy import Policy, load_policy
from attnconf.policy.question import Question, UserChoice
from attnconf.policy.resolution import Resolution, resolve, resolve_all

POLICY = load_policy("sglang-gemma4")
DIFFUSION = "DiffusionGemmaForBlockDiffusion"
GEMMA = "Gemma4ForConditionalGeneration"
CPU = Platform()


def gpu(sm: tuple[int, int], cuda: str | None = "13.0", flashinfer: str | None = "0.6.13") -> Platform:
    packages = {} if flashinfer is None else {"flashinfer-python": flashinfer}
    return Platform(device="test", sm=sm, cuda=cuda, packages=packages)


def ask(platform: Platform, architecture: str = GEMMA, **settings: Any) -> Resolution:  # noqa: ANN401 - any field
    return resolve(POLICY, Question(architecture=architecture, platform=platform, **settings))


@pytest.mark.parametrize(
    ("platform", "backend"),
    [
        (gpu((10, 0)), "trtllm_mha"),
        (gpu((10, 3)), "trtllm_mha"),
        (gpu((10, 0), cuda="12.8"), "trtllm_mha"),
        (gpu((10, 0), flashinfer="0.6.9"), "trtllm_mha"),
        (gpu((10, 0), cuda="12.4"), "triton"),
        (gpu((10, 0), cuda=None), "triton"),
        (gpu((9, 0)), "triton"),
        (gpu((11, 0)), "triton"),
        (gpu((12, 0)), "triton"),
        (gpu((1, 0)), "triton"),
        (CPU, "triton"),
    ],
)
@pytest.mark.parametrize("architecture", POLICY.architectures)
def test_the_default_is_the_engine_s(architecture: str, platform: Platform, backend: str) -> None:
    resolution = ask(platform, architecture)
    assert resolution.backend == ("triton" if architecture == DIFFUSION else backend)
    assert (resolution.by, resolution.prefill) == ("rule", resolution.decode)


@pytest.mark.parametrize(
    ("version", "met"),
    [
        ("0.6.13", True),
        ("0.6.10.post1", True),
        ("0.7.2.post1", True),
        ("0.6.10", False),
        ("nightly", False),
        (None, False),
    ],
)
def test_the_flashinfer_floor_is_a_need_not_a_condition(version: str | None, met: bool) -> None:  # noqa: FBT001
    resolution = ask(gpu((10, 0), flashinfer=version))
    assert resolution.backend == "trtllm_mha"
    assert bool(resolution.unmet_floors) is not met
    if not met:
        ((name, floor),) = resolution.unmet_floors
        expected = f"needs flashinfer-python >=0.6.10.post1, found {version or 'none'}"
        assert (name, floor.sentence) == ("trtllm_mha", expected)


@pytest.mark.parametrize(
    ("choice", "prefill", "decode", "by"),
    [
        (UserChoice(attention="fa4"), "fa4", "fa4", "user"),
        (UserChoice(prefill="fa4"), "fa4", "trtllm_mha", "both"),
        (UserChoice(decode="fa4"), "trtllm_mha", "fa4", "both"),
        (UserChoice(prefill="fa4", decode="triton"), "fa4", "triton", "user"),
        (UserChoice(attention="fa4", decode="triton"), "fa4", "triton", "user"),
        (UserChoice(), "trtllm_mha", "trtllm_mha", "rule"),
    ],
)
def test_the_user_s_choice_is_respected(choice: UserChoice, prefill: str, decode: str, by: str) -> None:
    resolution = ask(gpu((10, 0)), user=choice)
    assert (resolution.prefill, resolution.decode, resolution.by) == (prefill, decode, by)
    assert (resolution.rule, resolution.default) == ("sm100", "trtllm_mha")
    if by == "user":
        assert "the user's choice" in resolution.sentence
    assert {cell.backend for cell in resolution.required if cell.mode == "decode"} == {decode}
    assert {cell.backend for cell in resolution.required if cell.mode == "extend"} == {prefill}


def test_a_chosen_backend_is_held_to_its_needs() -> None:
    resolution = ask(gpu((9, 0)), user=UserChoice(attention="trtllm_mha"))
    assert [floor.subject for _, floor in resolution.unmet_floors] == ["SM"]
    assert ask(gpu((9, 0)), user=UserChoice(attention="fa4")).unmet_floors == ()


def test_an_unknown_architecture_is_a_hole_unless_the_user_chose() -> None:
    resolution = ask(CPU, "LlamaForCausalLM")
    assert (resolution.by, resolution.backend, resolution.required) == ("refused", "", ())
    assert not resolution.stated
    assert "no rule of sglang-gemma4 names it" in resolution.sentence
    assert ask(CPU, "LlamaForCausalLM", user=UserChoice(decode="a")).by == "refused"
    assert ask(CPU, "LlamaForCausalLM", user=UserChoice(attention="a")).backend == "a"


@pytest.mark.parametrize(
    ("platform", "settings", "refusal"),
    [
        (gpu((8, 9)), {"user": UserChoice(decode="trtllm_mha")}, "trtllm-hardware"),
        (gpu((11, 0)), {"user": UserChoice(prefill="trtllm_mha")}, "trtllm-hardware"),
        (gpu((9, 0), cuda="12.2"), {"user": UserChoice(attention="trtllm_mha")}, "trtllm-hopper-cuda"),
        (gpu((12, 1), cuda="12.6"), {"user": UserChoice(attention="trtllm_mha")}, "trtllm-blackwell-cuda"),
        (gpu((12, 0)), {"user": UserChoice(prefill="trtllm_mha"), "kv_dtype": "float8_e4m3fn"}, "trtllm-fp8-prefill"),
        (gpu((10, 0)), {"topk": 4, "q_len": 8, "speculative": "EAGLE"}, "trtllm-tree"),
        (gpu((9, 0)), {"user": UserChoice(attention="fa3")}, "gemma4-backends"),
        (gpu((9, 0)), {"user": UserChoice(decode="flashinfer")}, "gemma4-backends"),
        (
            gpu((10, 0)),
            {"topk": 4, "speculative": "EAGLE", "user": UserChoice(prefill="triton", decode="fa4")},
            "unused-default-tree",
        ),
        (
            gpu((9, 0)),
            {"topk": 4, "speculative": "EAGLE", "page_size": 16, "user": UserChoice(attention="fa4")},
            "fa4-tree",
        ),
    ],
)
def test_a_refusal_overrules_every_choice(platform: Platform, settings: dict[str, Any], refusal: str) -> None:
    resolution = ask(platform, **settings)
    assert (resolution.by, resolution.prefill, resolution.stated) == ("refused", None, True)
    assert f"({refusal})" in resolution.sentence


@pytest.mark.parametrize(
    ("platform", "settings"),
    [
        (gpu((12, 0)), {"user": UserChoice(decode="trtllm_mha"), "kv_dtype": "float8_e4m3fn"}),
        (gpu((10, 0)), {"topk": 1, "q_len": 8, "speculative": "EAGLE"}),
        (gpu((10, 0)), {"topk": 4, "q_len": 8, "speculative": "FROZEN_KV_MTP"}),
        (gpu((10, 0)), {"user": UserChoice(attention="fa4")}),
        (gpu((9, 0)), {"topk": 4}),
    ],
)
def test_a_refusal_spares_what_it_does_not_name(platform: Platform, settings: dict[str, Any]) -> None:
    assert ask(platform, **settings).by != "refused"


def test_each_answer_of_a_platform_comes_once_with_the_setting_that_leads_to_it() -> None:
    answers = [one.sentence for one in resolve_all(POLICY, gpu((10, 0))) if one.architecture == GEMMA]
    assert answers == [
        f"{GEMMA} on SM 10.0 with CUDA 13.0: trtllm_mha, by rule sm100",
        (
            f"{GEMMA} on SM 10.0 with CUDA 13.0, speculative EAGLE, topk 2: refused,"
            " trtllm_mha: it verifies chains of draft tokens, not trees (trtllm-tree)"
        ),
    ]
    assert len(resolve_all(POLICY, CPU)) == len(POLICY.architectures)


RULES = {
    "kv_dtype": ["float8_e4m3fn"],
    "q_len": [1, ">=5,<=8"],
    "topk": [1],
    "page_size": [">=16"],
    "mask": ["causal"],
    "user": ["none", "prefill"],
    "sm": [">=9.0,<10.3", "12.x", "none"],
    "cuda": ">=12.8,<13.1",
    "packages": {"flashinfer-cubin": "~=0.6.10", "torch": "!=2.9.*"},
}
FITS = Question(
    architecture="X",
    platform=Platform(sm=(9, 0), cuda="13.0", packages={"flashinfer_cubin": "0.6.13", "torch": "2.10"}),
    kv_dtype="float8_e4m3fn",
    q_len=8,
    topk=1,
    page_size=32,
)


def a_policy(**rule: object) -> Policy:
    data = {
        "schema": "attnconf.policy/1",
        "name": "p",
        "provenance": {"engine": "e", "version": "1", "file": "f"},
        "backends": {"a": {}, "b": {}},
        "rules": [{"name": "r", "architectures": ["X"], **rule}],
    }
    return Policy.from_data(data, "test")


def test_prefill_and_decode_may_differ() -> None:
    resolution = resolve(a_policy(prefill="a", decode="b"), FITS)
    assert (resolution.prefill, resolution.decode) == ("a", "b")
    assert resolution.backend == "a (prefill) and b (decode)"


def test_a_rule_asks_of_every_axis() -> None:
    policy = a_policy(backend="a", **RULES)
    assert resolve(policy, FITS).rule == "r"
    platform = FITS.platform
    outside = [
        FITS.model_copy(update={"kv_dtype": "bfloat16"}),
        FITS.model_copy(update={"q_len": 4}),
        FITS.model_copy(update={"q_len": 9}),
        FITS.model_copy(update={"topk": 2}),
        FITS.model_copy(update={"page_size": 15}),
        FITS.model_copy(update={"mask": "images"}),
        FITS.model_copy(update={"page_size": None}),
        FITS.model_copy(update={"user": UserChoice(decode="b")}),
        *(
            FITS.model_copy(update={"platform": platform.model_copy(update=change)})
            for change in (
                {"sm": (10, 3)},
                {"sm": (8, 9)},
                {"cuda": "13.1"},
                {"cuda": None},
                {"packages": {"torch": "2.10"}},
                {"packages": {"torch": "2.9.1", "flashinfer-cubin": "0.6.13"}},
                {"packages": {"torch": "2.10", "flashinfer-cubin": "0.7"}},
            )
        ),
    ]
    assert [resolve(policy, question).rule for question in outside] == [None] * len(outside)
    assert resolve(policy, FITS.model_copy(update={"platform": platform.model_copy(update={"sm": None})})).rule == "r"


def test_a_rule_may_refuse() -> None:
    resolution = resolve(a_policy(refuse="no kernel"), FITS)
    assert (resolution.by, resolution.stated, resolution.refusal) == ("refused", True, "no kernel (rule r)")
    assert (
        resolve(a_policy(refuse="no kernel"), FITS.model_copy(update={"user": UserChoice(attention="b")})).by == "user"
    )


@pytest.mark.parametrize(
    "settings", [{"q_len": 0}, {"topk": -1}, {"page_size": 0}, {"kv_dtype": "int3"}, {"architecture": 3}]
)
def test_a_question_that_is_none_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        Question.from_data({"architecture": "X", **settings}, "test")


@pytest.mark.parametrize(
    ("asked", "page_size", "takes"),
    [
        (["none"], None, "r"),
        (["none"], 64, None),
        (["none", 64], 64, "r"),
        (["none", 64], 16, None),
        ([64], None, None),
    ],
)
def test_a_page_size_that_the_user_leaves_open(asked: list[object], page_size: int | None, takes: str | None) -> None:
    policy = a_policy(backend="a", page_size=asked)
    question = FITS.model_copy(update={"page_size": page_size})
    assert resolve(policy, question).rule == takes
