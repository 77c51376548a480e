"""A small repository with a policy and a fleet, as a gated project has them: for tests of plans and verdicts."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

BEFORE = """
schema = "attnconf.policy/1"
name = "toy"
provenance = { engine = "toy", version = "1", file = "toy.py" }
backends = { triton = {}, trtllm_mha = { sm = ["10.x"], packages = { "flashinfer-python" = ">=0.6.10.post1" } } }

[[rules]]
name = "otherwise"
architectures = ["Gemma4ForCausalLM"]
backend = "triton"

[[required]]
architectures = ["Gemma4ForCausalLM"]
models = ["gemma4-e2b", "gemma4-12b"]
layer_kinds = ["sliding", "full", "sliding-shared", "full-shared"]
modes = ["decode", "extend"]
effective = { sliding = ["window"] }
"""
SM100 = """[[rules]]
name = "sm100"
architectures = ["Gemma4ForCausalLM"]
sm = ["10.x"]
backend = "trtllm_mha"

"""
AFTER = BEFORE.replace("[[rules]]\n", SM100 + "[[rules]]\n", 1)
"""On SM 10.x the default is another backend than before; twelve cells on each platform."""

FLEET = """
schema = "attnconf.fleet/1"
harmless = ["*.md"]
[[runners]]
name = "cpu"
labels = ["ubuntu-24.04"]
[[runners]]
name = "b200"
labels = ["self-hosted", "b200"]
sm = "10.0"
cuda = "13.0"
packages = { "flashinfer-python" = "0.6.13" }
[kernels]
triton = ["kernels/triton/*"]
trtllm_mha = ["kernels/trtllm/*"]
"""


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@t", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603 - no shell


def commit(folder: Path, **files: str) -> str:
    """Write ``files`` (``__`` is a slash, a last ``_`` a dot) and commit; return the commit."""
    for name, text in files.items():
        stem, _, ending = name.replace("__", "/").rpartition("_")
        path = folder / f"{stem}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    git(folder, "add", "--all")
    git(folder, "commit", "-qm", "change")
    return git(folder, "rev-parse", "HEAD")


def start(folder: Path) -> str:
    """Make the repository with triton as the default everywhere; return its first commit."""
    git(folder, "init", "-q")
    return commit(folder, policy_toml=BEFORE, fleet_toml=FLEET, kernels__triton__decode_py="1", other_py="1")
