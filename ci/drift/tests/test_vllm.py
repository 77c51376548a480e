"""The shipped policy beside the installed vLLM 0.33.0: no difference, and each change of the policy is one.

``make drift`` installs the engine and runs this; it is no part of ``make test``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from attnconf.cli.main import main
from attnconf.errors import BackendUnavailableError
from attnconf.platforms import Platform
from attnconf.policy.drift import compare as drift
from attnconf.policy.drift.compare import compare
from attnconf.policy.drift.engine import Answer
from attnconf.policy.drift.vllm import VLLM
from attnconf.policy.policy import load_policy
from attnconf.policy.question import Question, UserChoice
from attnconf_fixtures import ROOT

if TYPE_CHECKING:
    from pathlib import Path

POLICY = load_policy("vllm-gemma4")
TEXT = (ROOT / "policies" / "vllm-gemma4.toml").read_text(encoding="utf-8")
GEMMA = "Gemma4ForConditionalGeneration"


@pytest.fixture(scope="session")
def vllm() -> VLLM:
    return VLLM()


@pytest.fixture
def few_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    """An eighth of the questions: enough for one change of a policy."""
    monkeypatch.setattr(drift, "SMS", ((8, 0), (9, 0), (10, 0)))
    monkeypatch.setattr(drift, "CUDAS", ("12.8",))


def gpu(major: int, minor: int = 0) -> Platform:
    return Platform(device="asked", sm=(major, minor), cuda="12.8", simulated=True)


def both(name: str) -> Answer:
    return Answer(prefill=name, decode=name)


def test_it_is_the_version_that_the_policy_was_read_from(vllm: VLLM) -> None:
    assert vllm.version == POLICY.provenance.version == "0.33.0"


def test_the_engine_does_what_the_policy_says(vllm: VLLM) -> None:
    found = compare(POLICY, vllm)
    assert [one.sentence for one in found.differences] == []
    assert found.questions == 16_128
    assert found.refused == sum(found.refusals.values()) == 8_406
    refused = {sentence.split(" is not ")[0].rpartition(".")[2] for sentence in found.refusals}
    assert {"TRITON_FLASH_ATTN", "FLASH_ATTN", "TRITON_FLASHINFER", "FLASHINFER", "FLEX_ATTENTION"} < refused
    assert "FP8 KV cache" in refused


def test_it_does_so_with_other_dtypes(vllm: VLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift, "CUDAS", ("12.8",))
    monkeypatch.setattr(drift, "KV_DTYPES", ("float16", "float32"))
    found = compare(POLICY, vllm)
    assert [one.sentence for one in found.differences] == []
    assert found.questions == 5_376


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (Question(architecture=GEMMA, platform=gpu(8)), both("vllm:triton")),
        (Question(architecture=GEMMA, platform=gpu(8, 9)), both("vllm:triton")),
        (Question(architecture=GEMMA, platform=gpu(9)), both("vllm:flash_attn")),
        (Question(architecture=GEMMA, platform=gpu(10)), both("vllm:flashinfer")),
        (Question(architecture=GEMMA, platform=gpu(12)), both("vllm:triton")),
        (Question(architecture=GEMMA, platform=gpu(9), mask="images"), both("vllm:triton_flash_attn")),
        (Question(architecture=GEMMA, platform=gpu(10), mask="images"), both("vllm:triton_flashinfer")),
        (Question(architecture=GEMMA, platform=gpu(10), mask="images", page_size=16), both("vllm:triton")),
        (
            Question(architecture=GEMMA, platform=gpu(9), kv_dtype="float8_e4m3fn", page_size=16),
            both("vllm:flashinfer"),
        ),
        (
            Question(architecture=GEMMA, platform=gpu(10), user=UserChoice(attention="vllm:triton")),
            both("vllm:triton"),
        ),
    ],
)
def test_single_answers(vllm: VLLM, question: Question, answer: Answer) -> None:
    assert vllm.answer(question) == answer


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        (
            Question(architecture=GEMMA, platform=gpu(12), user=UserChoice(attention="vllm:flash_attn")),
            "head_size not supported",
        ),
        (
            Question(architecture=GEMMA, platform=gpu(8), kv_dtype="float8_e4m3fn"),
            "FP8 KV cache is not supported by the Triton attention backend on the asked GPU",
        ),
        (
            Question(architecture=GEMMA, platform=gpu(8), user=UserChoice(attention="flashy")),
            "Unknown attention backend: 'FLASHY'",
        ),
    ],
)
def test_a_refusal_is_in_the_words_of_the_engine(vllm: VLLM, question: Question, reason: str) -> None:
    assert reason in vllm.answer(question).refusal


@pytest.mark.usefixtures("few_questions")
@pytest.mark.parametrize(
    ("old", "new", "policy", "engine"),
    [
        ('name = "hopper"', 'name = "hopper"\npage_size = ["none"]', "vllm:triton", "vllm:flash_attn"),
        ('backend = "vllm:triton_flashinfer"', 'backend = "vllm:flashinfer"', "vllm:flashinfer", "triton_flashinfer"),
        ('backends = ["vllm:flex"]', 'backends = ["fa3"]', "vllm:flex", "kv_cache_dtype not supported"),
        ('name = "triton-fp8"', 'name = "triton-fp8"\nuser = ["both"]', "vllm:triton", "FP8 KV cache"),
    ],
)
def test_a_policy_that_is_changed_differs(  # noqa: PLR0913 - fixtures and a change
    vllm: VLLM, tmp_path: Path, old: str, new: str, policy: str, engine: str
) -> None:
    assert old in TEXT
    path = tmp_path / "changed.toml"
    path.write_text(TEXT.replace(old, new, 1), encoding="utf-8")
    found = compare(load_policy(str(path)), vllm)
    assert any(policy in one.policy and engine in one.engine for one in found.differences)


@pytest.mark.usefixtures("few_questions")
def test_the_command_exits_0_or_10(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "drift", "--engine", "vllm"]) == 0
    assert "policy vllm-gemma4 and vllm 0.33.0: 2,016 questions, 0 kinds of difference" in capsys.readouterr().out
    path = tmp_path / "changed.toml"
    path.write_text(TEXT.replace('sm = ["10.x"]\nmask', 'sm = ["10.0"]\nmask'), encoding="utf-8")
    assert main(["policy", "drift", "--engine", "vllm", "--policy", str(path)]) == 0
    path.write_text(TEXT.replace('sm = ["10.x"]\nmask', 'sm = ["10.3"]\nmask'), encoding="utf-8")
    assert main(["policy", "drift", "--engine", "vllm", "--policy", str(path)]) == 10


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        (Question(architecture=GEMMA), "NVIDIA GPUs with CUDA only"),
        (Question(architecture="Llama", platform=gpu(9)), "not Llama"),
        (Question(architecture=GEMMA, platform=gpu(9), speculative="mtp", topk=2), "no trees of draft tokens"),
        (Question(architecture=GEMMA, platform=gpu(9), user=UserChoice(decode="vllm:triton")), "for a side"),
        (
            Question(
                architecture="DiffusionGemmaForBlockDiffusion", platform=gpu(9), kv_dtype="float8_e4m3fn", page_size=64
            ),
            "FLASHINFER for sliding layers and FLASH_ATTN for full ones",
        ),
    ],
)
def test_what_it_cannot_be_asked(vllm: VLLM, question: Question, reason: str) -> None:
    with pytest.raises(BackendUnavailableError, match=reason):
        vllm.answer(question)


def test_a_step_that_needs_more_than_it_is_given_is_no_refusal(vllm: VLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(config: object) -> None:
        raise AttributeError(str(config))

    monkeypatch.setattr(vllm._vllm.hooks[GEMMA], "verify_and_update_config", broken)
    with pytest.raises(BackendUnavailableError, match="cannot be asked about Gemma4"):
        vllm.answer(Question(architecture=GEMMA, platform=gpu(9)))
