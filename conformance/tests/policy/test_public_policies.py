"""Policies as engines' users write them: what cannot be proven, cannot run or is not drawn is said, never green."""

from __future__ import annotations

from typing import Any

import pytest

from attnconf.cases.drawing.profiles import profile_named
from attnconf.errors import InvalidInputError
from attnconf.gate.plans.machine_plan import plan
from attnconf.gate.plans.undrawn import undrawn
from attnconf.platforms import Platform
from attnconf.policy.check import check_policy, refuse_faulty
from attnconf.policy.policy import Choice, Policy, load_policy

CPU = Platform()
HOPPER = Platform(device="H100", sm=(9, 0), cuda="13.0", packages={"flashinfer-python": "0.6.13"}, simulated=True)
EDGE: dict[str, Any] = {"layer_kinds": ["sliding", "full"], "modes": ["decode", "extend"], "executed": 1}


def policy(rules: list[dict[str, Any]], model: str, backends: tuple[str, ...] = ("reference",), **cell: Any) -> Policy:  # noqa: ANN401 - TOML
    rules = [{"name": f"r{index}", "architectures": ["X"], **rule} for index, rule in enumerate(rules)]
    return Policy.from_data(
        {
            "schema": "attnconf.policy/1",
            "name": "p",
            "provenance": {"engine": "vllm", "version": "0.33.0", "file": "x.py"},
            "backends": {name: {} for name in backends},
            "rules": rules,
            "required": [{"architectures": ["X"], "models": [model], **EDGE, **cell}],
        },
        "p.toml",
    )


IMAGES = {"mask": ["images"], "backend": "reference"}
CAUSAL = {"mask": ["causal"], "backend": "reference"}
WHY = {"unproven": "no case has them"}


@pytest.mark.parametrize(
    ("rules", "sentence"),
    [
        (
            [{"mask": ["causal", "images"], "backend": "reference"}],
            "rule r0 takes the masks of images, but requires of X no extend or mixed cell of a layer that follows them",
        ),
        ([CAUSAL, IMAGES], "rule r1 takes the masks of images, but requires of X no extend or mixed cell"),
        ([{"mask": ["causal", "images"], "backend": "reference", **WHY}], "they need a rule of their own"),
        ([{**CAUSAL, **WHY}, {**IMAGES, **WHY}], "rule r0 has unproven, but takes no masks of images"),
    ],
)
def test_masks_of_images_are_never_met_by_causal_cases(rules: list[dict[str, Any]], sentence: str) -> None:
    found = policy(rules, "gemma4-e2b", effective={"sliding": ["window"]})
    (fault,) = [one for one in check_policy(found) if one.kind == "unprovable"]
    assert sentence in fault.sentence
    with pytest.raises(InvalidInputError, match="a policy that passes attnconf policy check"):
        refuse_faulty(found, "p.toml")


def test_a_rule_about_images_is_met_by_cases_with_spans_alone() -> None:
    """A layer that follows spans must show them; full layers of Gemma 4, and decodes, are causal under images, too."""
    found = policy([CAUSAL, IMAGES], "gemma4-12b")
    assert check_policy(found) == ()
    causal, images = (
        {cell.id: cell.effective for cell in found.required_cells("X", rule.name, rule.choice) if rule.choice}
        for rule in found.rules
    )
    wanted = {"reference/gemma4-12b/sliding/extend/any"}
    assert {name for name, effective in images.items() if "spans" in effective} == wanted
    assert not any(causal.values())
    assert causal.keys() == images.keys()
    only_decode = policy([CAUSAL, IMAGES], "gemma4-12b", modes=["decode"])
    assert [fault.kind for fault in check_policy(only_decode)] == ["unprovable"]


CHAINS = {"topk": ["none", 1], "backend": "reference"}
TREES = {"topk": [">=2"], "backend": "reference"}


@pytest.mark.parametrize(
    ("rules", "sentence"),
    [
        ([CHAINS, TREES], "rule r1 takes trees of drafts, but requires of X no verify cell"),
        ([CHAINS, {**TREES, "topk": [2, 3]}, {"backend": "reference"}], "rule r1 takes trees of drafts, but requires"),
        ([{**TREES, "topk": ["none", ">=1"], **WHY}], "takes trees of drafts beside chains: they need a rule of their"),
        ([{**CHAINS, **WHY}, {"backend": "reference"}], "takes no masks of images and no trees of drafts"),
    ],
)
def test_trees_are_never_met_by_chains(rules: list[dict[str, Any]], sentence: str) -> None:
    (fault,) = [one for one in check_policy(policy(rules, "llama3-8b")) if one.kind == "unprovable"]
    assert sentence in fault.sentence


def test_a_rule_about_trees_is_met_by_verify_cells_with_trees_alone() -> None:
    found = policy([CHAINS, TREES], "llama3-8b", modes=["decode", "verify"])
    assert check_policy(found) == ()
    chains, trees = (
        {cell.mode: cell.effective for cell in found.required_cells("X", rule.name, rule.choice) if rule.choice}
        for rule in found.rules
    )
    assert (trees["verify"], trees["decode"]) == (("tree",), ())
    assert not any(chains.values())
    unproven = policy([CHAINS, {**TREES, **WHY}], "llama3-8b")
    assert check_policy(unproven) == ()
    assert not any(
        "tree" in cell.effective for cell in unproven.required_cells("X", "r1", Choice(prefill="a", decode="a"))
    )
    refusing = policy([CHAINS, {"topk": [">=2"], "refuse": "no trees"}], "llama3-8b")
    assert check_policy(refusing) == ()


def test_a_plan_says_whether_trees_are_drawn() -> None:
    found = policy([CHAINS, TREES], "llama3-8b", modes=["verify"])
    (cell,) = found.required_cells("X", "r1", Choice(prefill="a", decode="a"))
    gate = profile_named("gate").of(("llama3-8b",))
    assert undrawn([cell], gate, accelerated=False) == ()
    many = cell.model_copy(update={"effective_cases": 1000})
    assert undrawn([many], gate, accelerated=False) == (many,)


def test_a_plan_says_that_no_image_is_drawn() -> None:
    (cell,) = (
        one
        for one in policy([IMAGES], "gemma4-12b").required_cells("X", "r0", Choice(prefill="a", decode="a"))
        if "spans" in one.effective
    )
    gate = profile_named("gate").of(("gemma4-12b",))
    assert undrawn([cell], gate, accelerated=False) == ()
    many = cell.model_copy(update={"effective_cases": 100})
    assert undrawn([many], gate, accelerated=False) == (many,)


def test_a_plan_says_that_no_decode_shows_what_a_bidirectional_layer_sees_ahead() -> None:
    found = policy([{"backend": "reference"}], "embeddinggemma-300m", effective={"sliding": ["bidirectional"]})
    cells = found.required_cells("X", "r0", Choice(prefill="reference", decode="reference"))
    decode, extend = (next(one for one in cells if one.mode == mode and one.effective) for mode in ("decode", "extend"))
    gate = profile_named("gate").of(("embeddinggemma-300m",))
    assert undrawn([decode, extend], gate, accelerated=False) == (decode,)
    many = extend.model_copy(update={"effective_cases": 100})
    assert undrawn([many], gate, accelerated=False) == (many,)


def test_a_rule_says_why_it_stands_unproven_and_plan_and_verdict_repeat_it() -> None:
    found = policy([CAUSAL, {**IMAGES, **WHY}], "gemma4-12b")
    assert check_policy(found) == ()
    assert "not proven: rule r1 gives the masks of images reference" in "\n".join(plan(found, CPU).lines)
    refusing = policy([CAUSAL, {"mask": ["images"], "refuse": "no kernel"}], "gemma4-12b")
    assert check_policy(refusing) == ()


def test_an_unknown_feature_is_refused() -> None:
    for feature in ("images", "widnow"):
        with pytest.raises(InvalidInputError, match=f"is '{feature}'; allowed: .*window"):
            policy([CAUSAL], "gemma4-12b", effective={"sliding": ["window", feature]})


def test_a_backend_that_is_not_registered_cannot_run_anywhere() -> None:
    rules = [{"sm": ["9.x"], "backend": "fa3"}, {"backend": "flashinfer"}]
    found = policy(rules, "mistral-7b", backends=("fa3", "flashinfer"))
    text = "\n".join(plan(found, HOPPER, backends={"reference": None}).lines)
    assert "0 of 2 required cells can run on this platform" in text
    assert "2 blocked here: fa3 is unavailable: no backend of that name is registered" in text


FP8 = "bfloat16+float8_e4m3fn"


@pytest.mark.parametrize("profile", ["smoke", "gate"])
def test_the_plan_names_the_required_cells_that_the_profile_does_not_draw(profile: str) -> None:
    rows = {"modes": ["decode", "extend", "verify"], "dtypes": [FP8, "any"], "executed": 1}
    many = {**rows, "executed": 1000}
    few, all_of_it = (policy([{"backend": "reference"}], "gemma4-e2b", **one) for one in (rows, many))
    made = plan(few, CPU, profile=profile_named(profile))
    assert all(one.cell.dtypes == FP8 for one in made.here if one.undrawn)  # any is drawn
    made = plan(all_of_it, CPU, profile=profile_named(profile))
    assert len(made.here) == 12
    assert {one.undrawn for one in made.here} == {profile}
    assert f"12 not drawn by profile {profile}, so its run alone cannot meet them" in "\n".join(made.lines)


def test_a_model_that_the_profile_does_not_ask_of_is_not_drawn() -> None:
    found = policy([{"backend": "reference"}], "mistral-7b")
    assert {one.undrawn for one in plan(found, CPU, profile=profile_named("smoke")).here} == {"smoke"}
    assert {one.undrawn for one in plan(found, CPU, profile=profile_named("gate")).here} == {""}
    assert {one.undrawn for one in plan(found, CPU).here} == {""}


@pytest.mark.parametrize("topk", [["none", "1"], ["none", 1], ["none"]])
def test_a_tree_may_be_unset(topk: list[object]) -> None:
    rules = [{"topk": topk, "backend": "reference"}, {"backend": "triton"}]
    found = policy(rules, "llama3-8b", backends=("reference", "triton"))
    assert check_policy(found) == ()
    assert plan(found, CPU).resolutions[0].rule == "r0"


def test_deterministic_inference_is_a_condition() -> None:
    rules = [{"deterministic": ["on"], "backend": "reference"}, {"backend": "triton"}]
    found = policy(rules, "llama3-8b", backends=("reference", "triton"))
    assert check_policy(found) == ()
    answers = {(one.settings, one.backend) for one in plan(found, CPU).resolutions}
    assert answers == {("", "triton"), ("deterministic on", "reference")}


def test_the_shipped_policies_say_of_what_they_cannot_prove() -> None:
    shipped = load_policy("vllm-gemma4")
    assert {rule.name for rule in shipped.rules if rule.takes_images} == {
        "hopper-images",
        "hopper-images-fp8",
        "sm100-images",
    }
    assert all(rule.unproven for rule in shipped.rules if rule.takes_images)
