"""Policies: the shipped one, resolution, judgement, refusals, and 500 mutated files."""

from __future__ import annotations

import random
import tomllib
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnconf.case import Case, Layer, Request
from attnconf.cells import Cell
from attnconf.conditions import Condition
from attnconf.errors import AttnconfError, InvalidInputError
from attnconf.platforms import Platform
from attnconf.policy import Policy, load_policy, policy_digest, shipped_policies
from attnconf.resolution import Resolution, UserChoice, resolve, resolve_all
from attnconf.schemas import schemas
from attnconf.verdict import Verdict, judge
from attnconf_fixtures import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from attnconf.policy import RequiredCell

POLICY = load_policy("sglang-gemma4")
SHIPPED = ROOT / "policies" / "sglang-gemma4.toml"
DIFFUSION = "DiffusionGemmaForBlockDiffusion"
GEMMA = "Gemma4ForConditionalGeneration"


def gpu(sm: tuple[int, int], cuda: str | None = "13.0", flashinfer: str | None = "0.6.13") -> Platform:
    packages = {} if flashinfer is None else {"flashinfer-python": flashinfer}
    return Platform(device="test", sm=sm, cuda=cuda, packages=packages)


CPU = Platform()


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
    resolution = resolve(POLICY, architecture, platform)
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
    resolution = resolve(POLICY, GEMMA, gpu((10, 0), flashinfer=version))
    assert resolution.backend == "trtllm_mha"
    assert bool(resolution.unmet_floors) is not met
    if not met:
        ((name, floor),) = resolution.unmet_floors
        expected = f"needs flashinfer-python >=0.6.10.post1, found {version or 'none'}"
        assert (name, floor.sentence) == ("trtllm_mha", expected)


@pytest.mark.parametrize(
    ("choice", "prefill", "decode", "by"),
    [
        ("fa3", "fa3", "fa3", "user"),
        (UserChoice(prefill="fa3"), "fa3", "trtllm_mha", "both"),
        (UserChoice(decode="fa3"), "trtllm_mha", "fa3", "both"),
        (UserChoice(prefill="a", decode="b"), "a", "b", "user"),
        (UserChoice(attention="a", decode="b"), "a", "b", "user"),
        (UserChoice(), "trtllm_mha", "trtllm_mha", "rule"),
        (None, "trtllm_mha", "trtllm_mha", "rule"),
    ],
)
def test_the_user_s_choice_is_respected(choice: UserChoice | str | None, prefill: str, decode: str, by: str) -> None:
    resolution = resolve(POLICY, GEMMA, gpu((10, 0)), choice)
    assert (resolution.prefill, resolution.decode, resolution.by) == (prefill, decode, by)
    assert (resolution.rule, resolution.default) == ("sm100", "trtllm_mha")
    if by == "user":
        assert "the user's choice" in resolution.sentence
    assert {cell.backend for cell in resolution.required if cell.mode == "decode"} == {decode}
    assert {cell.backend for cell in resolution.required if cell.mode == "extend"} == {prefill}


def test_a_chosen_backend_is_held_to_its_needs() -> None:
    resolution = resolve(POLICY, GEMMA, gpu((9, 0)), "trtllm_mha")
    assert [floor.subject for _, floor in resolution.unmet_floors] == ["SM"]
    assert resolve(POLICY, GEMMA, gpu((9, 0)), "fa3").unmet_floors == ()


def test_an_unknown_architecture_is_a_stated_refusal_unless_the_user_chose() -> None:
    resolution = resolve(POLICY, "LlamaForCausalLM", CPU)
    assert (resolution.by, resolution.backend, resolution.required) == ("refused", "", ())
    assert "no rule of sglang-gemma4 names it" in resolution.sentence
    assert resolve(POLICY, "LlamaForCausalLM", CPU, UserChoice(decode="a")).by == "refused"
    assert resolve(POLICY, "LlamaForCausalLM", CPU, "a").backend == "a"


names = st.sampled_from(["a", "b", "c"])
conditions = st.fixed_dictionaries(
    {},
    optional={
        "sm": st.lists(st.sampled_from(["9.0", "10.x", "12.1"]), max_size=2),
        "cuda": st.sampled_from([">=12.8", "<13", "==12.*"]),
        "packages": st.just({"flashinfer-python": ">=0.6.10.post1"}),
    },
)
policies = st.fixed_dictionaries(
    {
        "schema": st.just("attnconf.policy/1"),
        "name": st.just("p"),
        "provenance": st.just({"engine": "e", "version": "1", "file": "f"}),
        "backends": st.fixed_dictionaries(dict.fromkeys("abc", conditions)),
        "rules": st.lists(
            st.tuples(
                st.fixed_dictionaries({"architectures": st.lists(names, min_size=1), "backend": names}), conditions
            ).map(lambda pair: pair[0] | pair[1]),
            min_size=1,
            max_size=5,
        ).map(lambda rules: [{"name": f"r{index}", **rule} for index, rule in enumerate(rules)]),
    }
)
platforms = st.builds(
    Platform,
    sm=st.none() | st.tuples(st.integers(7, 13), st.integers(0, 9)),
    cuda=st.none() | st.sampled_from(["12.4", "12.8", "13.0", "nonsense"]),
    packages=st.dictionaries(st.sampled_from(["flashinfer-python", "torch"]), st.sampled_from(["0.6.10", "1.0", "?"])),
)
choices = st.none() | names | st.builds(UserChoice, prefill=st.none() | names, decode=st.none() | names)


def has_unreachable_rule(rules: list[dict[str, Any]], architecture: str) -> bool:
    mine = [rule for rule in rules if architecture in rule["architectures"]]
    return any(not any(rule.get(key) for key in ("sm", "cuda", "packages")) for rule in mine[:-1])


@given(policies, names, platforms, choices)
def test_resolution_is_total(
    data: dict[str, Any], architecture: str, platform: Platform, choice: UserChoice | str | None
) -> None:
    try:
        policy = Policy.from_data(data, "test")
    except InvalidInputError:
        # the only way in which these policies can be wrong
        assert any(has_unreachable_rule(data["rules"], name) for name in "abc")
        return
    resolution = resolve(policy, architecture, platform, choice)
    assert (resolution.prefill is None) == (resolution.decode is None) == (resolution.by == "refused")
    assert bool(resolution.refusal) == (resolution.by == "refused")
    assert resolution.sentence
    holding = [rule for rule in policy.rules if architecture in rule.architectures and rule.holds(platform)]
    assert resolution.rule == (holding[0].name if holding else None)
    assert Resolution.from_data(resolution.model_dump(mode="json"), "test") == resolution
    judge(policy, [resolution], [], platform, {})


def cell(wanted: RequiredCell, **fields: Any) -> Cell:  # noqa: ANN401 - any field
    counts = ["executed", "passed", "failed", "unsupported", "refused", "crashed", "oom", "not_run", "contract_only"]
    data = {
        **dict.fromkeys(counts, 0),
        "backend": wanted.backend,
        "model": f"{wanted.model}@tp4",
        "layer_kind": wanted.layer_kind,
        "mode": wanted.mode,
        "q_dtype": "bfloat16",
        "kv_dtype": "bfloat16",
        "features": sorted(wanted.effective),
        "executed": 1,
        "passed": 1,
        "worst_units": 0.5,
        "reasons": {},
        **fields,
    }
    return Cell.from_data(data, "test")


def wanted_on(platform: Platform) -> list[RequiredCell]:
    return list(dict.fromkeys(one for resolution in resolve_all(POLICY, platform) for one in resolution.required))


def verdict(cells: list[Cell], platform: Platform = CPU, **backends: str | None) -> Verdict:
    return judge(
        POLICY, resolve_all(POLICY, platform), cells, platform, {"triton": None, "trtllm_mha": None, **backends}
    )


def test_full_evidence_meets_the_policy_and_names_what_others_owe() -> None:
    judged = verdict([cell(wanted) for wanted in wanted_on(CPU)])
    assert judged.is_met
    (other,) = judged.elsewhere
    assert other.sentence.startswith("trtllm_mha needs a receipt from SM 10.x with CUDA >=12.8: 28 required cells for")
    assert other.architectures == tuple(name for name in POLICY.architectures if name != DIFFUSION)


def test_shared_kinds_are_asked_only_of_models_that_have_them() -> None:
    shared = {wanted.model for wanted in wanted_on(CPU) if wanted.layer_kind.endswith("-shared")}
    assert shared == {"gemma4-e2b", "gemma4-e4b"}
    assert len(wanted_on(CPU)) == 28


@pytest.mark.parametrize(
    ("change", "lack"),
    [
        ({"executed": 0, "passed": 0}, "0 layers passed, 1 needed"),
        ({"backend": "triton[contract]"}, "1 by contract only, which proves no kernel"),
        ({"passed": 0, "contract_only": 1}, "1 by contract only, which proves no kernel"),
        ({"executed": 2, "failed": 1}, "1 of its layers failed"),
        ({"oom": 1}, "1 of its layers failed"),
        ({"crashed": 2}, "2 of its layers failed"),
        ({"features": ["gqa"]}, "none in which window mattered"),
        ({"executed": 0, "passed": 0, "not_run": 3, "reasons": {"not_run: no GPU": 3}}, "(not_run: no GPU)"),
        ({"model": "gemma4-31b"}, "(no case asked)"),
        ({"backend": "reference"}, "(no case asked)"),
    ],
)
def test_a_cell_without_proof_is_unmet(change: dict[str, Any], lack: str) -> None:
    wanted = wanted_on(CPU)
    victim = next(one for one in wanted if (one.model, one.layer_kind) == ("gemma4-12b", "sliding"))
    cells = [cell(one) for one in wanted if one != victim] + [cell(victim, **change)]
    (unmet,) = verdict(cells).unmet
    assert (unmet.kind, unmet.backend, unmet.cell) == ("no_evidence", "triton", victim)
    assert unmet.sentence.startswith("triton gemma4-12b sliding decode is not proven: ")
    assert lack in unmet.sentence


def test_no_cells_leave_everything_unmet() -> None:
    assert len(verdict([]).unmet) == 28


def test_an_unavailable_default_is_unmet() -> None:
    cells = [cell(wanted) for wanted in wanted_on(CPU)]
    (unmet,) = verdict(cells, triton="no module triton").unmet
    assert (unmet.kind, unmet.sentence) == (
        "unavailable",
        "triton is the default here but unavailable: no module triton",
    )
    (unmet,) = judge(POLICY, resolve_all(POLICY, CPU), cells, CPU, {"reference": None}).unmet
    assert unmet.sentence.endswith("no backend of that name is registered, only reference")


def test_a_default_below_its_floor_is_unmet() -> None:
    platform = gpu((10, 0), flashinfer="0.6.9")
    (unmet,) = verdict([cell(wanted) for wanted in wanted_on(platform)], platform).unmet
    assert unmet.kind == "below_floor"
    assert unmet.sentence == "trtllm_mha needs flashinfer-python >=0.6.10.post1, found 0.6.9"


def test_nothing_proves_anything_for_a_simulated_platform() -> None:
    platform = gpu((10, 0)).model_copy(update={"simulated": True})
    judged = verdict([cell(wanted) for wanted in wanted_on(platform)], platform, trtllm_mha="no GPU")
    assert [unmet.kind for unmet in judged.unmet] == ["no_evidence", "no_evidence"]
    assert any(unmet.sentence.startswith("trtllm_mha needs a receipt from SM 10.0: none") for unmet in judged.unmet)


def test_a_refusal_is_unmet() -> None:
    judged = judge(POLICY, [resolve(POLICY, "Other", CPU)], [], CPU, {})
    assert [unmet.kind for unmet in judged.unmet] == ["refused"]


TEXT = SHIPPED.read_text()
ALWAYS = '[[rules]]\nname = "a"\narchitectures = ["Gemma4ForCausalLM"]\nbackend = "triton"\n'


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('schema = "attnconf.policy/1"', "", "schema is"),
        ('schema = "attnconf.policy/1"', 'schema = "attnconf.policy/2"', "schema is 'attnconf.policy/2'"),
        ('name = "sglang-gemma4"', "name = 3", "name is 3"),
        ("[backends.triton]", "", "a backend of the table backends, not triton"),
        ('name = "otherwise"', 'name = "sm100"', "two are called sm100"),
        ('sm = ["10.x"]  # the engine', 'sm = ["10"]  # the engine', "rules.1.sm.0 is '10'"),
        ('cuda = ">=12.8"\nbackend', 'cuda = "12.8 or so"\nbackend', "rules.1.cuda is '12.8 or so'"),
        ('cuda = ">=12.8"\nbackend', 'cuda = ""\nbackend', "rules.1.cuda is ''"),
        ('"gemma4-31b"]', '"gemma5"]', "not 'gemma5'"),
        ('["decode", "extend"]\nexecuted = 1\n', '["decode"]\nexecuted = 0\n', "required.0.executed is 0"),
        ('["decode", "extend"]\nexecuted = 1\n', '["prefill"]\n', "required.0.modes.0 is 'prefill'"),
        ('architectures = ["DiffusionGemmaForBlockDiffusion"]\nmodels', 'architectures = ["X"]\nmodels', "not X"),
        ('architectures = ["DiffusionGemmaForBlockDiffusion"]\nback', "architectures = []\nback", "rules.0"),
        ("[[rules]]\n", ALWAYS + "[[rules]]\n", "rule sm100 is never reached for Gemma4ForCausalLM: a always holds"),
        ("[[rules]]\n", "[[rules]]\nexpression = '1 + 1'\n", "rules.0.expression is '1 + 1'"),
        ("[provenance]", "[provenance", "at line"),
    ],
)  # fmt: skip
def test_a_wrong_policy_is_one_sentence(old: str, new: str, message: str, tmp_path: Path) -> None:
    assert old in TEXT
    path = tmp_path / "policy.toml"
    path.write_text(TEXT.replace(old, new, 1))
    with pytest.raises(InvalidInputError) as caught:
        load_policy(str(path))
    assert str(path) in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "nothing", "\0.toml", "no/such.toml", "x" * 5000 + ".toml"])
def test_a_policy_that_is_not_there(name: str) -> None:
    with pytest.raises(InvalidInputError):
        load_policy(name)


def test_an_unknown_policy_lists_the_known_ones() -> None:
    assert shipped_policies() == ("sglang-gemma4",)
    with pytest.raises(
        InvalidInputError, match=r"policy: 'vllm'; allowed: a path to a .toml file, or one of sglang-gemma4"
    ):
        load_policy("vllm")


def test_the_digest_is_of_the_content(tmp_path: Path) -> None:
    path = tmp_path / "copy.toml"
    path.write_text("# a comment\n" + TEXT.replace("executed = 1", ""))
    assert policy_digest(load_policy(str(path))) == policy_digest(POLICY)
    path.write_text(TEXT.replace(">=12.8", ">=12.9", 1))
    assert policy_digest(load_policy(str(path))) != policy_digest(POLICY)


@pytest.mark.parametrize(
    ("condition", "text"),
    [({}, "any platform"), ({"sm": ["9.0", "12.x"]}, "SM 9.0 or 12.x"), ({"packages": {"torch": ">2"}}, "torch >2")],
)
def test_conditions_in_words(condition: dict[str, Any], text: str) -> None:
    assert Condition.from_data(condition, "test").text == text


def test_package_names_are_compared_as_pip_does() -> None:
    condition = Condition(packages={"FlashInfer_Python": ">=0.6"})
    assert condition.holds(gpu((9, 0)))


def test_the_shipped_schemas_are_current() -> None:
    folder = ROOT / "schema"
    shipped = {path.name: path.read_text() for path in folder.glob("*.json")}
    assert {name: shipped.get(name) for name in schemas()} == schemas(), "run attnconf.schemas.write_schemas"


def test_files_are_valid_under_their_schemas() -> None:
    layer = Layer(kind="full", num_qo_heads=2, num_kv_heads=1, head_dim=8, sm_scale=1.0)
    case = Case(mode="decode", layers=(layer,), requests=(Request(prefix_len=3),))
    jsonschema.validate(case.to_data(), Case.model_json_schema(by_alias=True))
    jsonschema.validate(tomllib.loads(TEXT), Policy.model_json_schema(by_alias=True))


JUNK = [
    "3",
    "-1",
    "true",
    "nan",
    "1e400",
    '""',
    '"x"',
    "[]",
    "{}",
    "[[1]]",
    "1979-05-27",
    '">=1"',
    '["10.x"]',
    "9" * 5000,
]


def mutate(text: str, rng: random.Random) -> str:
    """Change one random line of a TOML file: drop, repeat, move, rename, replace its value by junk, or cut the text."""
    lines = text.splitlines()
    at = rng.randrange(len(lines))
    line = lines[at]
    match rng.randrange(6):
        case 0:
            del lines[at]
        case 1:
            lines.insert(rng.randrange(len(lines)), line)
        case 2:
            lines.insert(rng.randrange(len(lines) - 1), lines.pop(at))
        case 3 if "=" in line:
            lines[at] = f"{line.split('=')[0]}= {rng.choice(JUNK)}"
        case 4:
            lines[at] = line.replace("e", rng.choice(["", "a", '"', "[", "\\u00e9"]), 1)
        case _:
            text = "\n".join(lines)
            return text[: rng.randrange(1, len(text))] if rng.random() < 0.2 else text
    return "\n".join(lines) or "x"


def test_500_mutated_policies_never_give_a_traceback(tmp_path: Path) -> None:
    rng = random.Random(20261101)  # noqa: S311 - the same files in every run
    path = tmp_path / "fuzzed.toml"
    good = 0
    for _ in range(500):
        text = TEXT
        for _ in range(rng.randint(1, 4)):
            text = mutate(text, rng)
        path.write_text(text)
        try:
            policy = load_policy(str(path))
        except AttnconfError as error:
            sentence = str(error)
        else:
            sentence = ""
            good += 1
            for platform in (CPU, gpu((10, 0))):
                judge(policy, resolve_all(policy, platform), [], platform, {})
        assert "\n" not in sentence
        sentence.encode()
    assert 50 < good < 450
