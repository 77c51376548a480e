"""``attnconf kernels``: the table, what is unknown, and the page that is checked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from attnconf.cli import main as cli

PAGE = Path(__file__).parents[3] / "fixtures" / "evidence" / "KERNELS.md"
GEMMA4 = ("gemma4-e2b", "gemma4-e4b", "gemma4-12b", "gemma4-26b-a4b", "gemma4-31b")
ALL = [word for name in GEMMA4 for word in ("--model", name)]


def test_the_page_of_gemma_4_is_what_list_and_selector_say(capsys: pytest.CaptureFixture[str]) -> None:
    status = cli.main(["kernels", *ALL, "--flashinfer", "0.6.13", "-o", str(PAGE), "--check"])
    assert (status, capsys.readouterr().err) == (0, "")


def test_a_page_out_of_date_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "KERNELS.md"
    page.write_text(PAGE.read_text().replace("**none**", "`some`", 1))
    assert cli.main(["kernels", *ALL, "--flashinfer", "0.6.13", "-o", str(page), "--check"]) == 1
    assert "the same command without --check writes it anew" in capsys.readouterr().err


@pytest.mark.parametrize("sm", ["10.0", "10.3"])
def test_gemma4_12b_verifies_two_tokens_with_its_full_layers(sm: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["kernels", "--model", "gemma4-12b", "--sm", sm, "--flashinfer", "0.6.13", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["evidence"] == "listed"
    lines = data["models"]["gemma4-12b"]
    sixteen = [one for one in lines if one["layer_kind"] == "full" and one["dtypes"] == ["BF16"] * 3]
    found = {(one["mode"], one["q_len"], one["page_size"]) for one in sixteen if one["kernels"]}
    assert {q_len for mode, q_len, _ in found if mode == "verify"} == {2}
    assert {page_size for *_, page_size in found} == {16, 32, 64}
    lacking = next(one for one in sixteen if one["mode"] == "verify" and one["q_len"] == 6 and one["page_size"] == 64)
    assert lacking["missing"].startswith("qkvLayout=2, maskType=1, kernelType=3")
    windowed = next(one for one in lines if one["layer_kind"] == "sliding" and one["mode"] == "decode")
    by_hint = dict(windowed["by_hint"])
    assert "PagedKvCausal" in by_hint[400]
    assert "SlidingOrChunkedCausal" in by_hint[131_072]


def test_what_is_unknown_is_said_and_met_by_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["kernels", "--model", "gemma4-12b", "--flashinfer", "0.7.4"]) == 10
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("attnconf: unknown to attnconf: the kernel list f5008559 of flashinfer-python 0.7.4")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--flashinfer", "new"], "--flashinfer: 'new'; allowed: a release such as 0.6.13"),
        (["--sm", "blackwell"], "SM: compute capability is 'blackwell'"),
        (["--check"], "--check: without --output"),
        (["--json", "-o", "page.md"], "--output: beside --json"),
    ],
)
def test_bad_input_is_one_sentence(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["kernels", "--model", "gemma4-12b", *arguments]) == 2
    err = capsys.readouterr().err
    assert sentence in err
    assert err.count("\n") == 1


def test_a_plan_with_a_cell_that_no_kernel_is_listed_for_ends_with_10(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shipped = PAGE.parents[1] / "attnconf_fixtures" / "policies" / "sglang-gemma4.toml"
    policy = tmp_path / "fp8.toml"
    modes = 'modes = ["decode", "extend"]\n'
    policy.write_text(shipped.read_text().replace(modes, f'{modes}dtypes = ["bfloat16+float8_e4m3fn"]\n', 1))
    assert cli.main(["plan", "--policy", str(policy), "--sm", "10.0", "--flashinfer", "0.6.13"]) == 10
    out = capsys.readouterr().out
    assert "NOT MET: trtllm_mha gemma4-12b full extend bfloat16+float8_e4m3fn can be executed nowhere" in out
    assert "kernelType=0" in out
    assert "decode bfloat16+float8_e4m3fn can be executed nowhere" not in out
