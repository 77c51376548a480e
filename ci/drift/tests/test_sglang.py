"""The shipped policy beside the installed sglang 0.5.23: no difference, and each change of the policy is one.

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
from attnconf.policy.drift.sglang import SGLang
from attnconf.policy.policy import load_policy
from attnconf.policy.question import Question, UserChoice
from attnconf_fixtures import ROOT

if TYPE_CHECKING:
    from pathlib import Path

POLICY = load_policy("sglang-gemma4")
TEXT = (ROOT / "policies" / "sglang-gemma4.toml").read_text(encoding="utf-8")
GEMMA = "Gemma4ForConditionalGeneration"


@pytest.fixture(scope="session")
def sglang() -> SGLang:
    return SGLang()


@pytest.fixture
def few_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the questions: enough for one change of a policy."""
    monkeypatch.setattr(drift, "SMS", ((9, 0), (10, 0), (11, 0)))
    monkeypatch.setattr(drift, "CUDAS", ("12.8",))


def b200(cuda: str = "12.8") -> Platform:
    return Platform(device="asked", sm=(10, 0), cuda=cuda, simulated=True)


def test_it_is_the_version_that_the_policy_was_read_from(sglang: SGLang) -> None:
    assert sglang.version == POLICY.provenance.version == "0.5.23"


def test_the_engine_does_what_the_policy_says(sglang: SGLang) -> None:
    found = compare(POLICY, sglang)
    assert [one.sentence for one in found.differences] == []
    assert found.questions == 48_000
    assert found.refused == sum(found.refusals.values())
    families = {sentence.partition(",")[0][:40] for sentence in found.refusals}
    assert families == {
        "Gemma4 only supports trtllm_mha",
        "TRTLLM FMHAv2 prefill on SM120 does not ",
        "TRTLLM MHA backend for decode is only su",
        "TRTLLM MHA backend for prefill requires ",
        "speculative_eagle_topk > 1 with page_siz",
        "trtllm_mha backend only supports topk = ",
    }


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (Question(architecture=GEMMA, platform=b200()), Answer(prefill="trtllm_mha", decode="trtllm_mha")),
        (Question(architecture=GEMMA, platform=b200("12.6")), Answer(prefill="triton", decode="triton")),
        (
            Question(architecture=GEMMA, platform=b200(), user=UserChoice(decode="fa4")),
            Answer(prefill="trtllm_mha", decode="fa4"),
        ),
        (
            Question(architecture="DiffusionGemmaForBlockDiffusion", platform=b200()),
            Answer(prefill="triton", decode="triton"),
        ),
        (
            Question(architecture=GEMMA, platform=b200(), speculative="EAGLE", q_len=8, topk=4),
            Answer(refusal="trtllm_mha backend only supports topk = 1 for speculative decoding."),
        ),
    ],
)
def test_single_answers(sglang: SGLang, question: Question, answer: Answer) -> None:
    assert sglang.answer(question) == answer


@pytest.mark.usefixtures("few_questions")
@pytest.mark.parametrize(
    ("old", "new", "policy", "engine"),
    [
        ('sm = ["10.x"]  # the engine', 'sm = ["10.x", "11.x"]  # the engine', "trtllm-hardware", "triton"),
        ('name = "sm100"', 'name = "sm100"\nkv_dtype = ["bfloat16"]', "triton", "trtllm_mha"),
        ('other_than = ["trtllm_mha", "triton", "fa4"]', 'backends = ["fa3"]\nuser = ["none"]', "fa3", "Gemma4 only"),
        ('speculative = ["EAGLE"]  #', 'speculative = ["EAGLE", "FROZEN_KV_MTP"]  #', "trtllm-tree", "trtllm_mha"),
    ],
)
def test_a_policy_that_is_changed_differs(  # noqa: PLR0913 - fixtures and a change
    sglang: SGLang, tmp_path: Path, old: str, new: str, policy: str, engine: str
) -> None:
    assert old in TEXT
    path = tmp_path / "changed.toml"
    path.write_text(TEXT.replace(old, new, 1), encoding="utf-8")
    found = compare(load_policy(str(path)), sglang)
    assert any(policy in one.policy and engine in one.engine for one in found.differences)


@pytest.mark.usefixtures("few_questions")
def test_the_command_exits_0_or_10(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "drift", "--engine", "sglang"]) == 0
    assert "0 kinds of difference" in capsys.readouterr().out
    path = tmp_path / "changed.toml"
    changed = TEXT.replace('other_than = ["trtllm_mha", "triton", "fa4"]', 'other_than = ["trtllm_mha", "triton"]')
    path.write_text(changed, encoding="utf-8")
    assert main(["policy", "drift", "--engine", "sglang", "--policy", str(path)]) == 10
    lines = capsys.readouterr().out.splitlines()
    assert "questions | the policy says | the engine does | first of them" in lines


def test_a_machine_without_a_gpu_is_not_asked(sglang: SGLang) -> None:
    with pytest.raises(BackendUnavailableError, match="NVIDIA GPUs with CUDA only"):
        sglang.answer(Question(architecture=GEMMA))


def test_a_step_that_needs_more_than_it_is_given_is_no_refusal(sglang: SGLang, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(args: object) -> None:
        raise AttributeError(str(args))

    monkeypatch.setattr(sglang, "_steps", (broken,))
    with pytest.raises(BackendUnavailableError, match="cannot be asked about Gemma4"):
        sglang.answer(Question(architecture=GEMMA, platform=b200()))
