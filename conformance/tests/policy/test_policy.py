"""Policy files: the shipped one, and one sentence for whatever is wrong with another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from attnconf.errors import InvalidInputError
from attnconf.policy.policy import load_policy, policy_digest, shipped_policies
from attnconf_fixtures import ROOT

if TYPE_CHECKING:
    from pathlib import Path

POLICY = load_policy("sglang-gemma4")
SHIPPED = ROOT / "policies" / "sglang-gemma4.toml"
TEXT = SHIPPED.read_text()
WAIVER = """[[waivers]]
models = ["gemma4-e2b"]
issue = "a/b#1"
owner = 'me'
expires = 2027-01-01
"""


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
        ('backend = "triton"\n\n[[rules]]', 'prefill = "triton"\n\n[[rules]]', "or refuse, not prefill"),
        ('backend = "triton"\n\n[[rules]]', 'backend = "triton"\nrefuse = "no"\n\n[[rules]]', "not backend and refuse"),
        ('backend = "triton"\n\n[[rules]]', "\n\n[[rules]]", "or refuse, not none of them"),
        ('name = "trtllm-tree"', 'name = "trtllm-hardware"', "two are called trtllm-hardware"),
        ('reason = "it verifies', 'because = "it verifies', "refusals.5."),
        ('topk = [">=2"]', 'topk = ["two"]', "refusals.5.topk.0 is 'two'; allowed: none, a whole number from 0 to 99"),
        ('rule = "sm100"', 'rule = "sm90"', "claims: a rule of this policy, not sm90"),
        ('over = "triton"', 'over = "trtllm_mha"', "claims: over a backend that rule sm100 does not choose itself"),
        ('"single run"', '"single run"\nunproven = "fail"', 'unproven = "fail" needs evidence = "paired"'),
        ('"single run"', '"paired"', "needs a field, such as output_throughput"),
        ('"end to end"', '"kernel"\nfield = "mean_ttft_ms"', 'field belongs to measure = "end to end"'),
        ("at_most = 22", "at_most = 12", "at_most from at_least = 13 on, not 12"),
        ('modes = ["decode", "extend"]\nexecuted', 'rules = ["sm1"]\nmodes = ["decode"]\nexecuted', "not sm1"),
        ("[[claims]]", '[[waivers]]\nmodels = ["gemma4-e2b"]\n[[claims]]', "waivers.0.issue"),
        ("[[claims]]", WAIVER.replace("a/b#1", "later") + "[[claims]]", "waivers.0.issue is 'later'"),
        ("[[claims]]", WAIVER.replace("2027-01-01", "'soon'") + "[[claims]]", "waivers.0.expires is 'soon'"),
        ("[[claims]]", WAIVER.replace("owner = 'me'", "owner = ' '") + "[[claims]]", "waivers.0.owner is ' '"),
        ("[[claims]]", WAIVER.replace('models = ["gemma4-e2b"]', "") + "[[claims]]", "not of everything"),
        ("[[rules]]\n", "[[rules]]\nexpression = '1 + 1'\n", "rules.0.expression is '1 + 1'"),
        ('["window"', '["widnow"', "required.0.effective.sliding.0 is 'widnow'; allowed: Input should be "),
        ('["window"', '["lse"', "required.0.effective.sliding.0 is 'lse'; allowed: "),
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
    assert shipped_policies() == ("sglang-gemma4", "vllm-gemma4")
    with pytest.raises(
        InvalidInputError,
        match=r"policy: 'vllm'; allowed: a path to a .toml file, or one of sglang-gemma4, vllm-gemma4",
    ):
        load_policy("vllm")


def test_the_digest_is_of_the_content(tmp_path: Path) -> None:
    path = tmp_path / "copy.toml"
    path.write_text("# a comment\n" + TEXT.replace("executed = 1", ""))
    assert policy_digest(load_policy(str(path))) == policy_digest(POLICY)
    path.write_text(TEXT.replace(">=12.8", ">=12.9", 1))
    assert policy_digest(load_policy(str(path))) != policy_digest(POLICY)
