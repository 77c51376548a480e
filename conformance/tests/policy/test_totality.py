"""Properties of resolution: one answer or one stated refusal to every question; no answer of a platform is missed."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from attnconf.gate.verdict import reach_verdict
from attnconf.platforms import Platform
from attnconf.policy.policy import Policy
from attnconf.policy.question import Question, UserChoice
from attnconf.policy.resolution import Resolution, resolve, resolve_all

names = st.sampled_from(["a", "b", "c"])
conditions = st.fixed_dictionaries(
    {},
    optional={
        "sm": st.lists(st.sampled_from(["9.0", "10.x", "12.1", ">=9.0,<12.0", "none"]), max_size=2),
        "cuda": st.sampled_from([">=12.8", "<13", "==12.*"]),
        "packages": st.just({"flashinfer-python": ">=0.6.10.post1"}),
    },
)
situations = st.builds(
    lambda platform, settings: platform | settings,
    conditions,
    st.fixed_dictionaries(
        {},
        optional={
            "kv_dtype": st.lists(st.sampled_from(["bfloat16", "float8_e4m3fn"]), max_size=2),
            "mask": st.lists(st.sampled_from(["causal", "images"]), max_size=1),
            "q_len": st.lists(st.sampled_from([1, 4, ">=2", ">=5,<=8"]), max_size=2),
            "topk": st.lists(st.sampled_from([1, ">=2", "none"]), max_size=2),
            "speculative": st.lists(st.sampled_from(["none", "EAGLE"]), max_size=1),
            "page_size": st.lists(st.sampled_from([16, 64, "<16", "none"]), max_size=2),
            "user": st.lists(st.sampled_from(["none", "prefill", "decode", "both", "split"]), max_size=2),
        },
    ),
)
answers = (
    names.map(lambda name: {"backend": name})
    | st.tuples(names, names).map(lambda pair: {"prefill": pair[0], "decode": pair[1]})
    | st.just({"refuse": "no kernel"})
)
policies = st.fixed_dictionaries(
    {
        "schema": st.just("attnconf.policy/1"),
        "name": st.just("p"),
        "provenance": st.just({"engine": "e", "version": "1", "file": "f"}),
        "backends": st.fixed_dictionaries(dict.fromkeys("abc", conditions)),
        "rules": st.lists(
            st.tuples(st.fixed_dictionaries({"architectures": st.lists(names, min_size=1)}), answers, situations).map(
                lambda parts: parts[0] | parts[1] | parts[2]
            ),
            min_size=1,
            max_size=5,
        ).map(lambda rules: [{"name": f"r{index}", **rule} for index, rule in enumerate(rules)]),
        "refusals": st.lists(
            st.tuples(
                situations,
                st.fixed_dictionaries({"backends": st.lists(names)})
                | st.fixed_dictionaries({"other_than": st.lists(names)}),
                st.lists(st.sampled_from(["prefill", "decode"]), min_size=1, max_size=2),
            ),
            max_size=2,
        ).map(
            lambda found: [
                {"name": f"v{index}", "sides": sides, "reason": "no", **which, **situation}
                for index, (situation, which, sides) in enumerate(found)
            ]
        ),
    }
)
platforms = st.builds(
    Platform,
    sm=st.none() | st.tuples(st.integers(7, 13), st.integers(0, 9)),
    cuda=st.none() | st.sampled_from(["12.4", "12.8", "13.0", "nonsense"]),
    packages=st.dictionaries(st.sampled_from(["flashinfer-python", "torch"]), st.sampled_from(["0.6.10", "1.0", "?"])),
)
questions = st.builds(
    Question,
    architecture=names,
    platform=platforms,
    kv_dtype=st.sampled_from(["bfloat16", "float16", "float8_e4m3fn"]),
    mask=st.sampled_from(["causal", "images"]),
    q_len=st.integers(1, 9),
    topk=st.none() | st.integers(1, 4),
    speculative=st.sampled_from(["none", "EAGLE", "NGRAM"]),
    page_size=st.none() | st.sampled_from([1, 16, 17, 64]),
    user=st.builds(UserChoice, attention=st.none() | names, prefill=st.none() | names, decode=st.none() | names),
)


@given(policies, questions)
def test_resolution_is_total(data: dict[str, Any], question: Question) -> None:
    policy = Policy.from_data(data, "test")
    resolution = resolve(policy, question)
    assert (resolution.prefill is None) == (resolution.decode is None) == (resolution.by == "refused")
    assert bool(resolution.refusal) == (resolution.by == "refused")
    assert resolution.sentence
    taking = [rule for rule in policy.rules_of(question.architecture) if rule.takes(question)]
    assert resolution.rule == (taking[0].name if taking else None)
    if resolution.by != "refused":
        for side in ("prefill", "decode"):
            expected = question.user.of(side) or getattr(taking[0].choice, side)
            assert getattr(resolution, side) == expected
    elif not resolution.stated:
        assert not taking
    assert Resolution.from_data(resolution.model_dump(mode="json"), "test") == resolution
    reach_verdict(policy, [resolution], [], question.platform, {})


@given(policies, questions)
def test_resolve_all_misses_no_answer_of_a_platform(data: dict[str, Any], question: Question) -> None:
    policy = Policy.from_data(data, "test")
    listed = resolve_all(policy, question.platform, question.user)
    resolution = resolve(policy, question)
    if question.architecture in policy.architectures:
        assert resolution.model_copy(update={"settings": ""}) in [
            one.model_copy(update={"settings": ""}) for one in listed
        ]
    assert {one.architecture for one in listed} == set(policy.architectures)
