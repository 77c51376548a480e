"""An engine's repository whose last commit flips a default: a gate of one job and one cell."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

from attnconf.cases.case import Case, Layer, Paging
from attnconf.cases.models import load_model
from attnconf.cases.request import Request
from ci.tests.github_steps import Machine

if TYPE_CHECKING:
    import pytest

POLICY = """
schema = "attnconf.policy/1"
name = "toy"
provenance = { engine = "toy", version = "1", file = "toy.py" }
backends = { reference = {}, torch_sdpa = {} }
[[rules]]
name = "otherwise"
architectures = ["LlamaForCausalLM"]
backend = "reference"
[[required]]
architectures = ["LlamaForCausalLM"]
models = ["llama3-8b"]
layer_kinds = ["full"]
modes = ["decode"]
[[rules]]
name = "untouched"
architectures = ["Qwen2ForCausalLM"]
backend = "torch_sdpa"
[[required]]
architectures = ["Qwen2ForCausalLM"]
models = ["qwen2.5-7b"]
layer_kinds = ["full"]
modes = ["decode"]
"""
"""The change of the default concerns one of the two families."""
FLEET = """
schema = "attnconf.fleet/1"
[[runners]]
name = "cpu"
labels = ["ubuntu-24.04"]
"""
TINY = "--attnconf-profile=replay --attnconf-replay=cases -p no:cacheprovider"
"""What makes a run of the suite one of the repository's two cases."""


def make(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """Return a machine that has the repository checked out at its second commit; its first is the branch ``base``."""
    checkout = tmp_path_factory.mktemp("checkout")
    (checkout / "cases").mkdir()
    for model, shards in (("llama3-8b", 8), ("qwen2.5-7b", 4)):
        layer = load_model(model).shard(shards).layers[0]
        case = Case(
            model=f"{model}@tp{shards}",
            mode="decode",
            layers=(Layer.model_validate(layer.model_dump()),),
            requests=(Request(prefix_len=20), Request(prefix_len=5)),
            paging=Paging(page_size=8),
        )
        (checkout / "cases" / f"{model}.json").write_text(json.dumps(case.to_data()), encoding="utf-8")
    (checkout / "fleet.toml").write_text(FLEET, encoding="utf-8")
    git = ["git", "-C", str(checkout), "-c", "user.name=t", "-c", "user.email=t@t"]
    subprocess.run([*git, "init", "-q"], check=True)  # noqa: S603 - fixed arguments
    for default in ("torch_sdpa", "reference"):
        text = POLICY.replace('backend = "reference"', f'backend = "{default}"')
        (checkout / "policy.toml").write_text(text, encoding="utf-8")
        subprocess.run([*git, "add", "--all"], check=True)  # noqa: S603 - fixed arguments
        subprocess.run([*git, "commit", "-qm", default], check=True)  # noqa: S603 - fixed arguments
    for command in (["branch", "base", "HEAD~1"], ["remote", "add", "origin", "."]):
        subprocess.run([*git, *command], check=True)  # noqa: S603 - fixed arguments
    return Machine(checkout, tmp_path_factory.mktemp("runner"))
