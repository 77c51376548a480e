"""``attnconf policy drift``: a policy held against an engine, here against one that answers as it is told."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from attnconf.backends.engines.absent import is_whole, stand_ins
from attnconf.cli.main import main
from attnconf.errors import BackendUnavailableError, InvalidInputError
from attnconf.policy.drift import compare as drift
from attnconf.policy.drift import installed
from attnconf.policy.drift.compare import compare, questions
from attnconf.policy.drift.engine import Answer, Engine, Scope
from attnconf.policy.policy import load_policy
from attnconf.policy.question import Question
from attnconf.policy.resolution import resolve
from attnconf.wording import counted

POLICY = load_policy("sglang-gemma4")
GEMMA = "Gemma4ForConditionalGeneration"
Change = Callable[[Question, Answer], Answer]


class Told:
    """An engine that does what the policy says, but for ``change``."""

    name = "sglang"
    version = "0.5.23"
    scope = Scope(drafts=(("EAGLE", 4, 1), ("EAGLE", 8, 4)), others=("fa3", "fa4"))

    def __init__(self, change: Change = lambda _, answer: answer) -> None:
        self.change = change

    def answer(self, question: Question) -> Answer:
        found = resolve(POLICY, question)
        told = Answer(prefill=found.prefill or "", decode=found.decode or "", refusal=found.refusal)
        return self.change(question, told)


@pytest.fixture(autouse=True)
def few_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift, "SMS", ((9, 0), (10, 0), (11, 0)))
    monkeypatch.setattr(drift, "CUDAS", ("12.4", "12.8"))


def test_an_engine_that_agrees_has_no_difference() -> None:
    found = compare(POLICY, Told())
    assert found.differences == ()
    assert found.questions == 4 * 3 * 2 * 3 * 2 * 25
    assert found.refused == sum(found.refusals.values()) > 0


def test_the_questions_are_the_whole_product() -> None:
    asked = list(questions(POLICY, Told()))
    assert len(asked) == len({question.model_dump_json() for question in asked}) == 4 * 3 * 2 * 3 * 2 * 25
    assert {question.user.named for question in asked} == {"none", "prefill", "decode", "both", "split"}
    assert {(question.speculative, question.q_len, question.topk) for question in asked} == {
        ("none", 1, None),
        ("EAGLE", 4, 1),
        ("EAGLE", 8, 4),
    }


def test_an_engine_is_asked_what_it_has_options_for() -> None:
    engine = Told()
    engine.scope = Scope(
        drafts=(), others=(), sides=False, settings={"page_size": (None, 64), "mask": ("causal", "images")}
    )
    asked = list(questions(POLICY, engine))
    assert len(asked) == 4 * 3 * 2 * 2 * 2 * 2 * 3
    assert {question.user.named for question in asked} == {"none", "both"}
    assert {(question.mask, question.page_size) for question in asked} == {
        ("causal", None),
        ("causal", 64),
        ("images", None),
        ("images", 64),
    }


def fa3_on_hopper(question: Question, answer: Answer) -> Answer:
    hopper = question.platform.sm == (9, 0) and question.architecture == GEMMA and question.user.named == "none"
    return Answer(prefill="fa3", decode="fa3") if hopper else answer


def no_refusal(_: Question, answer: Answer) -> Answer:
    return Answer(prefill="trtllm_mha", decode="trtllm_mha") if answer.refusal else answer


def refuses_fp8(question: Question, answer: Answer) -> Answer:
    return Answer(refusal="No fp8. Use another.") if question.kv_dtype == "float8_e4m3fn" else answer


def splits(question: Question, answer: Answer) -> Answer:
    return answer if answer.refusal or question.user.named != "none" else Answer(prefill="triton", decode="fa4")


def test_a_new_default_is_one_kind_of_difference() -> None:
    (found,) = compare(POLICY, Told(fa3_on_hopper)).differences
    assert (found.architecture, found.policy, found.engine, found.count) == (GEMMA, "triton", "fa3", 2 * 3 * 2)
    assert found.sentence == (
        f"{GEMMA} on SM 9.0 with CUDA 12.4 (simulated): the policy says triton, the engine fa3 (and 11 more)"
    )


@pytest.mark.parametrize("change", [fa3_on_hopper, no_refusal, refuses_fp8, splits])
def test_every_change_of_the_engine_is_a_difference(change: Change) -> None:
    found = compare(POLICY, Told(change))
    differing = sum(
        change(question, told) != told for question in questions(POLICY, Told()) for told in [Told().answer(question)]
    )
    refused_anyway = sum(
        bool(told.refusal) and bool(change(question, told).refusal) and change(question, told) != told
        for question in questions(POLICY, Told())
        for told in [Told().answer(question)]
    )
    assert sum(one.count for one in found.differences) == differing - refused_anyway > 0


def test_a_hole_of_the_policy_is_no_agreement_with_a_refusal() -> None:
    data = POLICY.to_data()
    data["rules"] = [rule for rule in data["rules"] if rule["name"] != "otherwise"]
    holed = type(POLICY).from_data(data, "test")
    found = compare(holed, Told(lambda _, __: Answer(refusal="nothing runs")))
    assert any("no rule of sglang-gemma4" in one.policy for one in found.differences)


def test_a_policy_of_another_engine_is_not_compared() -> None:
    other = POLICY.model_copy(update={"provenance": POLICY.provenance.model_copy(update={"engine": "vllm"})})
    with pytest.raises(InvalidInputError, match=r"a policy whose provenance\.engine is sglang"):
        compare(other, Told())


@pytest.mark.parametrize(("change", "status"), [(lambda _, answer: answer, 0), (fa3_on_hopper, 10)])
def test_the_command_exits_10_for_a_difference(
    change: Change, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(installed.ENGINES, "sglang", lambda: Told(change))
    assert main(["policy", "drift", "--engine", "sglang"]) == status  # with the policy that is shipped for it
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(
        f"policy sglang-gemma4 and sglang 0.5.23: 3,600 questions, {counted(status // 10, 'kind')} of difference"
    )
    assert ("questions | the policy says | the engine does | first of them" in lines) == bool(status)
    assert main(["policy", "drift", "--engine", "sglang", "--json"]) == status
    assert len(json.loads(capsys.readouterr().out)["differences"]) == status // 10


def test_an_unknown_or_absent_engine_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["policy", "drift", "--engine", "other"]) == 2
    assert capsys.readouterr().err == "attnconf: --engine: 'other'; allowed: sglang or vllm\n"

    def absent() -> Engine:
        message = "sglang is not installed"
        raise BackendUnavailableError(message)

    monkeypatch.setitem(installed.ENGINES, "sglang", absent)
    assert main(["policy", "drift", "--engine", "sglang"]) == 2
    assert capsys.readouterr().err == "attnconf: sglang is not installed\n"


def test_a_stand_in_is_there_inside_its_block_only() -> None:
    with stand_ins("no_such_library", "json"):
        import no_such_library.parts as library  # type: ignore[import-not-found]

        assert isinstance(library, ModuleType)
        assert isinstance(library.Anything, type)
        assert "no_such_library" not in getattr(json, "__name__", "")
    assert "no_such_library" not in sys.modules
    with pytest.raises(ImportError):
        import no_such_library  # noqa: F401


def test_of_a_package_in_parts_what_is_installed_is_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package, files in (("in_parts", ("plain.py",)), ("all_there", ("__init__.py", "plain.py"))):
        (tmp_path / package).mkdir()
        for name in files:
            (tmp_path / package / name).write_text("answer = 42\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with stand_ins(parts=("in_parts", "all_there", "not_there")):
        from in_parts import operator  # type: ignore[import-not-found]
        from in_parts.compiled.deeper import kernel  # type: ignore[import-not-found]
        from in_parts.plain import answer  # type: ignore[import-not-found]
        from not_there import anything  # type: ignore[import-not-found]

        assert answer == 42
        assert all(isinstance(name, type) for name in (operator, kernel, anything))
        with pytest.raises(ImportError):
            import all_there.compiled  # type: ignore[import-not-found]  # noqa: F401
    assert {"in_parts", "in_parts.compiled", "not_there"}.isdisjoint(sys.modules)
    assert sys.modules.pop("in_parts.plain").answer == 42
    assert (is_whole("all_there"), is_whole("in_parts"), is_whole("not_there")) == (True, False, False)


def test_a_stand_in_can_take_the_place_of_what_is_installed() -> None:
    before = sys.modules.pop("wave", None)
    with stand_ins(always=("wave", "email.no_such_part")):
        import wave
        from email import (
            message,
            no_such_part,  # type: ignore[attr-defined]
        )

        assert isinstance(wave.open, type)
        assert isinstance(no_such_part.Anything, type)
        assert callable(message.Message)
    import wave

    assert not isinstance(wave.open, type)
    sys.modules["wave"] = before or wave
