"""An engine's repository whose last commit flips a default: a gate of one job, one cell and one case."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

from github_steps import Machine

from attnconf.case import Case, Layer, Paging, Request
from attnconf.models import load_model

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
"""
FLEET = """
schema = "attnconf.fleet/1"
[[runners]]
name = "cpu"
labels = ["ubuntu-24.04"]
"""
TINY = "--attnconf-profile=replay --attnconf-replay=case.json -p no:cacheprovider"
"""What makes a run of the suite one of the repository's only case."""


def make(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """Return a machine that has the repository checked out at its second commit; its first is the branch ``base``."""
    checkout = tmp_path_factory.mktemp("checkout")
    layer = load_model("llama3-8b").shard(8).layers[0]
    case = Case(
        model="llama3-8b@tp8",
        mode="decode",
        layers=(Layer.model_validate(layer.model_dump()),),
        requests=(Request(prefix_len=20), Request(prefix_len=5)),
        paging=Paging(page_size=8),
    )
    (checkout / "case.json").write_text(json.dumps(case.to_data()), encoding="utf-8")
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
