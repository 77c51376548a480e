"""``attnconf policy check``: holes, overlaps, unreachable rules, contradictions, and what must be proven."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnconf.cli.main import main
from attnconf.errors import InvalidInputError
from attnconf.platforms import Platform
from attnconf.policy.check import check_policy, refuse_faulty
from attnconf.policy.conditions import Situation
from attnconf.policy.policy import Policy, load_policy
from attnconf.policy.question import Question, UserChoice
from attnconf.policy.reach import EVERY, reachable
from attnconf.policy.resolution import resolve
from attnconf.report.schemas import schemas
from attnconf_fixtures import ROOT

if TYPE_CHECKING:
    from pathlib import Path

TODAY = dt.date(2026, 11, 22)
TEXT = (ROOT / "policies" / "sglang-gemma4.toml").read_text(encoding="utf-8")
BLACKWELL = {"name": "blackwell", "architectures": ["X"], "sm": ["10.x"], "cuda": ">=12.8", "backend": "b"}
OTHERWISE = {"name": "otherwise", "architectures": ["X"], "backend": "a"}
REQUIRED = {"architectures": ["X"], "models": ["llama3-8b"], "layer_kinds": ["full"], "modes": ["decode"]}
WAIVER = {"modes": ["decode"], "issue": "https://example.com/a/b/issues/7", "owner": "kernels", "expires": "2026-11-22"}


def a_policy(*rules: dict[str, Any], **fields: Any) -> Policy:  # noqa: ANN401 - any field
    data = {
        "schema": "attnconf.policy/1",
        "name": "p",
        "provenance": {"engine": "e", "version": "1", "file": "f"},
        "backends": {"a": {}, "b": {}},
        "rules": list(rules),
        "required": [REQUIRED],
        **fields,
    }
    return Policy.from_data(data, "test")


def faults(*rules: dict[str, Any], **fields: Any) -> list[str]:  # noqa: ANN401 - any field
    return [f"{fault.kind}: {fault.sentence}" for fault in check_policy(a_policy(*rules, **fields), TODAY)]


def test_the_shipped_policy_has_no_fault() -> None:
    assert check_policy(load_policy("sglang-gemma4")) == ()


def test_a_sound_policy_has_no_fault() -> None:
    assert faults(BLACKWELL, OTHERWISE) == []


def test_a_hole_is_named_by_a_question() -> None:
    assert faults(BLACKWELL) == ["hole: X: no rule takes no GPU, no CUDA"]
    below = {**BLACKWELL, "name": "below", "cuda": "<12.8", "backend": "a"}
    rest = {**OTHERWISE, "sm": ["none", "<10.0", ">=11.0"]}
    assert faults(BLACKWELL, below, rest) == ["hole: X: no rule takes SM 10.0, no CUDA"]
    stated = {"name": "rest", "architectures": ["X"], "refuse": "nobody built it"}
    assert faults(BLACKWELL, stated) == []


def test_a_hole_of_one_minor_is_found() -> None:
    rules = [{**OTHERWISE, "sm": ["none", "<10.3"]}, {**BLACKWELL, "cuda": None, "sm": [">10.3"]}]
    assert faults(*rules) == ["hole: X: no rule takes SM 10.3"]


def test_a_hole_between_settings_is_found() -> None:
    chain, wide = {**OTHERWISE, "q_len": ["<=4"]}, {**OTHERWISE, "name": "wide", "q_len": [">=9"]}
    assert faults(chain, wide) == ["hole: X: no rule takes q_len 5"]
    known = {**OTHERWISE, "kv_dtype": ["float32", "float16", "bfloat16"]}
    assert faults(known) == ["hole: X: no rule takes kv_dtype float8_e4m3fn"]


def test_an_overlap_is_named_by_a_question() -> None:
    fp8 = {**OTHERWISE, "name": "fp8", "kv_dtype": ["float8_e4m3fn"]}
    (overlap,) = faults(BLACKWELL, fp8, OTHERWISE)
    assert overlap == "overlap: X: rules blackwell and fp8 both take SM 10.0, CUDA 13, kv_dtype float8_e4m3fn"


def test_rules_of_two_architectures_do_not_overlap() -> None:
    other = {**BLACKWELL, "name": "other", "architectures": ["Y"]}
    rest = {**OTHERWISE, "architectures": ["X", "Y"]}
    assert faults(BLACKWELL, other, rest, required=[{**REQUIRED, "architectures": ["X", "Y"]}]) == []


@pytest.mark.parametrize(
    ("rules", "sentence"),
    [
        ([OTHERWISE, BLACKWELL], "rule blackwell never decides for X: earlier rules take all"),
        ([{**BLACKWELL, "cuda": ">=13,<12"}, OTHERWISE], "rule blackwell never decides for X: no platform is SM 10.x"),
        ([{**BLACKWELL, "q_len": [">=8,<8"]}, OTHERWISE], "rule blackwell never decides for X: no platform is SM 10.x"),
        (
            [{**BLACKWELL, "sm": ["10.x"], "cuda": None}, {**BLACKWELL, "name": "b300", "sm": ["10.3"]}, OTHERWISE],
            "rule b300 never decides for X: earlier rules take all",
        ),
    ],
)
def test_an_unreachable_rule(rules: list[dict[str, Any]], sentence: str) -> None:
    assert any(fault.startswith(f"unreachable: {sentence}") for fault in faults(*rules))


def test_a_refusal_that_never_holds() -> None:
    refusal = {"name": "no", "backends": ["a"], "reason": "no", "topk": [">=4,<=3"]}
    assert faults(OTHERWISE, refusals=[refusal]) == ["unreachable: refusal no never holds: no platform is topk >=4,<=3"]


@pytest.mark.parametrize(
    ("needs", "fault"),
    [
        ({"sm": ["9.x"]}, "rule blackwell gives X b, which needs SM 9.x: never so where it decides"),
        ({"cuda": "<12.8"}, "rule blackwell gives X b, which needs CUDA <12.8: never so where it decides"),
        ({"packages": {"torch": ">=3,<2"}}, "backends.b: no platform is torch >=3,<2"),
    ],
)
def test_floors_that_contradict(needs: dict[str, Any], fault: str) -> None:
    found = faults(BLACKWELL, OTHERWISE, backends={"a": {}, "b": needs})
    assert f"contradiction: {fault}" in found


def test_package_floors_of_a_rule_and_its_backend_may_contradict() -> None:
    rule = {**BLACKWELL, "packages": {"flashinfer-cubin": "<0.6.10"}}
    found = faults(rule, OTHERWISE, backends={"a": {}, "b": {"packages": {"FlashInfer_Cubin": ">=0.6.10.post1"}}})
    assert found == [
        (
            "contradiction: rule blackwell gives X b, which needs flashinfer-cubin >=0.6.10.post1:"
            " never so where it decides"
        )
    ]


def test_a_choice_that_is_always_refused() -> None:
    refusal = {"name": "no", "backends": ["b"], "sides": ["decode"], "reason": "no", "sm": [">=9.0"]}
    assert faults(BLACKWELL, OTHERWISE, refusals=[refusal]) == [
        "contradiction: rule blackwell gives X b: always refused"
    ]
    assert faults(BLACKWELL, OTHERWISE, refusals=[{**refusal, "q_len": [">=2"]}]) == []


def test_a_choice_without_proof() -> None:
    split = {"name": "split", "architectures": ["X"], "prefill": "a", "decode": "b"}
    assert faults(split) == ["unproven: rule split gives X a, of which no cell must be proven"]
    allowed = {**REQUIRED, "allow_unsupported": [{"reason": "whatever"}]}
    assert faults(OTHERWISE, required=[allowed]) == [
        "unproven: rule otherwise gives X a, of which no cell must be proven"
    ]


def test_waivers_that_expired_or_match_nothing() -> None:
    assert faults(OTHERWISE, waivers=[WAIVER]) == []
    late = check_policy(a_policy(OTHERWISE, waivers=[WAIVER]), dt.date(2026, 11, 23))
    assert [fault.sentence[-11:] for fault in late] == ["has expired"]
    (stray,) = faults(OTHERWISE, waivers=[{**WAIVER, "backends": ["b"]}])
    assert stray.endswith("selects no required cell")


def test_a_gate_refuses_faults_but_leaves_waivers_to_its_verdict() -> None:
    refuse_faulty(a_policy(OTHERWISE, waivers=[{**WAIVER, "backends": ["b"]}]), "p.toml")
    with pytest.raises(InvalidInputError, match=r"p.toml: X: no rule takes no GPU.*attnconf policy check"):
        refuse_faulty(a_policy(BLACKWELL), "p.toml")


def test_rules_beyond_analysis_are_refused_in_one_sentence() -> None:
    rules = [{**OTHERWISE, "name": f"r{index}", "packages": {f"package{index}": ">=1"}} for index in range(40)]
    with pytest.raises(InvalidInputError, match="20000 ways at most"):
        check_policy(a_policy(*rules))


numbers = st.lists(st.sampled_from([1, 4, ">=2", "<5", ">=5,<=8"]), max_size=2)
situations = st.builds(
    Situation,
    sm=st.lists(st.sampled_from(["9.0", "10.x", ">=9.0,<12.0", ">10.3", "none"]), max_size=2).map(tuple),
    cuda=st.none() | st.sampled_from([">=12.8", "<13", "==12.*", "~=12.4", "!=13.0"]),
    packages=st.dictionaries(st.sampled_from(["torch", "triton"]), st.sampled_from([">=2.9", "<3", "==2.9.*"])),
    kv_dtype=st.lists(st.sampled_from(["bfloat16", "float8_e4m3fn"]), max_size=2).map(tuple),
    q_len=numbers.map(tuple),
    topk=numbers.map(tuple),
    page_size=st.lists(st.sampled_from(["none", 1, 4, ">=2", "<5", ">=5,<=8"]), max_size=2).map(tuple),
    mask=st.lists(st.sampled_from(["causal", "images"]), max_size=2).map(tuple),
    speculative=st.lists(st.sampled_from(["none", "EAGLE"]), max_size=2).map(tuple),
    user=st.lists(st.sampled_from(["none", "prefill", "decode", "both"]), max_size=2).map(tuple),
)
versions = st.none() | st.sampled_from(["12.4", "12.8", "13.0", "2.9.1", "2.9.1+cpu", "3.0rc1", "3.1", "?"])
questions = st.builds(
    Question,
    architecture=st.just("X"),
    platform=st.builds(
        Platform,
        sm=st.none() | st.tuples(st.integers(8, 13), st.integers(0, 9)),
        cuda=versions,
        packages=st.dictionaries(st.sampled_from(["torch", "triton"]), versions.filter(bool)),
    ),
    kv_dtype=st.sampled_from(["bfloat16", "float16", "float8_e4m3fn"]),
    q_len=st.integers(1, 9),
    topk=st.none() | st.integers(1, 9),
    mask=st.sampled_from(["causal", "images"]),
    speculative=st.sampled_from(["none", "EAGLE", "NGRAM"]),
    page_size=st.none() | st.integers(1, 9),
    user=st.sampled_from([UserChoice(), UserChoice(prefill="a"), UserChoice(decode="a"), UserChoice(attention="a")]),
)


@given(st.lists(situations, max_size=5), questions)
def test_every_combination_is_reached_and_its_example_shows_it(found: list[Situation], question: Question) -> None:
    reached = reachable(found, Question(architecture="X"), users=EVERY)
    for state, example in reached.items():
        assert state == {index for index, one in enumerate(found) if one.takes(example)}
    assert frozenset(index for index, one in enumerate(found) if one.takes(question)) in reached


@given(st.lists(situations, min_size=1, max_size=4), questions)
def test_a_policy_without_a_hole_answers_every_question(found: list[Situation], question: Question) -> None:
    rules = [
        {"name": f"r{index}", "architectures": ["X"], "backend": "a", **one.model_dump(mode="json")}
        for index, one in enumerate(found)
    ]
    policy = a_policy(*rules)
    kinds = {fault.kind for fault in check_policy(policy, TODAY)}
    taking = [rule for rule in policy.rules if rule.takes(question)]
    if question.user.named == "both":
        return
    if not taking:
        assert "hole" in kinds
        assert resolve(policy, question).by == "refused"
    if sum(not rule.is_always for rule in taking) > 1:
        assert "overlap" in kinds


@pytest.fixture
def policy_file(tmp_path: Path) -> Path:
    path = tmp_path / "p.toml"
    path.write_text(TEXT, encoding="utf-8")
    return path


def test_the_command_says_that_a_policy_is_total(policy_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "check", str(policy_file)]) == 0
    assert capsys.readouterr().out == (
        "policy sglang-gemma4: every question has one answer or a stated refusal"
        " (3 rules for 4 architectures, 56 required cells)\n"
    )


def test_the_command_lists_faults_and_exits_11(policy_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy_file.write_text(TEXT.replace('name = "otherwise"', 'name = "otherwise"\nsm = ["<10.0"]'), encoding="utf-8")
    assert main(["policy", "check", str(policy_file)]) == 11
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "hole: Gemma4ForConditionalGeneration: no rule takes no GPU, no CUDA"
    assert lines[-1] == "policy sglang-gemma4: 3 faults"


def test_the_command_refuses_what_is_no_policy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "check", str(tmp_path / "none.toml")]) == 11
    assert capsys.readouterr().err.startswith("attnconf: policy invalid: ")
    assert main(["plan", "--policy", str(tmp_path / "none.toml")]) == 11


def test_the_command_refuses_a_misspelt_feature(policy_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy_file.write_text(TEXT.replace('"window"', '"widnow"', 1), encoding="utf-8")
    assert main(["policy", "check", str(policy_file)]) == 11
    error = capsys.readouterr().err
    place = f"attnconf: policy invalid: {policy_file}: required.0.effective.sliding.0"
    assert error.startswith(
        f"{place} is 'widnow'; allowed: Input should be 'bidirectional', 'block_scales', 'causal', 'chunk', "
    )
    assert error.count("\n") == 1


def test_other_commands_refuse_a_faulty_policy(policy_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy_file.write_text(TEXT.replace('name = "otherwise"', 'name = "otherwise"\nsm = ["<10.0"]'), encoding="utf-8")
    assert main(["plan", "--policy", str(policy_file), "--sm", "10.0"]) == 11
    error = capsys.readouterr().err
    assert error.startswith(f"attnconf: policy invalid: {policy_file}: Gemma4ForConditionalGeneration: no rule takes")
    assert error.count("\n") == 1


def test_the_command_prints_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "schema"]) == 0
    assert capsys.readouterr().out == schemas()["policy-1.json"]
