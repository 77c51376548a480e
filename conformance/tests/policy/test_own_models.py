"""Models of one's own in a policy: a path beside it, whose geometry is in the policy's digest."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from attnconf.cases.case import Case, Layer
from attnconf.cases.models import FREE_MODEL, credited_model, load_model
from attnconf.cases.request import Request
from attnconf.errors import InvalidInputError
from attnconf.gate.plans.machine_plan import plan
from attnconf.platforms import Platform
from attnconf.policy.check import check_policy
from attnconf.policy.policy import policy_digest, read_policy

if TYPE_CHECKING:
    from pathlib import Path

TEXT = """
schema = "attnconf.policy/1"
name = "own"
[provenance]
engine = "sglang"
version = "0.5.23"
file = "x.py"
[backends.reference]
[[rules]]
name = "all"
architectures = ["X"]
backend = "reference"
[[required]]
architectures = ["X"]
models = ["MODEL"]
layer_kinds = ["sliding", "full"]
modes = ["decode"]
"""
CONFIG = {"model_type": "llama", "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}


def write(folder: Path, model: str, config: dict[str, Any] | None = None, *, at: str = "") -> Path:
    """Write a policy that requires ``model``, and a config.json ``at`` a path from the policy."""
    place = folder / "policies"
    place.mkdir(exist_ok=True)
    if config is not None:
        target = place / (at or model)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(config))
    path = place / "p.toml"
    path.write_text(TEXT.replace("MODEL", model))
    return path


def test_a_path_is_read_from_the_policys_folder_whatever_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "../configs/own-a/config.json", {**CONFIG, "head_dim": 48})
    monkeypatch.chdir("/")
    policy = read_policy(path)
    assert check_policy(policy) == ()
    assert [cell.text for cell in policy.all_required] == ["reference own-a full decode"]
    assert "1 of 1 required cell can run" in "\n".join(plan(policy, Platform()).lines)
    assert load_model("own-a").layers[0].head_dim == 48


def test_the_digest_is_of_the_model_and_not_of_its_place(tmp_path: Path) -> None:
    first = policy_digest(read_policy(write(tmp_path, "../configs/own-b/config.json", {**CONFIG, "head_dim": 48})))
    moved = policy_digest(read_policy(write(tmp_path, "own-b/config.json", {**CONFIG, "head_dim": 48})))
    assert first == moved
    shipped = write(tmp_path, "elsewhere/llama3-8b/config.json", load_config("llama3-8b"))
    assert policy_digest(read_policy(shipped)) == policy_digest(read_policy(write(tmp_path, "llama3-8b")))


def load_config(name: str) -> dict[str, Any]:
    from attnconf_fixtures import ROOT

    data: dict[str, Any] = json.loads((ROOT / "models" / f"{name}.json").read_text())
    return data


def test_another_model_of_the_same_name_is_refused(tmp_path: Path) -> None:
    read_policy(write(tmp_path, "own-c/config.json", {**CONFIG, "head_dim": 48}))
    with pytest.raises(InvalidInputError, match="another model called 'own-c'; allowed: models of distinct names"):
        read_policy(write(tmp_path, "own-c/config.json", {**CONFIG, "head_dim": 64}))
    with pytest.raises(InvalidInputError, match="called 'llama3-8b'; allowed: a folder whose name"):
        read_policy(write(tmp_path, "llama3-8b/config.json", {**CONFIG, "head_dim": 48}))


def test_a_toy_with_its_name_proves_nothing(tmp_path: Path) -> None:
    read_policy(write(tmp_path, "own-d/config.json", {**CONFIG, "head_dim": 48}))
    layer = Layer(kind="full", num_qo_heads=4, num_kv_heads=2, head_dim=48, sm_scale=48**-0.5)
    case = Case(mode="decode", model="own-d", layers=(layer,), requests=(Request(prefix_len=3),))
    assert credited_model(case) == "own-d"
    toy = layer.model_copy(update={"head_dim": 16})
    assert credited_model(case.model_copy(update={"layers": (toy,)})) == FREE_MODEL


@pytest.mark.parametrize(
    ("model", "config", "sentence"),
    [
        ("../gone/config.json", None, "gone/config.json'; allowed: a path to a config.json"),
        ("own-e/config.json", {"model_type": "llama"}, "num_hidden_layers is missing"),
        ("own-e/config.json", {**CONFIG, "head_dim": 48, "kv_lora_rank": 4}, "kv_lora_rank is 4; allowed: none"),
        ("a name/config.json", {**CONFIG, "head_dim": 48}, "called 'a name'; allowed: a folder whose name"),
        ("unheard-of", None, "or paths of a config.json beside the policy, not 'unheard-of'"),
    ],
)
def test_what_is_no_model_is_one_sentence(
    tmp_path: Path, model: str, config: dict[str, Any] | None, sentence: str
) -> None:
    with pytest.raises(InvalidInputError) as caught:
        read_policy(write(tmp_path, model, config))
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_policy_does_not_hold_geometries_that_its_author_wrote(tmp_path: Path) -> None:
    path = write(tmp_path, "llama3-8b")
    path.write_text(path.read_text() + "[own_models.llama3-8b]\nname = 'x'\n")
    with pytest.raises(InvalidInputError, match="own_models is a table; allowed: nothing"):
        read_policy(path)
